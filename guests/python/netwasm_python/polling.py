"""Stands in for the C module `select`: select(2), poll(2) and epoll(7), over the
host's watch lists.

A watch list holds the host's descriptors alone. Files of wasi-libc's are ready
at all times, as regular files are for select(2). Its standard input may have to
be waited for: then the host says when to ask wasi-libc again.
"""

import errno as _errno
import os as _os
import select as _native
import stat as _stat
import time as _time

from netwasm_python import host as _host, signals as _signals, waiting as _waiting

error = OSError

POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL = 1, 2, 4, 8, 16, 32
POLLRDNORM, POLLRDBAND, POLLWRNORM, POLLWRBAND, POLLMSG, POLLRDHUP = 64, 128, 256, 512, 1024, 0x2000
EPOLLIN, EPOLLPRI, EPOLLOUT, EPOLLERR, EPOLLHUP = 1, 2, 4, 8, 16
EPOLLRDNORM, EPOLLRDBAND, EPOLLWRNORM, EPOLLWRBAND, EPOLLMSG = 64, 128, 256, 512, 1024
EPOLLRDHUP, EPOLLEXCLUSIVE, EPOLLONESHOT, EPOLLET = 0x2000, 1 << 28, 1 << 30, 1 << 31
EPOLL_CLOEXEC = 0o2000000
PIPE_BUF = 4096

__all__ = [name for name in globals() if name.isupper()] + ["error", "epoll", "poll", "select"]

# Bits that the host takes: the others are ready whenever these are, or never.
_HOSTS = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLONESHOT | EPOLLET

_call, _WAIT = _host.call, _host.WAIT
_MOST = _waiting.MOST


def _number(what):
    """The number of a descriptor, or of what has a fileno()."""
    number = what if isinstance(what, int) else what.fileno()
    if not isinstance(number, int):
        raise TypeError("fileno() returned a non-integer")
    if number < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({number})")
    return number


class _Watched:
    """A watch list, opened when it is needed first, and wasi-libc's descriptors
    beside it."""

    def __init__(self):
        self.number = None
        # The readiness wanted of wasi-libc's descriptors, by number.
        self.files = {}
        # True if it is open, and has none of those.
        self.plain = False

    def open(self):
        if self.number is None:
            self.number = _waiting.open_list()
            self.plain = not self.files
        return self.number

    def watch(self, number, readiness):
        if number >= _waiting.FIRST:
            _waiting.checked(_call(_host.WATCH, [self.open(), number, readiness & _HOSTS]))
        else:
            _os.fstat(number)
            self.files[number] = readiness
            self.plain = False

    def forget(self, number):
        if number >= _waiting.FIRST:
            _waiting.checked(_call(_host.FORGET, [self.open(), number]))
        elif self.files.pop(number, None) is None:
            raise FileNotFoundError(_errno.ENOENT, _os.strerror(_errno.ENOENT))
        else:
            self.plain = self.number is not None and not self.files

    def wait(self, most, timeout):
        if self.files:
            return self._wait_for_files(most, timeout)
        return _waiting.wait(self.open(), most, timeout)

    def _wait_for_files(self, most, timeout):
        until = None if timeout is None or timeout < 0 else _time.monotonic() + timeout
        ready = _waiting.wait(self.open(), most, 0) + self._ready_files()
        while not ready:
            left = None if until is None else until - _time.monotonic()
            if left is not None and left <= 0:
                break
            ready = self._wait_beside_input(most, left) + self._ready_files()
        return ready[:most]

    def _wait_beside_input(self, most, timeout):
        """Waits for the host's descriptors and for standard input, which is left to
        `_ready_files`."""
        awaited = _waiting.checked(_call(_host.AWAIT_INPUT, []))
        try:
            _waiting.checked(_call(_host.WATCH, [self.number, awaited, EPOLLIN]))
            ready = _waiting.wait(self.number, most, timeout)
        finally:
            # The watch list forgets it.
            _call(_host.CLOSE, [awaited])
        return [entry for entry in ready if entry[0] != awaited]

    def _ready_files(self):
        ready, asked = [], _native.poll()
        for number, readiness in self.files.items():
            if _stat.S_ISREG(_os.fstat(number).st_mode) or readiness & EPOLLOUT:
                if bits := readiness & (EPOLLIN | EPOLLOUT):
                    ready.append((number, bits))
            elif readiness & EPOLLIN:
                asked.register(number, _native.POLLIN)
        for number, bits in asked.poll(0):
            if bits & _native.POLLNVAL == 0:
                ready.append((number, EPOLLIN | (EPOLLHUP if bits & _native.POLLHUP else 0)))
        return ready

    def close(self):
        self.files.clear()
        self.plain = False
        if self.number is not None:
            number, self.number = self.number, None
            _waiting.checked(_call(_host.CLOSE, [number]))


