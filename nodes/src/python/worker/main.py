# The worker: imports one file, then answers calls until the socket ends. Frames and their letters
# are documented in frame.rs.

import os
import select
import socket
import types

HEAD = struct.Struct("<QI")
CALL = struct.Struct("<Q")
CO_COROUTINE, CO_ASYNC_GENERATOR = 0x80, 0x200


def hold_on_to_life():
    """Ends this process when the engine ends, however it ends and whatever runs here: the kernel
    sends SIGIO, which kills, when the pipe at standard input loses its other end."""
    import fcntl
    import signal

    signal.signal(signal.SIGIO, signal.SIG_DFL)
    life = os.dup(0)
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([life], [], [], 0)[0]:
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def log_to_the_engine(name):
    """Prints and log records become lines of the pipe at standard error; those of `logging` begin
    with the mark and the letter of their level."""
    import faulthandler
    import logging

    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    sys.stderr.reconfigure(line_buffering=True, errors="backslashreplace")
    faulthandler.enable()

    class Lines(logging.Handler):
        def emit(self, record):
            try:
                text = self.format(record).replace("\n", "\x1f")
                letter = "DIWE"[min(max(record.levelno // 10 - 1, 0), 3)]
                os.write(2, f"\x1e{letter}{text}\n".encode("utf-8", "backslashreplace"))
            except Exception:
                self.handleError(record)

    logging.basicConfig(handlers=[Lines()], level=logging.INFO, format="%(name)s: %(message)s")


def limit_memory(most):
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def frame(kind, body=b""):
    return LENGTH.pack(1 + len(body)) + kind + body


def text_frame(kind, head, *texts):
    out = bytearray(head)
    for text in texts:
        write_text(out, text)
    return frame(kind, out)


def value_frame(call, index, value):
    out = bytearray(HEAD.pack(call, index))
    write(out, value)
    return frame(b"V", out)


def explain(error):
    """What an exception says, and its traceback without the frames of this worker."""
    import traceback

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == "<engine worker>":
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    said = traceback.format_exception_only(type(error), error)[-1].strip()
    clean = lambda text: text.encode("utf-8", "backslashreplace").decode("utf-8")
    return clean(said), clean("".join(lines).rstrip())


def error_frame(call, index, error):
    return text_frame(b"E", HEAD.pack(call, index), *explain(error))


def answer_frame(call, index, value):
    try:
        return value_frame(call, index, value)
    except Exception as error:
        return error_frame(call, index, error)


def import_file(path):
    import importlib.machinery
    import importlib.util

    class Source(importlib.machinery.SourceFileLoader):
        # Compiled anew each time: Python takes a compiled copy for the file's if only size and second agree,
        # and a file that was just changed may have both.
        def get_code(self, fullname):
            return self.source_to_code(self.get_data(self.path), self.path)

    folder, file = os.path.split(path)
    sys.path.insert(0, folder)
    name = os.path.splitext(file)[0]
    spec = importlib.util.spec_from_file_location(name, path, loader=Source(name, path))
    module = importlib.util.module_from_spec(spec)
    # Known by its name while it runs, as dataclasses and pickle expect.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def is_async(function):
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None:
        code = getattr(getattr(type(function), "__call__", None), "__code__", None)
    return code is not None and bool(code.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR))


class Target:
    """What the file's entry is, before a class is made into an object."""

    def __init__(self, module, name):
        entry = getattr(module, name)
        args, kwargs = (), {}
        if hasattr(entry, "deployment") and hasattr(entry, "args"):
            entry, args, kwargs = entry.deployment, entry.args, entry.kwargs
            for argument in (*args, *kwargs.values()):
                if hasattr(argument, "deployment"):
                    raise TypeError(f"`{name}` is bound to another deployment; make that a node of the graph")
        self.entry = getattr(entry, "func_or_class", entry)
        self.args, self.kwargs = args, kwargs
        self.is_class = isinstance(self.entry, type)
        if not callable(self.entry) or (self.is_class and not hasattr(self.entry, "__call__")):
            raise TypeError(f"`{name}` cannot be called")
        if self.is_class and "__call__" not in dir(self.entry):
            raise TypeError(f"the class `{name}` has no `__call__`")
        self.is_async = is_async(self.entry.__call__ if self.is_class else self.entry)

    def make(self):
        return self.entry(*self.args, **self.kwargs) if self.is_class else self.entry


class Items:
    """What comes from the engine, one frame after the other."""

    def __init__(self, link):
        self.link = link
        self.data = bytearray()

    def fill(self, flags=0):
        """Takes in what has come; false at the end."""
        part = self.link.recv(1 << 18, flags)
        self.data += part
        return bool(part)

    def next(self):
        """The next whole frame as its letter and body."""
        data = self.data
        if len(data) < 4:
            return None
        (size,) = LENGTH.unpack_from(data)
        if len(data) < 4 + size:
            return None
        body = bytes(data[5 : 4 + size])
        kind = data[4]
        del data[: 4 + size]
        return kind, body


def read_call(body):
    reader = Reader(body)
    call, items = reader.number(CALL), reader.number(LENGTH)
    return call, [reader.map() for _ in range(items)]


def columns(items):
    """The keyword arguments of a batch: each a list with one value an item."""
    names = dict.fromkeys(name for item in items for name in item)
    return {name: [item.get(name) for item in items] for name in names}


def spread(call, items, results):
    """The frames for the list that a batch gave."""
    if hasattr(results, "ndim"):
        results = list(results)
    if not isinstance(results, (list, tuple)):
        raise TypeError(f"a batch gives a list, not a {type(results).__name__}")
    if len(results) != len(items):
        raise ValueError(f"the batch has {len(items)} items, and {len(results)} results came back")
    return b"".join(
        error_frame(call, index, result)
        if isinstance(result, Exception)
        else answer_frame(call, index, result)
        for index, result in enumerate(results)
    )


def for_all(call, items, error):
    return b"".join(error_frame(call, index, error) for index in range(len(items)))


def piece(text):
    if not isinstance(text, str):
        raise TypeError(f"a generator yields pieces of text, not a {type(text).__name__}")
    return text


class Plain:
    """Runs a plain function: one call after the other."""

    def __init__(self, link, items, call, batched):
        self.link, self.items, self.call, self.batched = link, items, call, batched
        self.calls = []
        self.current = None
        self.cancelled = set()

    def run(self):
        while True:
            while (got := self.items.next()) is not None:
                self.note(got)
            if self.calls:
                self.answer(*self.calls.pop(0))
            elif not self.items.fill():
                return

    def note(self, got):
        kind, body = got
        if kind == ord("C"):
            self.calls.append(read_call(body))
        elif kind == ord("X"):
            (call,) = CALL.unpack(body)
            # One that is done already needs nothing.
            if call == self.current or any(call == number for number, _ in self.calls):
                self.cancelled.add(call)

    def answer(self, call, items):
        self.current = call
        # A call without items asks whether this worker is well.
        if not items or call in self.cancelled:
            self.link.sendall(frame(b"Z", CALL.pack(call)))
        elif self.batched:
            try:
                out = spread(call, items, finished(with_model(self.call, columns(items))))
            except Exception as error:
                out = for_all(call, items, error)
            self.link.sendall(out)
        else:
            for index, item in enumerate(items):
                self.link.sendall(self.one(call, index, item))
        self.cancelled.discard(call)

    def one(self, call, index, item):
        try:
            result = with_model(self.call, item)
            if isinstance(result, types.GeneratorType):
                return self.stream(call, result)
            return answer_frame(call, index, finished(result))
        except Exception as error:
            return error_frame(call, index, error)

    def stream(self, call, pieces):
        for text in pieces:
            self.link.sendall(text_frame(b"P", CALL.pack(call), piece(text)))
            if select.select([self.link], [], [], 0)[0]:
                if not self.items.fill():
                    os._exit(0)
                while (got := self.items.next()) is not None:
                    self.note(got)
            if call in self.cancelled:
                pieces.close()
                break
        return frame(b"Z", CALL.pack(call))


def with_model(call, item):
    model = item.pop(MULTIPLEXED, None)
    if isinstance(model, list):
        # Those of a batch are all the same.
        model = model[0]
    if model is not None or _model_id is not None:
        model_id_variable().set(model or "")
    return call(**item)


def finished(result):
    """The result of an awaitable that a plain function gave."""
    if isinstance(result, types.CoroutineType):
        import asyncio

        return asyncio.run(result)
    return result


class Concurrent:
    """Runs coroutines: many at once on one event loop."""

    def __init__(self, link, items, target, batched):
        self.link, self.items, self.target, self.batched = link, items, target, batched
        self.tasks = {}
        self.cancelled = set()

    def run(self):
        import asyncio

        self.asyncio = asyncio
        asyncio.run(self.main())

    async def main(self):
        loop = self.asyncio.get_running_loop()
        # Here, because what is made may want the loop.
        try:
            self.call = self.target.make()
        except BaseException as error:
            return failed(self.link, error)
        self.link.sendall(ready("batch" if self.batched else "concurrent"))
        ended = loop.create_future()
        loop.add_reader(self.link, self.readable, loop, ended)
        await ended

    def readable(self, loop, ended):
        try:
            more = self.items.fill(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        while (got := self.items.next()) is not None:
            kind, body = got
            if kind == ord("C"):
                call, items = read_call(body)
                task = loop.create_task(self.answer(call, items))
                self.tasks[call] = task
                task.add_done_callback(lambda _, call=call: self.tasks.pop(call, None))
            elif kind == ord("X") and (task := self.tasks.get(CALL.unpack(body)[0])):
                self.cancelled.add(CALL.unpack(body)[0])
                task.cancel()
        if not more and not ended.done():
            ended.set_result(None)

    async def answer(self, call, items):
        if not items:
            return self.link.sendall(frame(b"Z", CALL.pack(call)))
        try:
            if self.batched:
                out = spread(call, items, await with_model(self.call, columns(items)))
            else:
                out = await self.one(call, items[0])
        except Exception as error:
            out = for_all(call, items, error)
        except self.asyncio.CancelledError as error:
            if call not in self.cancelled:
                # The whole process ends, and what it held is answered by another.
                raise
            out = for_all(call, items, error)
        self.cancelled.discard(call)
        self.link.sendall(out)

    async def one(self, call, item):
        result = with_model(self.call, item)
        if isinstance(result, types.AsyncGeneratorType):
            async for text in result:
                self.link.sendall(text_frame(b"P", CALL.pack(call), piece(text)))
                await self.asyncio.sleep(0)
            return frame(b"Z", CALL.pack(call))
        return answer_frame(call, 0, await result)


def ready(mode):
    out = bytearray()
    write(out, {"mode": mode, "python": sys.version.split()[0]})
    return frame(b"R", out)


def failed(link, error):
    """Tells why there is no worker, and ends."""
    link.sendall(text_frame(b"F", b"", *explain(error)))
    os._exit(1)


def main():
    hold_on_to_life()
    items = Items(link)
    while (got := items.next()) is None:
        if not items.fill():
            return
    order = Reader(got[1]).value()
    log_to_the_engine(order["node"])
    if order["memory"] is not None:
        limit_memory(order["memory"])
    try:
        install()
        target = Target(import_file(order["file"]), order["entry"])
        if target.is_async:
            worker = Concurrent(link, items, target, order["batched"])
        else:
            worker = Plain(link, items, target.make(), order["batched"])
            link.sendall(ready("batch" if order["batched"] else "item"))
    except BaseException as error:
        return failed(link, error)
    worker.run()


main()
