"""Mends packages as they are imported: those that start threads of their own where an
executor would do, whose functions run at once, as an executor's do, and those that
start processes, which say plainly that there are none.

anyio is one, and beneath many: FastAPI and starlette run by it what is no coroutine
(handlers, dependencies, background tasks, iterators) and what reads files. aiosqlite is
another.
"""

import contextvars
import importlib.abc
import sys

from netwasm_python import inline, loop


def _mend_anyio(module):
    backend = getattr(module, "AsyncIOBackend", None)
    if backend is None:
        return
    set_library = getattr(module, "set_current_async_library", lambda _: None)

    async def run_at_once(cls, func, args, abandon_on_cancel=False, limiter=None):
        """anyio.to_thread.run_sync()"""
        await cls.checkpoint()
        async with limiter or cls.current_default_thread_limiter():
            loop.warn_at_once()
            context = contextvars.copy_context()
            context.run(set_library, None)
            return inline.run(context, func, *args)

    backend.run_sync_in_worker_thread = classmethod(run_at_once)


def _mend_aiosqlite(module):
    class Queue:
        """Stands in for the queue of a connection's thread, and for the thread."""

        def put_nowait(self, entry):
            future, function = entry if isinstance(entry, tuple) else (None, lambda: None)
            loop.warn_at_once()
            try:
                result = inline.run(contextvars.Context(), function)
            except Exception as error:
                if future is not None:
                    future.set_exception(error)
            else:
                if future is not None:
                    future.set_result(result)

    class Thread:
        def __init__(self, *_, **__):
            pass

        def start(self):
            """Nothing is left to do for it."""

    module.SimpleQueue, module.Thread = Queue, Thread
    # A connection was a thread itself before 0.22.
    module.Connection.start = Thread.start


def _mend_multiprocessing(module):
    module.BaseProcess.start = loop.start_no_process


def _mend_process_pool(module):
    def refuse(self, *_, **__):
        # As where there are no semaphores: programs go on with threads then.
        raise NotImplementedError(loop.NO_PROCESSES)

    module.ProcessPoolExecutor.__init__ = refuse


# By the name of a module: the function that mends it once it is loaded.
_MENDS = {
    "aiosqlite.core": _mend_aiosqlite,
    "anyio._backends._asyncio": _mend_anyio,
    "concurrent.futures.process": _mend_process_pool,
    "multiprocessing.process": _mend_multiprocessing,
}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules that have to be mended, by the finders after it."""

    def find_spec(self, fullname, path=None, target=None):
        mend = _MENDS.get(fullname)
        if mend is None:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(fullname, path, target) if finder is not self else None
            if spec is not None:
                spec.loader = _Loader(spec.loader, mend)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    """Loads a module by its own loader, which is the module's from then on."""

    def __init__(self, stock, mend):
        self._stock, self._mend = stock, mend

    def create_module(self, spec):
        return self._stock.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._stock
        self._stock.exec_module(module)
        self._mend(module)


def install():
    sys.meta_path.insert(0, _Finder())