class epoll:
    """select.epoll"""

    def __init__(self, sizehint=-1, flags=0):
        if sizehint != -1 and sizehint <= 0:
            raise ValueError("sizehint must be positive or -1")
        if flags not in (0, EPOLL_CLOEXEC):
            raise OSError(_errno.EINVAL, "invalid flags")
        self._watched = _Watched()
        self._registered = {}
        self._closed = False

    @classmethod
    def fromfd(cls, fd, /):
        made = cls()
        made._watched.number = fd
        return made

    @property
    def closed(self):
        return self._closed

    def _check(self):
        if self._closed:
            raise ValueError("I/O operation on closed epoll object")

    def fileno(self):
        self._check()
        return self._watched.open()

    def register(self, fd, eventmask=EPOLLIN | EPOLLPRI | EPOLLOUT):
        self._check()
        number = _number(fd)
        before = self._registered.get(number)
        if before is not None and self._is_watched(number, before):
            raise FileExistsError(_errno.EEXIST, _os.strerror(_errno.EEXIST))
        self._watched.watch(number, eventmask)
        self._registered[number] = eventmask

    def _is_watched(self, number, readiness):
        # The host forgets what is closed: another socket of that number may be
        # registered. Only taking it out tells.
        if number < _waiting.FIRST:
            return number in self._watched.files
        try:
            self._watched.forget(number)
        except OSError:
            return False
        self._watched.watch(number, readiness)
        return True

    def modify(self, fd, eventmask):
        self._check()
        number = _number(fd)
        if number not in self._registered:
            raise FileNotFoundError(_errno.ENOENT, _os.strerror(_errno.ENOENT))
        self._watched.watch(number, eventmask)
        self._registered[number] = eventmask

    def unregister(self, fd):
        self._check()
        number = _number(fd)
        self._registered.pop(number, None)
        self._watched.forget(number)

    def poll(self, timeout=None, maxevents=-1):
        watched = self._watched
        if watched.plain and 0 < maxevents <= _MOST:
            # The way of each turn of an event loop.
            ready = _call(
                _WAIT,
                [
                    watched.number,
                    maxevents,
                    None if timeout is None or timeout < 0 else int(timeout * 1e9),
                ],
            )
            if type(ready) is list and _signals.reported not in ready:
                return ready
            # Back to the loop, which knows what time it is.
            return _waiting.after_signals(ready)
        if self._closed:
            raise ValueError("I/O operation on closed epoll object")
        if maxevents == -1:
            maxevents = _MOST
        elif maxevents <= 0:
            raise ValueError(f"maxevents must be greater than 0, got {maxevents}")
        return watched.wait(min(maxevents, _MOST), timeout)

    def close(self):
        if not self._closed:
            self._closed = True
            self._registered.clear()
            self._watched.close()

    def __enter__(self):
        self._check()
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        try:
            self.close()
        except OSError:
            pass


class poll:
    """select.poll"""

    def __init__(self):
        self._watched = _Watched()
        self._masks = {}

    def register(self, fd, eventmask=POLLIN | POLLPRI | POLLOUT, /):
        number = _number(fd)
        self._masks[number] = eventmask
        try:
            self._watched.watch(number, eventmask)
        except OSError as error:
            # poll(2) reports what is not open as POLLNVAL, and does not fail.
            if error.errno != _errno.EBADF:
                raise

    def modify(self, fd, eventmask, /):
        number = _number(fd)
        if number not in self._masks:
            raise FileNotFoundError(_errno.ENOENT, _os.strerror(_errno.ENOENT))
        self.register(number, eventmask)

    def unregister(self, fd, /):
        number = _number(fd)
        del self._masks[number]
        try:
            self._watched.forget(number)
        except OSError:
            pass  # closed meanwhile

    def poll(self, timeout=None, /):
        if timeout is not None:
            timeout = -1 if timeout < 0 else timeout / 1000
        return self._watched.wait(max(len(self._masks) + 1, 1), timeout)

    def __del__(self):
        try:
            self._watched.close()
        except OSError:
            pass


@staticmethod
def select(rlist, wlist, xlist, timeout=None, /):
    """select.select; static, since selectors.py makes it an attribute of a class,
    and a function of C would not be bound by that."""
    if timeout is not None and timeout < 0:
        raise ValueError("timeout must be non-negative")
    wanted = {}
    lists = []
    for objects, readiness in ((rlist, EPOLLIN), (wlist, EPOLLOUT), (xlist, 0)):
        numbered = [(_number(what), what) for what in objects]
        lists.append(numbered)
        for number, _ in numbered:
            wanted[number] = wanted.get(number, 0) | readiness
    watched = _Watched()
    try:
        for number, readiness in wanted.items():
            watched.watch(number, readiness)
        ready = dict(watched.wait(min(len(wanted) + 1, _MOST), timeout))
    finally:
        watched.close()
    reading, writing, _ = lists
    broken = EPOLLERR | EPOLLHUP
    return (
        [what for number, what in reading if ready.get(number, 0) & (EPOLLIN | broken)],
        [what for number, what in writing if ready.get(number, 0) & (EPOLLOUT | broken)],
        [],
    )
