# Values on the wire: one tag byte, then what the tag says, all numbers little-endian. The other half
# is codec.rs, which documents the tags.

import array
import struct
import sys

MAX_DEPTH = 128
BIG_ENDIAN = sys.byteorder == "big"
LENGTH = struct.Struct("<I")
INTEGER = struct.Struct("<q")
NUMBER = struct.Struct("<d")


def floats(code, raw):
    numbers = array.array(code, raw)
    if BIG_ENDIAN:
        numbers.byteswap()
    return numbers


def raw_floats(numbers):
    if BIG_ENDIAN:
        numbers = array.array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


class Reader:
    """Reads values from the bytes of one frame."""

    def __init__(self, data, at=0):
        self.data = data
        self.at = at

    def byte(self):
        byte = self.data[self.at]
        self.at += 1
        return byte

    def number(self, form):
        (number,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        return number

    def bytes(self, count):
        part = self.data[self.at : self.at + count]
        if len(part) != count:
            raise ValueError("a frame ends in the middle of a value")
        self.at += count
        return part

    def text(self):
        return str(self.bytes(self.number(LENGTH)), "utf-8")

    def map(self):
        return {self.text(): self.value() for _ in range(self.number(LENGTH))}

    def value(self):
        tag = self.byte()
        if tag == 5:
            return self.text()
        if tag == 6:
            return floats("f", self.bytes(4 * self.number(LENGTH)))
        if tag == 3:
            return self.number(INTEGER)
        if tag == 4:
            return self.number(NUMBER)
        if tag == 7:
            return [self.value() for _ in range(self.number(LENGTH))]
        if tag == 8:
            return self.map()
        if tag == 9:
            # A document: a dict, as the rest of Python knows it.
            found = {"id": self.text(), "text": self.text()}
            found["score"] = self.number(NUMBER)
            found["metadata"] = self.map()
            return found
        if tag == 10:
            return floats("d", self.bytes(8 * self.number(LENGTH))).tolist()
        if tag > 2:
            raise ValueError(f"a frame holds the unknown tag {tag}")
        return (None, False, True)[tag]


def write_text(out, text):
    raw = text.encode("utf-8")
    out += LENGTH.pack(len(raw))
    out += raw


def write_map(out, entries, depth):
    out += LENGTH.pack(len(entries))
    for name, value in entries.items():
        if not isinstance(name, str):
            raise TypeError(f"the key {name!r} of a dict is no str, and a graph's maps have none but those")
        write_text(out, name)
        write(out, value, depth + 1)


def write_list(out, values, depth):
    # What most lists of numbers are, in one piece.
    if len(values) > 3 and set(map(type, values)) == {float}:
        out += b"\x0a"
        out += LENGTH.pack(len(values))
        out += raw_floats(array.array("d", values))
        return
    out += b"\x07"
    out += LENGTH.pack(len(values))
    for value in values:
        write(out, value, depth + 1)


def write_vector(out, numbers):
    out += b"\x06"
    out += LENGTH.pack(len(numbers))
    out += raw_floats(numbers)


def write_integer(out, value):
    if -(1 << 63) <= value < 1 << 63:
        out += b"\x03"
        out += INTEGER.pack(value)
    else:
        raise OverflowError(f"{value} is no 64-bit integer")


def write(out, value, depth=0):
    """Appends a value to a bytearray."""
    if depth > MAX_DEPTH:
        raise ValueError(f"the result is nested more than {MAX_DEPTH} deep")
    kind = type(value)
    if kind is str:
        out += b"\x05"
        write_text(out, value)
    elif value is None:
        out += b"\x00"
    elif kind is bool:
        out += b"\x02" if value else b"\x01"
    elif kind is int:
        write_integer(out, value)
    elif kind is float:
        out += b"\x04"
        out += NUMBER.pack(value)
    elif kind is list or kind is tuple:
        write_list(out, value, depth)
    elif kind is dict:
        out += b"\x08"
        write_map(out, value, depth)
    elif kind is array.array:
        write_array(out, value, depth)
    else:
        write_other(out, value, depth)


def write_array(out, value, depth):
    if value.typecode == "f":
        write_vector(out, value)
    elif value.typecode == "d":
        write_vector(out, array.array("f", value))
    else:
        write_list(out, value.tolist(), depth)


def write_other(out, value, depth):
    """Subclasses, and what has the shape of an array without our knowing its library."""
    if isinstance(value, str):
        out += b"\x05"
        write_text(out, value)
    elif hasattr(value, "detach") and hasattr(value, "numpy"):
        # A tensor of PyTorch, on whatever device.
        write_other(out, value.detach().cpu().numpy(), depth)
    elif hasattr(value, "dtype") and hasattr(value, "tobytes") and hasattr(value, "ndim"):
        write_ndarray(out, value, depth)
    elif isinstance(value, (bool, int)):
        write_integer(out, int(value))
    elif isinstance(value, float):
        out += b"\x04"
        out += NUMBER.pack(value)
    elif isinstance(value, (list, tuple)):
        write_list(out, list(value), depth)
    elif hasattr(value, "model_dump"):
        # A model of pydantic.
        write(out, value.model_dump(), depth)
    elif hasattr(value, "keys") and hasattr(value, "__getitem__"):
        out += b"\x08"
        write_map(out, {name: value[name] for name in value.keys()}, depth)
    elif hasattr(value, "__dataclass_fields__"):
        out += b"\x08"
        write_map(out, {name: getattr(value, name) for name in value.__dataclass_fields__}, depth)
    else:
        raise TypeError(f"a graph has no value for a {type(value).__module__}.{type(value).__qualname__}")


def write_ndarray(out, value, depth):
    if value.ndim == 0:
        write(out, value.item(), depth)
    elif value.ndim == 1 and value.dtype.kind == "f":
        raw = value.astype("<f4").tobytes()
        out += b"\x06"
        out += LENGTH.pack(len(raw) // 4)
        out += raw
    elif value.ndim == 1:
        write_list(out, value.tolist(), depth)
    else:
        # Rows, each by itself: a matrix is a list of vectors.
        out += b"\x07"
        out += LENGTH.pack(len(value))
        for row in value:
            write(out, row, depth + 1)
