"""Write small encoders with random weights, PEFT adapters for them, and what transformers and PEFT
compute with them, into the folder of this file.

usage: make_tiny.py    (needs torch, transformers, peft, tokenizers, safetensors)
"""
import json, shutil
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (AutoModel, AutoModelForSequenceClassification, BertConfig,
                          BertForSequenceClassification, XLMRobertaConfig,
                          XLMRobertaForSequenceClassification)

HERE = Path(__file__).parent
MAX = 24
TEXTS = [
    "A batch is formed when a replica is free.",
    "Wie spät ist es?",
    "a",
    "",
    "Backpressure means that a full queue says so, and that nobody waits for an answer that cannot come in time.",
]
PAIRS = [
    ["what is a batch", "A batch is formed when a replica is free."],
    ["what is a batch", "Rain is expected in the north by the evening."],
    ["who waits", TEXTS[4]],
    ["", "no question"],
    ["A question that is much longer than what the model can read, so that nothing at all would be left for the passage behind it", "short"],
]


def wordpiece():
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.train_from_iterator(TEXTS + [b for _, b in PAIRS], trainers.WordPieceTrainer(
        vocab_size=160, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False))
    tok.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tok


def unigram():
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.NFKC()
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    tok.decoder = decoders.Metaspace()
    tok.train_from_iterator(TEXTS + [b for _, b in PAIRS], trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return tok


def encode(tok, first, second=None):
    if second is None:
        tok.enable_truncation(MAX)
        return tok.encode(first)
    try:
        tok.enable_truncation(MAX, strategy="only_second")
        return tok.encode(first, second)
    except Exception:  # the first text alone is too long
        tok.enable_truncation(MAX, strategy="longest_first")
        return tok.encode(first, second)


def inputs(encoding):
    return {"input_ids": torch.tensor([encoding.ids]), "token_type_ids": torch.tensor([encoding.type_ids]),
            "attention_mask": torch.ones(1, len(encoding.ids), dtype=torch.long)}


@torch.no_grad()
def embed(model, tok):
    out = []
    for text in TEXTS:
        e = encode(tok, text)
        h = model(**inputs(e)).last_hidden_state[0].mean(0)
        out.append({"text": text, "tokens": e.ids, "vector": [round(x, 6) for x in torch.nn.functional.normalize(h, dim=0).tolist()]})
    return out


@torch.no_grad()
def score(model, tok):
    out = []
    for first, second in PAIRS:
        e = encode(tok, first, second)
        out.append({"query": first, "passage": second, "tokens": e.ids, "types": e.type_ids,
                    "score": round(model(**inputs(e)).logits.item(), 5)})
    return out


def randomise(model, std):
    for name, p in model.named_parameters():
        if p.requires_grad and ("lora_B" in name or "classifier" in name):
            torch.nn.init.normal_(p, std=std)


def write(name, model, tok):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    tok.no_truncation()
    tok.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": MAX}))
    return folder


def adapter(base, name, config, make, dtype=torch.float32):
    """Saves a random adapter and gives the model with it, loaded again from what was saved."""
    folder = HERE / "adapters" / name
    shutil.rmtree(folder, ignore_errors=True)
    model = get_peft_model(make(base), LoraConfig(lora_dropout=0.0, **config))
    randomise(model, 0.2)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_model.safetensors"
    save_file({k: v.to(dtype) for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = base.name
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=1, sort_keys=True))
    return PeftModel.from_pretrained(make(base), folder).eval()


def classifier(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder).eval()


def encoder(folder):
    return AutoModel.from_pretrained(folder).eval()


torch.manual_seed(5)
wp, uni = wordpiece(), unigram()
sizes = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
             initializer_range=0.3, num_labels=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
bert = write("tiny-bert", BertForSequenceClassification(BertConfig(
    vocab_size=wp.get_vocab_size(), max_position_embeddings=32, hidden_act="gelu_new", pad_token_id=0, **sizes)).eval(), wp)
xlmr = write("tiny-xlm-roberta", XLMRobertaForSequenceClassification(XLMRobertaConfig(
    vocab_size=uni.get_vocab_size(), max_position_embeddings=34, type_vocab_size=1, pad_token_id=1,
    layer_norm_eps=1e-5, **sizes)).eval(), uni)

cls = dict(task_type="SEQ_CLS")
out = {
    "source": "transformers + PEFT, float32, on the checkpoints beside this file; make_tiny.py made it",
    "max_tokens": MAX,
    "models": {
        "tiny-bert": {"embed": embed(encoder(bert), wp), "rerank": score(classifier(bert), wp)},
        "tiny-xlm-roberta": {"embed": embed(encoder(xlmr), uni), "rerank": score(classifier(xlmr), uni)},
    },
    "adapters": {
        # Ranks and scales by pattern, rank-stabilised, in bf16, with a new classifier.
        "patterns": {"model": "tiny-bert", "rerank": score(adapter(bert, "patterns", dict(
            r=4, lora_alpha=6, use_rslora=True, target_modules=["query", "value", "intermediate.dense"],
            rank_pattern={"layer.1.attention.self.value": 2}, alpha_pattern={"intermediate.dense": 3},
            modules_to_save=["classifier"], **cls), classifier, torch.bfloat16), wp)},
        # A pattern of modules, in f16, over the encoder alone.
        "regex": {"model": "tiny-bert", "embed": embed(adapter(bert, "regex", dict(
            r=4, lora_alpha=8, target_modules=r".*\.(key|output\.dense)", task_type="FEATURE_EXTRACTION"),
            encoder, torch.float16), wp)},
        # A head of two layers, brought along whole.
        "head": {"model": "tiny-xlm-roberta", "rerank": score(adapter(xlmr, "head", dict(
            r=2, lora_alpha=4, target_modules=["query", "key", "value"],
            modules_to_save=["classifier"], **cls), classifier), uni)},
    },
}
(HERE / "tiny.json").write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")
