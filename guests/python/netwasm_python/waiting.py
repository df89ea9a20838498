"""Waits, for all of Python's ways to do so: `select`, blocking sockets, and
`time.sleep`. Everything waits in a watch list of the host's, and the host's
signals are in each of them.
"""

import operator as _operator
import os as _os
import time as _time

from netwasm_python import host as _host, signals as _signals

_call, _WAIT, _WATCH, _FORGET = _host.call, _host.WAIT, _host.WATCH, _host.FORGET

READABLE, WRITABLE, FAILED, HUNG_UP = 1, 4, 8, 16
# The host's descriptors are from here on, wasi-libc's below.
FIRST = 1_000_000
# A watch list gives at most as many a call.
MOST = 1024

# The watch list of what waits for a single descriptor.
_single = None


def failed(failure):
    """Makes Python's exception of a failure of `sockets`."""
    code, text = failure.value
    return OSError(code, text or _os.strerror(code))


def checked(result):
    """Raises a failure, and returns everything else."""
    if type(result) is _host.Failure:
        raise failed(result)
    return result


def open_list():
    """Opens a watch list that has the host's signals in it."""
    opened = checked(_call(_host.WATCH_LIST, []))
    if _signals.source is not None:
        checked(_call(_WATCH, [opened, _signals.source, READABLE]))
    return opened


def nanoseconds(timeout):
    """The host's form of a timeout in seconds; None and less than 0 wait for
    ever."""
    if timeout is None or timeout < 0:
        return None
    return min(int(timeout * 1e9), 0xFFFF_FFFF_FFFF_FFFF)


def wait(watch_list, most, timeout):
    """Returns what is ready in a watch list, at most `most`, as pairs of a
    descriptor and epoll(7)'s bits; nothing after `timeout` seconds. Runs the
    handlers of signals."""
    wanted = nanoseconds(timeout)
    until = None if wanted is None else _time.monotonic_ns() + wanted
    while True:
        ready = _call(_WAIT, [watch_list, most, wanted])
        if type(ready) is list and _signals.reported not in ready:
            return ready
        ready = after_signals(ready)
        if ready:
            return ready
        if until is not None:
            wanted = max(until - _time.monotonic_ns(), 0)


def after_signals(ready):
    """Runs the handlers of the signals that are ready, and returns the rest.
    Raises a failure."""
    checked(ready).remove(_signals.reported)
    _signals.deliver()
    return ready


def wait_for(descriptor, readiness, timeout):
    """Waits for one descriptor. Returns False after `timeout` seconds."""
    global _single
    if _single is None:
        _single = open_list()
    checked(_call(_WATCH, [_single, descriptor, readiness]))
    try:
        return bool(wait(_single, 2, timeout))
    finally:
        _call(_FORGET, [_single, descriptor])


def wait_for_signal(timeout):
    """Waits until the handler of a signal has run, or `timeout` seconds, if not
    None."""
    global _single
    if _single is None:
        _single = open_list()
    ready = _call(_WAIT, [_single, 1, nanoseconds(timeout)])
    if type(ready) is not list or ready:
        after_signals(ready)


@staticmethod
def sleep(seconds, /):
    """time.sleep(), whose time signals' handlers may run in. Static, as `select`
    is, for classes that have it as an attribute."""
    global _single
    if not isinstance(seconds, float):
        seconds = _operator.index(seconds)
    if seconds != seconds:
        raise ValueError("Invalid value NaN (not a number)")
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    if _single is None:
        _single = open_list()
    until = _time.monotonic() + seconds
    while wait(_single, 1, max(until - _time.monotonic(), 0)):
        pass
