#!/usr/bin/env python3
"""Runs the engine's kernels and a peer in turns and prints medians and their ratio.

    python3 nodes/benches/peers/compare.py encoders   # MiniLM beside onnxruntime
    python3 nodes/benches/peers/compare.py decoders   # Gemma 3 270M beside llama.cpp
    python3 nodes/benches/peers/compare.py http       # the whole engine beside its bare kernels

Both sides take the same tokens on the same number of threads in one run: ours, the peer, ours, the
peer, and so on, each while the other sleeps. The peers come from requirements.txt into an
environment under target/peers, at the first run; llama.cpp is built for this machine there, which
takes some minutes.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
WORK = ROOT / "target" / "peers"
# Between two turns, so that threads that still wait for work fall asleep.
REST_SECONDS = 0.05
# Short work is repeated within a turn for about this long.
TURN_SECONDS = 0.25
WORDS = (
    "a batch is formed when a replica is free and the queue that holds what waits is "
    "bounded so that nobody waits for an answer which cannot come in time"
).split()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["encoders", "decoders", "http"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    parser.add_argument("--program", help="our side, where it is built already")
    parser.add_argument("--save", type=pathlib.Path, help="keep the figures in this JSON file")
    options = parser.parse_args()
    if options.what != "http":
        enter_environment()
    side = Side(options.program or build_side(), options.threads)
    print(f"{'':40}{'ours':>24}{'peer':>24}{'ratio':>8}  (median, least to most)")
    table = Table(options)
    {"encoders": encoders, "decoders": decoders, "http": http}[options.what](side, table)
    if options.save:
        options.save.write_text(json.dumps(table.rows, indent=1) + "\n")


def enter_environment():
    """Makes the environment if it is missing, and goes on in its Python."""
    folder = pathlib.Path(os.environ.get("PEERS_ENVIRONMENT", WORK / "environment"))
    python = folder / "bin" / "python"
    if pathlib.Path(sys.prefix) == folder.absolute():
        return
    if not python.exists():
        print("installing the peers; llama.cpp takes some minutes to build")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        build = dict(os.environ, CMAKE_ARGS="-DGGML_NATIVE=ON")
        install = [python, "-m", "pip", "install", "--quiet", "--no-binary", "llama-cpp-python"]
        subprocess.run([*install, "-r", HERE / "requirements.txt"], check=True, env=build)
    os.execv(python, [python, "-B", *sys.argv])


def build_side():
    build = ["cargo", "bench", "--workspace", "--bench", "side", "--no-run"]
    build = [*build, "--message-format=json-render-diagnostics"]
    built = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    built = [json.loads(line) for line in built.splitlines()]
    (program,) = [
        line["executable"]
        for line in built
        if line.get("executable") and line["target"]["name"] == "side"
    ]
    return program


class Side:
    """Our side: a process that carries out orders one after the other."""

    def __init__(self, program, threads):
        self.process = subprocess.Popen(
            [program],
            cwd=ROOT,
            env=dict(os.environ, THREADS=str(threads)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def seconds(self, **order):
        return self.ask(**order)["seconds"]


class Table:
    """What was measured, and how a line of it is made."""

    def __init__(self, options):
        self.options, self.rows = options, []

    def line(self, case, unit, amount, ours, peer, more_is_better=True):
        """Runs both in turns. `ours` and `peer` give seconds; `amount` is what they do in them."""
        if self.options.only not in case:
            return
        taken = ([], [])
        for turn in range(self.options.rounds + 1):
            for run, times in zip((ours, peer), taken):
                seconds = turn_of(run)
                if turn > 0:  # the first is a rehearsal
                    times.append(seconds)
                time.sleep(REST_SECONDS)
        figure = (lambda s: amount / s) if more_is_better else (lambda s: amount * s)
        ours, peer = [summary([figure(s) for s in times]) for times in taken]
        ratio = statistics.median(taken[1]) / statistics.median(taken[0])
        row = {"case": case, "unit": unit, "ours": ours, "peer": peer, "ratio": ratio}
        self.rows.append(row)
        print(f"{case + ', ' + unit:40}{shown(ours):>24}{shown(peer):>24}{ratio:8.2f}", flush=True)

    def fact(self, case, **figures):
        self.rows.append({"case": case, **figures})
        print(f"{case}: " + ", ".join(f"{name} {value}" for name, value in figures.items()))


def turn_of(run):
    """The median of as many runs as a turn has time for, at least one."""
    times, began = [], time.perf_counter()
    while not times or time.perf_counter() - began < TURN_SECONDS:
        times.append(run())
    return statistics.median(times)


def summary(figures):
    return {
        "median": statistics.median(figures),
        "least": min(figures),
        "most": max(figures),
    }


def shown(figures):
    digits = 2 if figures["median"] < 20 else 0
    median, least, most = (
        f"{figures[name]:.{digits}f}" for name in ("median", "least", "most")
    )
    return f"{median} ({least} to {most})"


def words(count):
    return " ".join(WORDS[index % len(WORDS)] for index in range(count))


def encoders(side, table):
    import numpy
    import onnxruntime

    import onnx_bert

    facts = side.ask(**{"do": "facts"})
    plain, small = onnx_bert.write(facts["minilm"], WORK)
    tokens = lambda texts: side.ask(do="tokens", texts=texts)["tokens"]
    short = tokens([words(8 + index % 5) for index in range(32)])
    (long,) = tokens([words(300)])
    of_length = lambda length: [*long[: length - 1], long[-1]]
    # 8, 16, … 256 tokens, and as many lengths from 8 to 16 as from 16 to 32 and so on.
    mixed = [of_length(8 * (index + 1)) for index in range(32)]
    skewed = [of_length(round(8 * 32 ** (index / 31))) for index in range(32)]
    golden = json.loads((ROOT / "nodes/tests/golden/encoders/minilm.json").read_text())
    golden = [text["tokens"] for text in golden["embed"]]
    exact = {}
    for weights, path in [("f32", plain), ("int8", small)]:
        session = open_session(onnxruntime, path, table.options.threads)
        run = lambda texts: session.run(None, padded(numpy, texts))[0]
        ours = lambda texts: lambda: side.seconds(do="embed", weights=weights, tokens=texts)
        peer = lambda texts: timed(session, padded(numpy, texts))
        table.line(f"{weights}, 32 short", "texts/s", 32, ours(short), peer(short))
        table.line(f"{weights}, 32 of 8 to 256", "texts/s", 32, ours(mixed), peer(mixed))
        one_by_one = [timed(session, padded(numpy, [text])) for text in mixed]
        alone = lambda: sum(run() for run in one_by_one)
        table.line(f"{weights}, same, peer unpadded", "texts/s", 32, ours(mixed), alone)
        case = f"{weights}, 32 of 8 to 256, most short"
        table.line(case, "texts/s", 32, ours(skewed), peer(skewed))
        one = short[:1]
        table.line(f"{weights}, one short", "ms", 1e3, ours(one), peer(one), False)
        got = side.ask(do="embed", weights=weights, tokens=golden)["vectors"]
        theirs = [run([text])[0] for text in golden]
        exact.setdefault("ours", got), exact.setdefault("peer", theirs)
        least = lambda vectors, of: min(
            float(numpy.dot(a, b)) for a, b in zip(vectors, exact[of])
        )
        if weights == "int8":
            table.fact(
                "int8, least cosine to f32",
                ours=round(least(got, "ours"), 4),
                peer=round(least(theirs, "peer"), 4),
            )
    sections = read_sections()
    found = {}
    for weights in ("f32", "int8"):
        embed = lambda texts: numpy.array(
            side.ask(do="embed", weights=weights, tokens=tokens(texts))["vectors"]
        )
        headings, passages = (embed(list(part)) for part in zip(*sections))
        found[weights] = numpy.argsort(-(headings @ passages.T), axis=1)
    table.fact(f"headings that find their passage among {len(sections)}", **ranking(numpy, found))


def read_sections():
    """Headings and the first paragraph under each, of all pages in `docs/`."""
    sections = []
    for page in sorted((ROOT / "docs").glob("*.md")):
        for section in page.read_text().split("\n## ")[1:]:
            heading, _, text = section.partition("\n")
            passage = " ".join(text.strip().split("\n\n")[0].split())
            if passage:
                sections.append((heading, passage))
    return sections


def ranking(numpy, found):
    """The mean reciprocal rank of the right passage, and how many of the best ten are the same."""
    right = numpy.arange(len(found["f32"]))[:, None]
    facts = {}
    for weights, order in found.items():
        rank = 1 + numpy.argmax(order == right, axis=1)
        facts[f"{weights} MRR"] = round(float((1 / rank).mean()), 3)
    same = [len(set(a[:10]) & set(b[:10])) for a, b in zip(found["f32"], found["int8"])]
    facts["same of ten"] = round(float(numpy.mean(same)), 2)
    return facts


def open_session(onnxruntime, path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])


def padded(numpy, texts):
    """A batch as onnxruntime takes it: all texts as long as the longest."""
    longest = max(map(len, texts))
    ids = numpy.zeros((len(texts), longest), dtype=numpy.int32)
    mask = numpy.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return {"ids": ids, "types": numpy.zeros_like(ids), "mask": mask}


def timed(session, inputs):
    def run():
        began = time.perf_counter()
        session.run(None, inputs)
        return time.perf_counter() - began

    return run


def decoders(side, table):
    from llama_peer import Llama

    prompt = [1000 + index * 7919 % 20000 for index in range(256)]
    facts = side.ask(**{"do": "facts"})
    side.ask(do="prefill", tokens=prompt)
    loaded = side.ask(**{"do": "facts"})
    peer = Llama(facts["gemma"], table.options.threads)
    table.line(
        "prefill of 256",
        "tokens/s",
        256,
        lambda: side.seconds(do="prefill", tokens=prompt),
        lambda: peer.prefill(prompt),
    )
    text = (ROOT / "docs" / "pools.md").read_text(encoding="utf-8")
    text = side.ask(**{"do": "text-tokens", "text": text})["tokens"]
    parts = [text[start : start + 64] for start in range(0, 16 * 64, 64)]
    steps = 24
    for streams, kind in [
        (1, ""),
        (8, ""),
        (8, ", 8 adapters"),
        # Where a sampler needs them; otherwise the engine computes the likeliest alone.
        (8, ", all logits"),
        # How many logits are computed depends on the text.
        (8, ", random tokens"),
        (16, ""),
    ]:
        contexts = parts[:streams]
        if kind == ", random tokens":
            contexts = [prompt[:64]] * streams
        order = {
            "do": "decode",
            "contexts": contexts,
            "steps": steps,
            "adapters": kind == ", 8 adapters",
            "all_logits": kind == ", all logits",
        }
        table.line(
            f"decode, {streams} stream{'s' if streams > 1 else ''}{kind}",
            "tokens/s",
            streams * steps,
            lambda: side.seconds(**order),
            # llama.cpp has an adapter for a context, not for a sequence: it runs without any.
            lambda: peer.decode(contexts, steps),
        )
    table.fact("load, s", ours=round(loaded["load_seconds"], 2), peer=round(peer.load_seconds, 2))
    table.fact("resident after load, MiB", ours=round(loaded["resident_mib"]))


def http(side, table):
    import engine_http

    texts = [words(8 + index % 5) for index in range(32)]
    long_texts = [words(8 * (index + 1)) for index in range(32)]
    prompt = "The history of bread begins"
    made = 64
    threads = table.options.threads
    for weights in ("f32", "int8"):
        graph = engine_http.embed_graph(weights, threads)
        with engine_http.Engine(ROOT, WORK, graph) as engine:
            for name, batch in [("32 short", texts), ("32 of 8 to 256", long_texts)]:
                order = {"do": "embed-texts", "weights": weights, "texts": batch}
                ours, bare = lambda: engine.embed(batch), lambda: side.seconds(**order)
                case = f"{weights}, {name}"
                engine.requests.clear()
                table.line(case, "texts/s", 32, ours, bare)
                if engine.requests:
                    table.fact(f"{case}, a request, ms", **inside(engine))
    with engine_http.Engine(ROOT, WORK, engine_http.write_graph(threads)) as engine:
        ours = lambda: engine.generate(prompt, made)
        bare = lambda: side.seconds(do="generate", prompt=prompt, tokens=made)
        table.line("streamed answer", "tokens/s", made, ours, bare)


def inside(engine):
    """How long a request took its node, and how much longer the engine and the client; medians."""
    median = lambda took: round(statistics.median(map(took, engine.requests)), 2)
    return {
        "node": median(lambda took: took["vectors"]),
        "engine adds": median(lambda took: took["total"] - took["vectors"]),
        "client adds": median(lambda took: took["client"] - took["total"]),
    }


if __name__ == "__main__":
    main()
