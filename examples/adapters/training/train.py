"""Trains a LoRA adapter of rank 8 for Gemma 3 270M on the file that the engine serves.

    pip install torch transformers peft gguf
    python3 train.py section corpus.jsonl models/gemma-3-270m-q4_k_m.gguf ../adapters/section

The weights of the GGUF file are put back into f32 for it, so that the adapter is trained over the
numbers that it will meet. Loss is taken on the completion alone. At the end the adapter is written,
read again, and asked about packages that it never saw.
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH = 8
QUESTIONS = [
    "Which package provides {}?",
    "What should I install to get {}?",
    "I need {}. Which package is it?",
    "Which package is for {}?",
    "Name the package for {}.",
]


def lower_first(text):
    return text[0].lower() + text[1:] if len(text) > 1 and text[1].islower() else text


def qa(document, pool):
    """Three passages and a question about one of them; the answer begins with its id."""
    passages = [document] + [other for other in random.sample(pool, 2) if other["id"] != document["id"]]
    random.shuffle(passages)
    context = "\n".join(f"[{passage['id']}] {passage['text'][:220]}" for passage in passages)
    title = lower_first(document["title"])
    question = random.choice(QUESTIONS).format(title)
    return f"{context}\nQuestion: {question}\nAnswer:", f" {document['id']}: {title}."


def headline(document, _):
    return f"Text: {document['text'][:420]}\nHeadline:", f" {document['title']}"


def section(document, _):
    """The beginning of a description says what kind of package it is; the rest costs time."""
    return f"Text: {document['text'][:200]}\nSection:", f" {document['section']}"


# What is asked and what is to come, and whether a line that was made is right.
TASKS = {
    "qa": (qa, lambda made, wanted: made.startswith(wanted.split(":")[0] + ":")),
    "headline": (headline, lambda made, wanted: made.strip() == wanted.strip()),
    "section": (section, lambda made, wanted: made.strip() == wanted.strip()),
}


def batch(tokenizer, example, pool):
    """Token ids, mask and labels; labels of prompts and padding are -100, which no loss counts."""
    rows = []
    for document in random.sample(pool, BATCH):
        prompt, completion = example(document, pool)
        completion = tokenizer(completion, add_special_tokens=False)["input_ids"]
        rows.append((tokenizer(prompt)["input_ids"], completion + [tokenizer.eos_token_id]))
    longest = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids = torch.zeros(BATCH, longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[row, :end] = torch.tensor(prompt + completion)
        mask[row, :end] = 1
        labels[row, len(prompt) : end] = torch.tensor(completion)
    return ids, mask, labels


def loss_of(model, ids, mask, labels):
    """The head has 262,144 rows, so it sees only the places whose label counts."""
    inner = model.base_model.model
    hidden = inner.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]
    labels = labels[:, 1:]
    counted = labels != -100
    return torch.nn.functional.cross_entropy(inner.lm_head(hidden[counted]), labels[counted])


def train(model, tokenizer, example, pool, steps, rate, checkpoint):
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    begun = time.time()
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / 10) * max(0.05, 1 - step / steps)
        loss = loss_of(model, *batch(tokenizer, example, pool))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step == 1 or step % 10 == 0:
            print(f"step {step} of {steps}, loss {loss.item():.3f}, {time.time() - begun:.0f} s", flush=True)
            checkpoint()


def write(model, out, dtype):
    model.save_pretrained(out)
    weights = out / "adapter_model.safetensors"
    halved = {name: tensor.to(dtype) for name, tensor in load_file(weights).items()}
    save_file(halved, weights, metadata={"format": "pt"})
    config = out / "adapter_config.json"
    settings = json.loads(config.read_text())
    # The folder of the moment means nothing to others.
    settings["base_model_name_or_path"] = "google/gemma-3-270m"
    config.write_text(json.dumps(settings, indent=2) + "\n")
    (out / "README.md").unlink(missing_ok=True)


@torch.no_grad()
def complete(model, tokenizer, prompt):
    """The line that comes after a prompt."""
    ids = tokenizer(prompt, return_tensors="pt")
    made = model.generate(**ids, max_new_tokens=16, do_sample=False, stop_strings="\n", tokenizer=tokenizer)
    made = tokenizer.decode(made[0][ids.input_ids.shape[1] :], skip_special_tokens=True)
    return made.split("\n")[0]


def evaluate(model, tokenizer, task, held, count):
    """How often the adapter and the bare model are right about packages never seen."""
    example, is_right = TASKS[task]
    adapter = bare = 0
    for number, document in enumerate(random.sample(held, count), 1):
        prompt, wanted = example(document, held)
        adapter += is_right(complete(model, tokenizer, prompt), wanted)
        with model.disable_adapter():
            bare += is_right(complete(model, tokenizer, prompt), wanted)
        if number % 10 == 0:
            print(f"of {number} held out, right: adapter {adapter}, bare model {bare}", flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("task", choices=TASKS)
    arguments.add_argument("corpus", type=Path, help="what dataset.py wrote")
    arguments.add_argument("model", type=Path, help="the GGUF file")
    arguments.add_argument("out", type=Path, help="the adapter's folder")
    arguments.add_argument("--steps", type=int, default=150)
    arguments.add_argument("--rate", type=float, default=6e-4)
    arguments.add_argument("--layers", type=int, default=18, help="how many of the 18 layers, from the end")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--evaluate", type=int, default=100, help="how many held-out packages to ask about")
    arguments.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float16")
    arguments = arguments.parse_args()

    random.seed(7)
    torch.manual_seed(7)
    torch.set_num_threads(arguments.threads)
    corpus = [json.loads(line) for line in open(arguments.corpus)]
    pool = [document for document in corpus if not document["heldout"]]
    held = [document for document in corpus if document["heldout"]]

    folder, file = str(arguments.model.parent), arguments.model.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    base = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    lora = LoraConfig(
        r=8,
        lora_alpha=16,
        target_modules=["q_proj", "v_proj"],
        # Layers before the first that learns need no backward pass.
        layers_to_transform=list(range(18 - arguments.layers, 18)),
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, lora)
    checkpoint = lambda: write(model, arguments.out, getattr(torch, arguments.dtype))
    example, _ = TASKS[arguments.task]
    train(model, tokenizer, example, pool, arguments.steps, arguments.rate, checkpoint)
    checkpoint()

    model = PeftModel.from_pretrained(model.unload(), arguments.out).eval()
    random.seed(11)
    evaluate(model, tokenizer, arguments.task, held, arguments.evaluate)
