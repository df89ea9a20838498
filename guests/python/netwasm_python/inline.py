"""Runs at once the functions that a thread would run. Such a function finds what it
would find in its thread: no event loop that runs, so that `asyncio.run()` starts one,
and not the context variables of its caller.
"""

import asyncio
import contextvars
import warnings

# How many such functions run, one within another, while an event loop waits.
waited_for = 0

_warned = set()


def warn(text, stacklevel):
    """Says once that a function runs at once. `stacklevel` is as for warnings.warn()."""
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, RuntimeWarning, stacklevel=stacklevel + 1)


def run(context, function, /, *arguments):
    """Calls a function in a context."""
    global waited_for
    loop = asyncio._get_running_loop()
    if loop is None:
        return context.run(function, *arguments)
    task = asyncio.tasks._swap_current_task(loop, None)
    asyncio._set_running_loop(None)
    waited_for += 1
    try:
        return context.run(function, *arguments)
    finally:
        waited_for -= 1
        asyncio._set_running_loop(loop)
        asyncio.tasks._swap_current_task(loop, task)


def worker_of(executor):
    """The worker of an executor, and the context that its initializer has left."""
    found = executor.__dict__.get("_worker")
    if found is None:
        worker, context = executor._create_worker_context(), contextvars.Context()
        found = executor._worker = worker, context
        run(context, worker.initialize)
    return found
