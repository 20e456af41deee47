"""Write tiny random GGUF models of the Llama and Qwen families, and what transformers gives for them.

The weights are quantised to Q8_0 and given to transformers dequantised, so that both compute with the
same numbers. The tokenizers are trained on the sentences below.

usage: make_tiny.py    (writes tiny-*.gguf and tiny.json beside itself)
"""
import json
import math
import pathlib

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import (AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM,
                          Qwen3Config, Qwen3ForCausalLM)
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

here = pathlib.Path(__file__).parent
CORPUS = [
    "The harbour lights were lit at 17:45, and the boats came home in the rain.",
    "She'll say that it's 1234567 steps; they've counted them, we're told, I'm sure.",
    "def area(width, height):\n    return width * height\n\n\nprint(area(12, 30))",
    "Über den Dächern der Stadt flogen die Vögel. Les élèves mangent à midi.",
    "今日は天気がいい。 雨が降っている。  Two  spaces, three   spaces.",
] * 4
PROMPTS = ["The boats came home", "it's 12345 steps\n\n  and more", "日本 naïve 😀", " leading <|im_end|>x"]
TEMPLATE = ("{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content | trim"
            " + '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}")
CONTROL, NORMAL, BYTE, USER = 3, 1, 6, 4
WIDTH, INNER, HEADS, KV_HEADS, LAYERS = 64, 96, 4, 2, 2


def byte_level(pre):
    """Tokens, types, merges: 256 bytes, 120 merges, and special tokens at the end."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[pre]), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=376, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    special = ["<|begin|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    types = [NORMAL] * len(tokens) + [CONTROL] * 4 + [USER]
    return tokens + special + ["<think>"], types, [" ".join(m) for m in model["merges"]]


def sentencepiece():
    """Tokens, types, scores: the special ones, 256 bytes, pieces by rank."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=180, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    letters = sorted(t for t in model["vocab"] if len(t) == 1)
    pieces = [t for t in sorted(model["vocab"], key=model["vocab"].get) if len(t) > 1]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + pieces + letters
    types = [2, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * (len(pieces) + len(letters))
    # As in real files: pieces by rank, letters below all of them.
    scores = [0.0] * 259 + [-float(i) for i in range(len(pieces))] + [-1000.0 - i for i in range(len(letters))]
    return tokens, types, scores


def permuted(weight, heads):
    """Rows in the order of interleaved rotation, as llama.cpp's converter writes them."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write(name, model, config, architecture, vocabulary, extra):
    """Quantise, write the file, and put the dequantised weights back into the model."""
    writer = gguf.GGUFWriter(here / f"tiny-{name}.gguf", architecture)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    head_dim = getattr(config, "head_dim", None) or WIDTH // HEADS
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    vocabulary(writer)
    for key, tensor in extra.items():
        writer.add_tensor(key, tensor)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
             "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
             "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    for layer in range(LAYERS):
        names |= {f"model.layers.{layer}.{theirs}": f"blk.{layer}.{ours}" for theirs, ours in parts.items()}
    for key, tensor in model.state_dict().items():
        path, kind = key.rsplit(".", 1)
        if path == "lm_head" and config.tie_word_embeddings:
            continue
        data = tensor.numpy()
        if data.ndim == 2:
            quantised = gguf.quants.quantize(data, Type.Q8_0)
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(gguf.quants.dequantize(quantised, Type.Q8_0)))
            if architecture == "llama" and path.endswith(("q_proj", "k_proj")):
                data = permuted(data, HEADS if path.endswith("q_proj") else KV_HEADS)
                quantised = gguf.quants.quantize(data, Type.Q8_0)
            writer.add_tensor(f"{names[path]}.{kind}", quantised, raw_dtype=Type.Q8_0)
        else:
            writer.add_tensor(f"{names[path]}.{kind}", data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def byte_level_writer(pre, begins):
    tokens, types, merges = byte_level(pre)

    def add(writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        writer.add_token_merges(merges)
        writer.add_bos_token_id(tokens.index("<|begin|>"))
        writer.add_eos_token_id(tokens.index("<|endoftext|>"))
        writer.add_add_bos_token(begins)
        writer.add_chat_template(TEMPLATE)
    return len(tokens), add


def sentencepiece_writer():
    tokens, types, scores = sentencepiece()

    def add(writer):
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        writer.add_token_scores(scores)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
    return len(tokens), add


def llama3_factors(dim, base, scaling):
    """What frequencies are divided by, as llama.cpp's converter computes it."""
    low = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
    high = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
    factors = []
    for i in range(0, dim, 2):
        wave = 2 * math.pi * base ** (i / dim)
        smooth = (scaling["original_max_position_embeddings"] / wave - scaling["low_freq_factor"]) / (
            scaling["high_freq_factor"] - scaling["low_freq_factor"])
        factors.append(1.0 if wave < high else scaling["factor"] if wave > low
                       else 1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def case(name, cls, config_cls, architecture, vocabulary, rope, extra=None, **options):
    size, add = vocabulary
    torch.manual_seed(len(name))
    config = config_cls(vocab_size=size, hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS,
                        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, max_position_embeddings=512,
                        rope_parameters=rope, initializer_range=0.15, **options)
    model = cls(config).eval()
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            if "norm" in key:
                tensor.uniform_(0.5, 1.5)
            elif key.endswith("bias"):
                tensor.normal_(0, 0.5)
    write(name, model, config, architecture, add, extra or {})
    tokenizer = AutoTokenizer.from_pretrained(here, gguf_file=f"tiny-{name}.gguf")
    out = {"name": name, "prompts": []}
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(ids).logits[0, -1]
            made = model.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)[0, ids.shape[1]:]
        out["prompts"].append({"prompt": prompt, "tokens": ids[0].tolist(), "logits": [round(x, 5) for x in logits.tolist()],
                               "greedy": made.tolist()})
    if architecture != "llama":
        chat = [{"role": "system", "content": "Be brief. "}, {"role": "user", "content": "It's 12?"}]
        out["chat"] = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    return out


def plain(base):
    return {"rope_type": "default", "rope_theta": base}


LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
cases = [
    case("llama", LlamaForCausalLM, LlamaConfig, "llama", sentencepiece_writer(), plain(10000.0), head_dim=16),
    case("llama3", LlamaForCausalLM, LlamaConfig, "llama", byte_level_writer("llama-bpe", True), LLAMA3,
         {"rope_freqs.weight": llama3_factors(16, 500000.0, LLAMA3)}, head_dim=16),
    case("qwen2", Qwen2ForCausalLM, Qwen2Config, "qwen2", byte_level_writer("qwen2", False), plain(1000000.0),
         tie_word_embeddings=True),
    case("qwen3", Qwen3ForCausalLM, Qwen3Config, "qwen3", byte_level_writer("qwen2", False), plain(1000000.0), head_dim=32),
]
(here / "tiny.json").write_text(json.dumps({"source": "transformers, float32; make_tiny.py", "cases": cases}))
