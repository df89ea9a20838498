"""The host's functions, called by their numbers.

componentize-py makes a Python function of each import. It wraps each result in
a dataclass, and unwraps it again: that takes longer than the call. `call` is
what those functions end in, and the constructors of results, failures and
addresses are replaced here, while the component is built, by ones that return
what a caller wants:

- A result is its value. A failure is a `Failure`, and is returned, not raised,
  so that "nothing to receive" costs no exception.
- A socket's address is Python's own: `("127.0.0.1", 80)`, or a path.

componentize-py reads the constructors after it has imported the program, which
imports this module: its release is fixed in guests/componentize.
"""

import errno as _errno
from _typing import _idfunc as _same  # returns its argument, and is C

import componentize_py_runtime
import componentize_py_types
from wit_world.imports import exit as _exit
from wit_world.imports import netwasm_net_types as _types
from wit_world.imports import sockets as _sockets
from wit_world.imports import tls_engine as _tls

call = componentize_py_runtime.call_import


class Failure(Exception):
    """Why a call failed: `value` is a pair of `errno` and a text, of `tls-engine`
    an instance of its own kinds."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class _Success(type):
    """Equals what stands in for the constructor of successes, as componentize-py
    tells by that whether `run` returned one."""

    def __eq__(cls, other):
        return other is _same or other is cls

    __hash__ = type.__hash__


class Ok(metaclass=_Success):
    """The success that `run` reports. Every other success is its value."""

    __slots__ = ("value",)


class _Address:
    """A case of an address: made by the host it is what it holds, made by
    `case` it is an instance for the host."""

    __slots__ = ("value",)

    def __new__(cls, value):
        return value


def case(kind, value):
    """Makes an instance of a class whose calls return something else."""
    made = object.__new__(kind)
    made.value = value
    return made


class SocketAddress_Ip(_Address):
    __slots__ = ()


class SocketAddress_Unix(_Address):
    __slots__ = ()

    def __new__(cls, path):
        return path or ""


class IpSocketAddress_Ipv4(_Address):
    __slots__ = ()


class IpSocketAddress_Ipv6(_Address):
    __slots__ = ()


class IpAddress_Ipv4(_Address):
    __slots__ = ()

    def __new__(cls, parts):
        return "%d.%d.%d.%d" % parts


class IpAddress_Ipv6(_Address):
    __slots__ = ()

    def __new__(cls, parts):
        return ipv6_text(parts)


class Ipv4SocketAddress:
    __slots__ = ("port", "address")

    def __new__(cls, port, address):
        return ("%d.%d.%d.%d" % address, port)


class Ipv6SocketAddress:
    __slots__ = ("port", "flow_info", "address", "scope_id")

    def __new__(cls, port, flow_info, address, scope_id):
        return (ipv6_text(address), port, flow_info, scope_id)


def ipv6_text(parts):
    """Writes eight groups as RFC 5952 wants, and inet_ntop(3) does."""
    if not any(parts[:5]) and parts[5] == 0xFFFF:
        return "::ffff:%d.%d.%d.%d" % (parts[6] >> 8, parts[6] & 255, parts[7] >> 8, parts[7] & 255)
    best = run = 0
    end = 8
    for index, part in enumerate(parts):
        run = 0 if part else run + 1
        if run > best:
            best, end = run, index + 1
    if best < 2:
        return ":".join(["%x" % part for part in parts])
    left = ":".join(["%x" % part for part in parts[: end - best]])
    return left + "::" + ":".join(["%x" % part for part in parts[end:]])


def ipv4_address(parts, port):
    """Makes an address for the host of four bytes."""
    inner = object.__new__(Ipv4SocketAddress)
    inner.port, inner.address = port, tuple(parts)
    return case(SocketAddress_Ip, case(IpSocketAddress_Ipv4, inner))


def ipv6_address(parts, port, flow_info, scope_id):
    """Makes an address for the host of eight groups."""
    inner = object.__new__(Ipv6SocketAddress)
    inner.port, inner.flow_info, inner.scope_id = port, flow_info, scope_id
    inner.address = tuple(parts)
    return case(SocketAddress_Ip, case(IpSocketAddress_Ipv6, inner))


def unix_address(path):
    """Makes the address of a path for the host."""
    return case(SocketAddress_Unix, path)


def _pair(*parts):
    return parts


# The names of the kinds of failure in the host, and those of `errno`. The
# resolver's are not among those of errno: they are negative here, as the
# numbers of getaddrinfo(3) are in C.
NO_NAME, RESOLVER_FAILED, NO_DATA = -2, -4, -5
_ERRNO = {
    "ACCESS": _errno.EACCES,
    "ADDR_IN_USE": _errno.EADDRINUSE,
    "ADDR_NOT_AVAILABLE": _errno.EADDRNOTAVAIL,
    "AF_NOT_SUPPORTED": _errno.EAFNOSUPPORT,
    "AGAIN": _errno.EAGAIN,
    "ALREADY": _errno.EALREADY,
    "BAD_DESCRIPTOR": _errno.EBADF,
    "CONNECTION_ABORTED": _errno.ECONNABORTED,
    "CONNECTION_REFUSED": _errno.ECONNREFUSED,
    "CONNECTION_RESET": _errno.ECONNRESET,
    "DEST_ADDRESS_REQUIRED": _errno.EDESTADDRREQ,
    "HOST_UNREACHABLE": _errno.EHOSTUNREACH,
    "IN_PROGRESS": _errno.EINPROGRESS,
    "INVALID": _errno.EINVAL,
    "IS_CONNECTED": _errno.EISCONN,
    "MESSAGE_SIZE": _errno.EMSGSIZE,
    "TOO_MANY_FILES": _errno.EMFILE,
    "NAME_TOO_LONG": _errno.ENAMETOOLONG,
    "NETWORK_UNREACHABLE": _errno.ENETUNREACH,
    "NO_ENTRY": _errno.ENOENT,
    "NO_MEMORY": _errno.ENOMEM,
    "NO_PROTOCOL_OPTION": _errno.ENOPROTOOPT,
    "NOT_CONNECTED": _errno.ENOTCONN,
    "NOT_SOCKET": _errno.ENOTSOCK,
    "NOT_SUPPORTED": _errno.EOPNOTSUPP,
    "BROKEN_PIPE": _errno.EPIPE,
    "PERMISSION": _errno.EPERM,
    "TIMED_OUT": _errno.ETIMEDOUT,
    "NO_NAME": NO_NAME,
    "NO_DATA": NO_DATA,
    "RESOLVER_FAILED": RESOLVER_FAILED,
    "IO": _errno.EIO,
}
_numbers = [_ERRNO[kind.name] for kind in _sockets.Errno]

# Members of the host's enumerations, which are arguments.
Family, Kind, Direction = _sockets.Family, _sockets.Kind, _sockets.Direction
OptionName = _sockets.OptionName
ClientCertificates = _tls.ClientCertificates
# Records that are arguments, and need no replacement.
TlsIdentity, TlsOptions = _tls.Identity, _tls.Options
TlsSession = _tls.Session
FailureInvalid, FailureCertificate = _tls.Failure_Invalid, _tls.Failure_Certificate
FailureAlert, FailureProtocol = _tls.Failure_Alert, _tls.Failure_Protocol
FailureTruncated, FailureDenied = _tls.Failure_Truncated, _tls.Failure_Denied

# Answers of a TLS session in place of data: it needs more bytes, or the
# peer has ended it; a handshake is done. Data is bytes, a greeting a pair.
WANT_READ, END, DONE = "want-read", "end", "done"


def _replace():
    # A class with a `__new__` in Python takes as long as a third of a call.
    componentize_py_types.Ok = _same
    componentize_py_types.Err = Failure
    for kind in (
        SocketAddress_Ip,
        SocketAddress_Unix,
        IpSocketAddress_Ipv4,
        IpSocketAddress_Ipv6,
        IpAddress_Ipv4,
        IpAddress_Ipv6,
        Ipv4SocketAddress,
        Ipv6SocketAddress,
    ):
        setattr(_types, kind.__name__, kind)
    _sockets.Errno = _numbers.__getitem__
    _sockets.Failure = _pair
    _sockets.Datagram = _pair
    _tls.ClientHello = _pair
    _tls.Incoming_Data = _tls.Progress_Greeted = _same
    _tls.Incoming_WantRead = _tls.Progress_WantRead = _Constant(WANT_READ)
    _tls.Incoming_End = _Constant(END)
    _tls.Progress_Done = _Constant(DONE)


class _Constant:
    """Returns one value. Each instance differs from each other, as the keys of
    the cases of a variant have to."""

    def __init__(self, value):
        self._value = value

    def __call__(self):
        return self._value


class _Number(Exception):
    """Carries the number of a call."""


def _number(function):
    """Returns the number by which a generated function calls the host."""

    def note(index, _arguments):
        raise _Number(index)

    function = getattr(function, "__func__", function)
    componentize_py_runtime.call_import = note
    try:
        function(*[None] * function.__code__.co_argcount)
    except _Number as found:
        return found.args[0]
    finally:
        componentize_py_runtime.call_import = call
    raise ImportError(f"{function.__name__} does not call the host")


_replace()

OPEN = _number(_sockets.open)
PAIR = _number(_sockets.pair)
DUPLICATE = _number(_sockets.duplicate)
CLOSE = _number(_sockets.close)
BIND = _number(_sockets.bind)
LISTEN = _number(_sockets.listen)
ACCEPT = _number(_sockets.accept)
CONNECT = _number(_sockets.connect)
RECEIVE = _number(_sockets.receive)
PEEK = _number(_sockets.peek)
RECEIVE_FROM = _number(_sockets.receive_from)
RECEIVE_TLS = _number(_sockets.receive_tls)
SEND = _number(_sockets.send)
SEND_TLS = _number(_sockets.send_tls)
SEND_TO = _number(_sockets.send_to)
SEND_FILE = _number(_sockets.send_file)
SHUTDOWN = _number(_sockets.shutdown)
LOCAL_ADDRESS = _number(_sockets.local_address)
PEER_ADDRESS = _number(_sockets.peer_address)
GET_OPTION = _number(_sockets.get_option)
SET_OPTION = _number(_sockets.set_option)
TAKE_ERROR = _number(_sockets.take_error)
LOOK_UP = _number(_sockets.look_up)
FOUND = _number(_sockets.found)
SIGNALS = _number(_sockets.signals)
TAKE_SIGNAL = _number(_sockets.take_signal)
AWAIT_INPUT = _number(_sockets.await_input)
WATCH_LIST = _number(_sockets.watch_list)
WATCH = _number(_sockets.watch)
FORGET = _number(_sockets.forget)
WAIT = _number(_sockets.wait)

EXIT = _number(_exit.exit_with_code)

TLS_CONNECT = _number(TlsSession.connect)
TLS_ACCEPT = _number(TlsSession.accept)
TLS_ANSWER = _number(TlsSession.answer)
TLS_REFUSE = _number(TlsSession.refuse)
TLS_FEED = _number(TlsSession.feed)
TLS_FEED_END = _number(TlsSession.feed_end)
TLS_TAKE = _number(TlsSession.take)
TLS_HANDSHAKE = _number(TlsSession.handshake)
TLS_READ = _number(TlsSession.read)
TLS_WRITE = _number(TlsSession.write)
TLS_EXCHANGE = _number(TlsSession.exchange)
TLS_ENCRYPT = _number(TlsSession.encrypt)
TLS_CLOSE = _number(TlsSession.close)
TLS_PENDING = _number(TlsSession.pending)
TLS_ALPN = _number(TlsSession.alpn)
TLS_VERSION = _number(TlsSession.version)
TLS_CIPHER = _number(TlsSession.cipher)
TLS_PEER_CERTIFICATES = _number(TlsSession.peer_certificates)
TLS_RESUMED = _number(TlsSession.resumed)
TLS_EXPORT = _number(TlsSession.export)
