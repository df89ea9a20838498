"""Stands in for `threading.Lock`. Without threads nobody else releases a lock that
is waited for, and wasi-libc ends the program when it is waited for all the same.
A signal's handler may release it, and a timeout may pass: that is what is waited
for here, so that `threading.Event().wait(5)` sleeps. `threading` builds all else that
waits on this lock: conditions, events, semaphores, queues.

A function that an executor runs at once, and whatever it waits for, ends before
anything else runs. What it would wait for without an end is an error there.
"""

import _thread
import queue
import threading
import time

from netwasm_python import inline, signals, waiting

# For what asyncio.run_coroutine_threadsafe() returns, and the like.
_NEVER = (
    "a component has no threads: this function would wait for the event loop, which "
    "waits for it"
)
_HELD = (
    "a component has no threads: this function runs at once, and would wait for a lock "
    "that was acquired before it was called ({}), and is not released until it has "
    "returned: release it before, or wait with a timeout"
)
_NOBODY = (
    "a component has no threads: this function runs at once, and would wait for what "
    "nobody does until it has returned"
)


def _check_end(held):
    """Raises an error if nobody can release a lock that was acquired at a depth of
    functions that run at once. Without such a function, a signal may end the wait."""
    if held < inline.depth:
        raise RuntimeError(_HELD.format(inline.caller(held)))
    if inline.waited_for:
        raise RuntimeError(_NEVER)
    if inline.depth and not signals.has_handler():
        raise RuntimeError(_NOBODY)


class Lock:
    """threading.Lock"""

    # None, or the depth of functions that run at once at which it was acquired.
    __slots__ = ("_held", "__weakref__")

    def __init__(self):
        self._held = None

    def acquire(self, blocking=True, timeout=-1):
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        if self._held is not None and not (blocking and self._wait(timeout)):
            return False
        self._held = inline.depth
        return True

    def _wait(self, timeout):
        """Waits until the lock is free. Returns False after `timeout` seconds."""
        if timeout == -1:
            _check_end(self._held)
        until = None if timeout == -1 else time.monotonic() + timeout
        while self._held is not None:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return False
            waiting.wait_for_signal(left)
        return True

    def release(self):
        if self._held is None:
            raise RuntimeError("release unlocked lock")
        self._held = None

    def locked(self):
        return self._held is not None

    acquire_lock, release_lock, locked_lock = acquire, release, locked

    def __enter__(self):
        self.acquire()
        return True

    def __exit__(self, *_):
        self.release()

    def _at_fork_reinit(self):
        self._held = None

    def __repr__(self):
        state = "unlocked" if self._held is None else "locked"
        return f"<{state} _thread.lock object at {id(self):#x}>"


def install():
    threading.Lock = threading._allocate_lock = Lock
    _thread.allocate_lock = _thread.allocate = _thread.lock = _thread.LockType = Lock
    # Those in C wait by locks in C.
    queue.SimpleQueue = queue._PySimpleQueue
