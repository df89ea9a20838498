"""The functions of `os` that take a descriptor, for those of the host: a program
may close or read a socket by its number, as it may natively. And those that know too
little of standard streams.
"""

import errno
import os
import stat

from netwasm_python import host, sockets, waiting


def _read(fd, length):
    return waiting.checked(host.call(host.RECEIVE, [fd, min(length, 1 << 20)]))


def _write(fd, data):
    return waiting.checked(host.call(host.SEND, [fd, sockets._octets(data)]))


def _fstat(fd):
    waiting.checked(host.call(host.LOCAL_ADDRESS, [fd]))
    return os.stat_result((stat.S_IFSOCK | 0o777, fd, 0, 1, 0, 0, 0, 0, 0, 0))


def _set_blocking(fd, blocking):
    """The host's never block; Python's sockets keep by themselves which do."""


def _fstat_of_stream(stock, fd):
    """WASI tells nothing of a standard stream. asyncio's transports of pipes want to
    know that it is no file."""
    status = stock(fd)
    if stat.S_IFMT(status.st_mode):
        return status
    return os.stat_result((stat.S_IFCHR | 0o600, *status[1:]))


def _set_blocking_of_stream(stock, fd, blocking):
    """What is waited for first does not block."""


def _no_seek(*_):
    raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))


_OURS = {
    "close": sockets.close,
    "dup": sockets.dup,
    "read": _read,
    "write": _write,
    "fstat": _fstat,
    "isatty": lambda fd: False,
    "lseek": _no_seek,
    "get_inheritable": lambda fd: False,
    "set_inheritable": lambda fd, inheritable: None,
    "get_blocking": lambda fd: False,
    "set_blocking": _set_blocking,
}
# Of standard input, output and error.
_OF_STREAMS = {"fstat": _fstat_of_stream, "set_blocking": _set_blocking_of_stream}


def _divided(name, ours, stock):
    of_stream = _OF_STREAMS.get(name)

    def function(fd, /, *arguments, **named):
        if isinstance(fd, int) and fd >= waiting.FIRST:
            return ours(fd, *arguments, **named)
        if stock is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        if of_stream is not None and fd in (0, 1, 2):
            return of_stream(stock, fd, *arguments, **named)
        return stock(fd, *arguments, **named)

    function.__name__ = function.__qualname__ = name
    return function


def install():
    for name, ours in _OURS.items():
        # sockets.close() itself ends here for wasi-libc's numbers.
        setattr(os, name, _divided(name, ours, getattr(os, name, None)))
