"""The host's errors as exceptions of the standard library."""

import errno
import socket
from collections.abc import Callable
from typing import Any

from componentize_py_types import Err
from wit_world.imports.types import Error, ErrorCode


class TLSError(OSError):
    """A TLS session failed, or was cut short."""


_NUMBERS = {
    ErrorCode.ACCESS_DENIED: errno.EACCES,
    ErrorCode.INVALID_STATE: errno.ENOTCONN,
    ErrorCode.INVALID_ARGUMENT: errno.EINVAL,
    ErrorCode.NOT_SUPPORTED: errno.EOPNOTSUPP,
    ErrorCode.LIMIT_EXCEEDED: errno.EMFILE,
    ErrorCode.TIMEOUT: errno.ETIMEDOUT,
    ErrorCode.CONNECTION_REFUSED: errno.ECONNREFUSED,
    ErrorCode.CONNECTION_RESET: errno.ECONNRESET,
    ErrorCode.CONNECTION_ABORTED: errno.ECONNABORTED,
    ErrorCode.CONNECTION_BROKEN: errno.EPIPE,
    ErrorCode.REMOTE_UNREACHABLE: errno.EHOSTUNREACH,
    ErrorCode.ADDRESS_NOT_BINDABLE: errno.EADDRNOTAVAIL,
    ErrorCode.NOT_FOUND: errno.ENOENT,
}

_NAMES = {
    ErrorCode.NAME_UNRESOLVABLE: "EAI_NONAME",
    ErrorCode.NO_ADDRESS: "EAI_NODATA",
    ErrorCode.RESOLVER_FAILURE: "EAI_FAIL",
}


def exception(error: Error) -> OSError:
    """Returns an error as an exception: `ConnectionRefusedError` and so on.

    Its attributes `code` and `during` are the host's words for the kind and for
    the operation that failed.
    """
    code = error.code
    if code in _NUMBERS:
        made = OSError(_NUMBERS[code], error.text)
    elif code in _NAMES:
        made = socket.gaierror(getattr(socket, _NAMES[code], socket.EAI_NONAME), error.text)
    elif code in (ErrorCode.TLS, ErrorCode.TLS_TRUNCATED):
        made = TLSError(error.text)
    else:
        made = OSError(error.text)
    made.code = code.name.lower().replace("_", "-")
    made.during = error.during.name.lower()
    return made


def checked(function: Callable, *args: Any) -> Any:
    """Calls the host, and raises its errors."""
    try:
        return function(*args)
    except Err as error:
        raise exception(error.value) from None
