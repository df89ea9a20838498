"""Stands in for `threading.Lock`. Without threads nobody else releases a lock that
is waited for, and wasi-libc ends the program when it is waited for all the same.
A signal's handler may release it, and a timeout may pass: that is what is waited
for here, so that `threading.Event().wait(5)` sleeps.
"""

import _thread
import queue
import threading
import time

from netwasm_python import inline, waiting

# For what asyncio.run_coroutine_threadsafe() returns, and the like.
_NEVER = (
    "a component has no threads: this function would wait for the event loop, which "
    "waits for it"
)


class Lock:
    """threading.Lock"""

    __slots__ = ("_locked", "__weakref__")

    def __init__(self):
        self._locked = False

    def acquire(self, blocking=True, timeout=-1):
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        if self._locked and not (blocking and self._wait(timeout)):
            return False
        self._locked = True
        return True

    def _wait(self, timeout):
        """Waits until the lock is free. Returns False after `timeout` seconds."""
        if timeout == -1 and inline.waited_for:
            raise RuntimeError(_NEVER)
        until = None if timeout == -1 else time.monotonic() + timeout
        while self._locked:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return False
            waiting.wait_for_signal(left)
        return True

    def release(self):
        if not self._locked:
            raise RuntimeError("release unlocked lock")
        self._locked = False

    def locked(self):
        return self._locked

    acquire_lock, release_lock, locked_lock = acquire, release, locked

    def __enter__(self):
        self.acquire()
        return True

    def __exit__(self, *_):
        self.release()

    def _at_fork_reinit(self):
        self._locked = False

    def __repr__(self):
        state = "locked" if self._locked else "unlocked"
        return f"<{state} _thread.lock object at {id(self):#x}>"


def install():
    threading.Lock = threading._allocate_lock = Lock
    _thread.allocate_lock = _thread.allocate = _thread.lock = _thread.LockType = Lock
    # Those in C wait by locks in C.
    queue.SimpleQueue = queue._PySimpleQueue
