"""Write what transformers gives for Gemma 3 270M beyond `gemma.json`: token ids of texts that are hard
to cut, and logits along a text that is longer than the sliding window.

usage: make_gemma.py FOLDER    (FOLDER holds gemma-3-270m-q4_k_m.gguf; writes tokens.json and long.json here)
"""
import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

here, folder, name = pathlib.Path(__file__).parent, sys.argv[1], "gemma-3-270m-q4_k_m.gguf"
source = "transformers, float32; Gemma 3 270M dequantised from the GGUF; make_gemma.py"
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)

TEXTS = [
    "", " ", "  two  spaces   three", "tab\tand\n\nnewlines\n\n\n\n", "emoji 😀🏳️\u200d🌈 ok",
    "<start_of_turn>user\nhi<end_of_turn>\n", "<bos>x<eos>",
    "html <table><tr><td>1</td></tr></table> <b>bold</b>", "ꙮ𐍈 rare 𓀀", "▁▁ real u2581 ▁x",
    " leading space", "<unused7><unused7a", "x\u00a0nbsp\u200bzw e\u0301", "[multimodal]<mask>",
    "def f(x):\n        return x  # comment\n", "    " * 10 + "x", "\r\n\r\n", "a" * 32,
    "12345678901234567890", "日本語のテキスト、中文文本。한국어", "ﷺ \ufeffbom", "<0x41> <0x", "\u0000\u0001",
    "Donaudampfschifffahrtsgesellschaftskapitän, naïve café, Ångström",
]
cases = [{"text": text, "tokens": tokenizer(text)["input_ids"]} for text in TEXTS]
(here / "tokens.json").write_text(json.dumps({"source": source, "cases": cases}))

PLACES = ["the harbour", "a quiet valley", "the northern coast", "an old mill", "the market square"]
PEOPLE = ["Maria", "the baker", "a young engineer", "two sailors", "the teacher", "Ibrahim", "Chen"]
DEEDS = ["repaired a clock", "found a letter", "planted seven trees", "lost a silver coin",
         "told a long story", "counted the boats", "drew a map of the stars"]
sentences = [
    f"On day {i}, {PEOPLE[i * 3 % 7]} {DEEDS[i * 5 % 7]} near {PLACES[i * 2 % 5]}, and {i * 37 % 101} people came to look."
    for i in range(1, 61)
]
text = " ".join(sentences)
ids = tokenizer(text, return_tensors="pt")["input_ids"]
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
with torch.no_grad():
    logits = model(ids).logits[0]
points = []
for position in [99, 511, 512, 600, 777, 1023, 1300, ids.shape[1] - 1]:
    top = logits[position].topk(8)
    points.append({"position": position, "top_ids": top.indices.tolist(),
                   "top_logits": [round(x, 4) for x in top.values.tolist()]})
(here / "long.json").write_text(json.dumps(
    {"source": source, "window": model.config.sliding_window, "tokens": ids[0].tolist(), "points": points}))
