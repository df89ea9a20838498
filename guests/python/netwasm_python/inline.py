"""Runs at once the functions that a thread would run. Such a function finds what it
would find in its thread: no event loop that runs, so that `asyncio.run()` starts one,
and not the context variables of its caller.
"""

import asyncio
import contextvars
import sys
import warnings

# How many such functions run, one within another.
depth = 0

# How many of them an event loop waits for.
waited_for = 0

_warned = set()

# Packages whose frames are not the program's.
_OF_NO_PROGRAM = sys.stdlib_module_names - {"__main__"} | {"netwasm_python"}


def warn(text, stacklevel):
    """Says once that a function runs at once. `stacklevel` is as for warnings.warn()."""
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, RuntimeWarning, stacklevel=stacklevel + 1)


def run(context, function, /, *arguments):
    """Calls a function in a context."""
    global depth, waited_for
    loop = asyncio._get_running_loop()
    depth += 1
    if loop is None:
        try:
            return context.run(function, *arguments)
        finally:
            depth -= 1
    task = asyncio.tasks._swap_current_task(loop, None)
    asyncio._set_running_loop(None)
    waited_for += 1
    try:
        return context.run(function, *arguments)
    finally:
        depth -= 1
        waited_for -= 1
        asyncio._set_running_loop(loop)
        asyncio.tasks._swap_current_task(loop, task)


def caller(level):
    """Says where the program had the function run that is one deeper than `level`."""
    frame, left = sys._getframe(1), depth - level
    while frame is not None:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if frame.f_code is run.__code__:
            left -= 1
        elif left <= 0 and package not in _OF_NO_PROGRAM:
            return f"{frame.f_code.co_filename}, line {frame.f_lineno}, in {frame.f_code.co_qualname}"
        frame = frame.f_back
    return "unknown"


def worker_of(executor):
    """The worker of an executor, and the context that its initializer has left."""
    found = executor.__dict__.get("_worker")
    if found is None:
        worker, context = executor._create_worker_context(), contextvars.Context()
        found = executor._worker = worker, context
        run(context, worker.initialize)
    return found
