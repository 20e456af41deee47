# Stands in for `ray.serve` where Ray is not installed, so that the file of a deployment can be
# imported as it is. Replicas, routes and handles are the graph's affair: what a decorator says of them
# is taken and left alone. `batch` and `multiplexed` do what they do in Ray.

import sys
import types

MULTIPLEXED = "multiplexed_model_id"


class Deployment:
    """What `@serve.deployment` makes of a class or a function."""

    def __init__(self, func_or_class, options):
        self.func_or_class = func_or_class
        self.options_given = options
        self.name = options.get("name") or func_or_class.__name__

    def options(self, **options):
        return Deployment(self.func_or_class, {**self.options_given, **options})

    def bind(self, *args, **kwargs):
        return Application(self, args, kwargs)

    def __call__(self, *args, **kwargs):
        raise RuntimeError("a deployment is not called itself; name it in the graph, or `bind` it")


class Application:
    """A deployment with the arguments that it is made with."""

    def __init__(self, deployment, args, kwargs):
        self.deployment = deployment
        self.args = args
        self.kwargs = kwargs


def deployment(func_or_class=None, **options):
    if func_or_class is not None:
        return Deployment(func_or_class, options)
    return lambda func_or_class: Deployment(func_or_class, options)


def accepted(target=None, *args, **kwargs):
    """A decorator that changes nothing."""
    return target if callable(target) else lambda target: target


def batch(function=None, *, max_batch_size=10, batch_wait_timeout_s=0.01, **_):
    if function is None:
        return lambda function: batch(
            function, max_batch_size=max_batch_size, batch_wait_timeout_s=batch_wait_timeout_s
        )
    import asyncio
    import functools

    waiting = {}

    async def run(key, calls):
        owner = () if key is None else (calls[0][0],)
        columns = [list(column) for column in zip(*(arguments for _, arguments, _ in calls))]
        try:
            results = await function(*owner, *columns)
            if len(results) != len(calls):
                raise ValueError(f"{function.__name__} gave {len(results)} results for {len(calls)} items")
            for (_, _, future), result in zip(calls, results):
                if not future.done():
                    future.set_result(result)
        except Exception as error:
            for _, _, future in calls:
                if not future.done():
                    future.set_exception(error)

    async def later(key, calls):
        await asyncio.sleep(batch_wait_timeout_s)
        if waiting.get(key) is calls:
            del waiting[key]
            await run(key, calls)

    # A method has its object before its arguments, whose batches are its own.
    is_method = "self" in function.__code__.co_varnames[: function.__code__.co_argcount]

    @functools.wraps(function)
    async def call(*arguments):
        owner, arguments = (arguments[0], arguments[1:]) if is_method else (None, arguments)
        key = id(owner) if is_method else None
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        calls = waiting.setdefault(key, [])
        calls.append((owner, arguments, future))
        if len(calls) >= max_batch_size:
            del waiting[key]
            keep(loop.create_task(run(key, calls)))
        elif len(calls) == 1:
            keep(loop.create_task(later(key, calls)))
        return await future

    return call


TASKS = set()


def keep(task):
    """A task that nobody holds may be collected while it runs."""
    TASKS.add(task)
    task.add_done_callback(TASKS.discard)
    return task


def multiplexed(function=None, *, max_num_models_per_replica=3, **_):
    if function is None:
        return lambda function: multiplexed(function, max_num_models_per_replica=max_num_models_per_replica)
    import asyncio
    import functools

    # Models by the object that loads them, the longest unused first.
    loaded = {}

    @functools.wraps(function)
    async def load(owner, model_id):
        models = loaded.setdefault(id(owner), {})
        if model_id in models:
            models[model_id] = models.pop(model_id)
        else:
            while len(models) >= max_num_models_per_replica > 0:
                del models[next(iter(models))]
            models[model_id] = keep(asyncio.ensure_future(function(owner, model_id)))
        try:
            return await asyncio.shield(models[model_id])
        except Exception:
            models.pop(model_id, None)
            raise

    return load


_model_id = None


def model_id_variable():
    global _model_id
    if _model_id is None:
        import contextvars

        _model_id = contextvars.ContextVar(MULTIPLEXED, default="")
    return _model_id


def get_multiplexed_model_id():
    return model_id_variable().get()


def install():
    """Puts the stand-in where `import ray` and `from ray import serve` find it."""
    import importlib.util

    if "ray" in sys.modules or importlib.util.find_spec("ray") is not None:
        return
    ray, serve = types.ModuleType("ray"), types.ModuleType("ray.serve")
    ray.__path__ = []
    ray.serve = serve
    ray.remote = accepted
    for name, what in (
        ("deployment", deployment),
        ("batch", batch),
        ("multiplexed", multiplexed),
        ("ingress", accepted),
        ("get_multiplexed_model_id", get_multiplexed_model_id),
        ("Deployment", Deployment),
        ("Application", Application),
    ):
        setattr(serve, name, what)
    handle = types.ModuleType("ray.serve.handle")
    handle.DeploymentHandle = object
    handle.DeploymentResponse = object
    serve.handle = handle
    serve.__path__ = []
    sys.modules.update({"ray": ray, "ray.serve": serve, "ray.serve.handle": handle})
