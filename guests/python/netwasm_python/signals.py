"""Stands in for the C module `_signal`: signals come from the host.

A component has no signals of its own. The host keeps those that it gets, SIGINT
and SIGTERM, and a descriptor is readable as long as there is one. All that
waits here (`waiting.py`) watches that descriptor, too, and calls `deliver`:
that is when a handler runs, between two steps of the program, as a signal's
handler in Python always does. A program that computes without ever waiting
hears of nothing; the host then ends it.
"""

import _signal as _native
import errno as _errno
import os as _os
import sys as _sys
import types as _types

from netwasm_python import host as _host

SIG_DFL, SIG_IGN = int(_native.SIG_DFL), int(_native.SIG_IGN)
SIGINT, SIGTERM, SIGPIPE = _native.SIGINT, _native.SIGTERM, _native.SIGPIPE
NSIG = _native.NSIG

_handlers = {number: SIG_DFL for number in range(1, NSIG)}
_handlers[SIGINT] = _native.default_int_handler
_handlers[SIGPIPE] = SIG_IGN
_wakeup = -1
_uncatchable = {
    number for number in (getattr(_native, "SIGKILL", 9), getattr(_native, "SIGSTOP", 19))
}

# The descriptor of the host's signals, and the pair by which a watch list
# reports it. None while the component is built, and where the host has none.
source = None
reported = None


def start():
    """Asks the host for its signals. Called once, when a program starts."""
    global source, reported
    opened = _host.call(_host.SIGNALS, [])
    if type(opened) is int:
        source, reported = opened, (opened, 1)


def deliver():
    """Takes the signals that are there and runs their handlers."""
    while True:
        number = _host.call(_host.TAKE_SIGNAL, [source])
        if type(number) is not int:
            return
        raise_signal(number)


def raise_signal(signalnum, /):
    """Does what a signal's handler does, at once."""
    _check(signalnum)
    signalnum = int(signalnum)
    if _wakeup >= 0:
        # A full socket has woken its reader already.
        _host.call(_host.SEND, [_wakeup, bytes((signalnum,))])
    handler = _handlers[signalnum]
    if callable(handler):
        handler(signalnum, _sys._getframe(1))
    elif handler == SIG_DFL:
        exit_now(128 + signalnum)


def exit_now(status):
    """Ends the program without unwinding, as os._exit() does."""
    for stream in (_sys.stdout, _sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    _host.call(_host.EXIT, [status & 255])


def signal(signalnum, handler, /):
    _check(signalnum)
    if not callable(handler) and handler not in (SIG_DFL, SIG_IGN):
        raise TypeError(
            "signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object"
        )
    if signalnum in _uncatchable:
        raise OSError(_errno.EINVAL, _os.strerror(_errno.EINVAL))
    before, _handlers[signalnum] = _handlers[signalnum], handler
    return before


def getsignal(signalnum, /):
    _check(signalnum)
    return _handlers[signalnum]


def set_wakeup_fd(fd, /, *, warn_on_full_buffer=True):
    global _wakeup
    if fd != -1 and fd < 1_000_000:
        raise ValueError("set_wakeup_fd() wants a socket here")
    before, _wakeup = _wakeup, fd
    return before


def has_handler():
    """True if the program has a handler of its own for a signal that the host tells of."""
    handlers = _handlers[SIGINT], _handlers[SIGTERM]
    return any(callable(it) and it is not _native.default_int_handler for it in handlers)


def siginterrupt(signalnum, flag, /):
    """Nothing is interrupted: what waits goes on after a handler."""
    _check(signalnum)


def valid_signals():
    return set(_handlers)


def _check(signalnum):
    if signalnum not in _handlers:
        raise ValueError("signal number out of range")


def kill(pid, signalnum, /):
    """os.kill(), of the program itself."""
    if pid not in (0, _os.getpid()):
        raise PermissionError(_errno.EPERM, "a component sees no other processes")
    if signalnum:
        raise_signal(signalnum)


def interrupt_main(signum=SIGINT, /):
    """_thread.interrupt_main(): does nothing where the signal has no handler."""
    _check(signum)
    if callable(_handlers[signum]):
        raise_signal(signum)


def module():
    """Makes the module to put in the place of `_signal`."""
    made = _types.ModuleType("_signal", _native.__doc__)
    made.__dict__.update(_native.__dict__)
    for function in (signal, getsignal, raise_signal, set_wakeup_fd, siginterrupt, valid_signals):
        setattr(made, function.__name__, function)
    return made
