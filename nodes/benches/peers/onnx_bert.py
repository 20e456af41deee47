"""MiniLM as an ONNX graph for onnxruntime.

The graph is the one that onnxruntime's transformer optimiser makes of BERT: embeddings, attention,
skip connections with their norms, and biases with their GELU are one operator each. Writing it down
needs no exporter. Mean pooling and normalisation are part of it.
"""

import json
import pathlib
import struct

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

FUSED = "com.microsoft"


def tensors(path):
    """The tensors of a safetensors file, all f32."""
    data = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    body = memoryview(data)[8 + size :]
    read = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        start, end = entry["data_offsets"]
        values = numpy.frombuffer(body[start:end], dtype="<f4")
        read[name] = values.reshape(entry["shape"])
    return read


class Graph:
    """Nodes and weights as they are added; a weight has the name of what it is for."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def weight(self, name, values):
        self.weights.append(numpy_helper.from_array(numpy.ascontiguousarray(values), name))
        return name

    def add(self, kind, inputs, output, domain="", **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output


def build(folder):
    """The model of a folder as transformers writes it."""
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text())
    stored = tensors(folder / "model.safetensors")
    prefix = "bert." if "bert.embeddings.LayerNorm.weight" in stored else ""
    read = lambda name: stored[prefix + name]
    epsilon = config["layer_norm_eps"]
    graph = Graph()
    table = lambda name: graph.weight(name, read(f"embeddings.{name}.weight"))
    norm = lambda path: [
        graph.weight(f"{path}.weight", read(f"{path}.weight")),
        graph.weight(f"{path}.bias", read(f"{path}.bias")),
    ]
    tables = [table(f"{kind}_embeddings") for kind in ("word", "position", "token_type")]
    graph.nodes.append(
        helper.make_node(
            "EmbedLayerNormalization",
            ["ids", "types", *tables, *norm("embeddings.LayerNorm")],
            ["x", "unused"],
            domain=FUSED,
            epsilon=epsilon,
        )
    )
    x = "x"
    for layer in range(config["num_hidden_layers"]):
        x = add_layer(graph, f"encoder.layer.{layer}", x, read, norm, config)
    graph.add("Cast", ["mask"], "weights", to=TensorProto.FLOAT)
    graph.weight("one", numpy.array([1], dtype=numpy.int64))
    graph.add("Unsqueeze", ["weights", "one"], "row")
    graph.add("MatMul", ["row", x], "sum")
    graph.add("Squeeze", ["sum", "one"], "pooled")
    graph.add("LpNormalization", ["pooled"], "vector", axis=-1, p=2)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "length"])
        for name in ("ids", "types", "mask")
    ]
    width = config["hidden_size"]
    output = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch", width])
    made = helper.make_graph(graph.nodes, "encoder", inputs, [output], graph.weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


def add_layer(graph, path, x, read, norm, config):
    """Attention and feed-forward of a layer; gives the name of its result."""
    epsilon = config["layer_norm_eps"]
    linear = lambda name: (read(f"{path}.{name}.weight").T, read(f"{path}.{name}.bias"))
    parts = [linear(f"attention.self.{part}") for part in ("query", "key", "value")]
    weight = numpy.concatenate([weight for weight, _ in parts], axis=1)
    bias = numpy.concatenate([bias for _, bias in parts])
    attended = graph.add(
        "Attention",
        [
            x,
            graph.weight(f"{path}.qkv", weight),
            graph.weight(f"{path}.qkv.bias", bias),
            "mask",
        ],
        f"{path}.attended",
        FUSED,
        num_heads=config["num_attention_heads"],
    )

    def product(name, source):
        weight, bias = linear(name)
        result = graph.add(
            "MatMul", [source, graph.weight(f"{path}.{name}", weight)], f"{path}.{name}.product"
        )
        return result, graph.weight(f"{path}.{name}.bias", bias)

    def skip(name, source, before):
        result, bias = product(f"{name}.dense", source)
        inputs = [result, before, *norm(f"{path}.{name}.LayerNorm"), bias]
        return graph.add(
            "SkipLayerNormalization", inputs, f"{path}.{name}", FUSED, epsilon=epsilon
        )

    attended = skip("attention.output", attended, x)
    inner = product("intermediate.dense", attended)
    inner = graph.add("BiasGelu", list(inner), f"{path}.inner", FUSED)
    return skip("output", inner, attended)


def write(folder, into):
    """Writes the f32 and the dynamically quantised model; gives their paths."""
    into = pathlib.Path(into)
    into.mkdir(parents=True, exist_ok=True)
    plain, small = into / "minilm.onnx", into / "minilm-int8.onnx"
    if not small.exists():
        model = build(folder)
        onnx.checker.check_model(model)
        onnx.save(model, plain)
        # onnxruntime does not infer types through its own operators.
        options = {"DefaultTensorType": TensorProto.FLOAT}
        quantize_dynamic(plain, small, weight_type=QuantType.QInt8, extra_options=options)
    return plain, small
