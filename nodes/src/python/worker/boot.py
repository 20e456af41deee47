# Reads the worker's source from the socket at standard output, and becomes it.
import os, socket, struct
link = socket.socket(fileno=os.dup(1))
def exactly(count):
    parts = bytearray()
    while len(parts) < count:
        part = link.recv(count - len(parts))
        if not part: raise SystemExit(0)
        parts += part
    return bytes(parts)
exec(compile(exactly(*struct.unpack("<I", exactly(4))), "<engine worker>", "exec"))
