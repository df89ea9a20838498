"""Stands in for the C module `_socket`: sockets of the host, under Python's own
`socket.py`.

The host's sockets never block. One that blocks in Python waits in a watch list
after the host has said EAGAIN, which is what C does with poll(2).
"""

import errno as _errno
import operator as _operator
import os as _os
import time as _time
import warnings as _warnings

from netwasm_python import addresses as _addresses
from netwasm_python import host as _host
from netwasm_python import waiting as _waiting
from netwasm_python.addresses import *
from netwasm_python.socket_constants import *

error = OSError
timeout = TimeoutError
has_ipv6 = True
CAPI = None

_call = _host.call
_RECEIVE, _SEND, _SEND_TO = _host.RECEIVE, _host.SEND, _host.SEND_TO
_AGAIN = (_errno.EAGAIN, _errno.EWOULDBLOCK)
_MAX_RECEIVED = 1 << 20
# The number of what is closed: the host knows no such descriptor.
_CLOSED = 0xFFFF_FFFF

_FAMILIES = {AF_INET: _host.Family.INET, AF_INET6: _host.Family.INET6, AF_UNIX: _host.Family.UNIX}
_KINDS = {SOCK_STREAM: _host.Kind.STREAM, SOCK_DGRAM: _host.Kind.DATAGRAM}
_DIRECTIONS = {
    SHUT_RD: _host.Direction.RECEIVING,
    SHUT_WR: _host.Direction.SENDING,
    SHUT_RDWR: _host.Direction.BOTH,
}

_Option = _host.OptionName
_OPTIONS = {
    (SOL_SOCKET, SO_REUSEADDR): _Option.REUSE_ADDRESS,
    (SOL_SOCKET, SO_REUSEPORT): _Option.REUSE_PORT,
    (SOL_SOCKET, SO_BROADCAST): _Option.BROADCAST,
    (SOL_SOCKET, SO_KEEPALIVE): _Option.KEEP_ALIVE,
    (SOL_SOCKET, SO_RCVBUF): _Option.RECEIVE_BUFFER,
    (SOL_SOCKET, SO_SNDBUF): _Option.SEND_BUFFER,
    (SOL_SOCKET, SO_ACCEPTCONN): _Option.LISTENS,
    (IPPROTO_TCP, TCP_NODELAY): _Option.NO_DELAY,
    (IPPROTO_TCP, TCP_KEEPIDLE): _Option.KEEP_ALIVE_IDLE,
    (IPPROTO_TCP, TCP_KEEPINTVL): _Option.KEEP_ALIVE_INTERVAL,
    (IPPROTO_TCP, TCP_KEEPCNT): _Option.KEEP_ALIVE_COUNT,
    (IPPROTO_TCP, TCP_QUICKACK): _Option.QUICK_ACK,
    (IPPROTO_TCP, TCP_USER_TIMEOUT): _Option.USER_TIMEOUT,
    (IPPROTO_IPV6, IPV6_V6ONLY): _Option.ONLY_IPV6,
    (IPPROTO_IPV6, IPV6_UNICAST_HOPS): _Option.HOP_LIMIT,
    (IPPROTO_IPV6, IPV6_TCLASS): _Option.TRAFFIC_CLASS,
    (IPPROTO_IP, IP_TTL): _Option.HOP_LIMIT,
    (IPPROTO_IP, IP_TOS): _Option.TRAFFIC_CLASS,
}

_default_timeout = None


def getdefaulttimeout():
    return _default_timeout


def setdefaulttimeout(timeout, /):
    global _default_timeout
    _default_timeout = _checked_timeout(timeout)


def _checked_timeout(value):
    if value is None:
        return None
    value = float(value)
    if value < 0:
        raise ValueError("Timeout value out of range")
    return value


def _size(count, what):
    count = _operator.index(count)
    if count < 0:
        raise ValueError(f"negative buffersize in {what}")
    return min(count, _MAX_RECEIVED)


# As much as one call sends: more than most sockets have room for.
_ONE_SENDING = 256 * 1024


def _view(data):
    """The bytes of an object, without a copy."""
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(
            f"a bytes-like object is required, not '{type(data).__name__}'"
        ) from None
    return view.cast("B") if view.nbytes else memoryview(b"")


def _octets(data):
    """The bytes of an object, as the host takes them."""
    return data if type(data) is bytes else bytes(_view(data))


class socket:
    """_socket.socket"""

    __slots__ = ("_number", "_timeout", "_family", "_type", "_proto")

    def __init__(self, family=-1, type=-1, proto=-1, fileno=None):
        self._number = _CLOSED
        self._timeout = _default_timeout
        if fileno is not None:
            self._adopt(family, type, proto, fileno)
            return
        family = AF_INET if family == -1 else int(family)
        kind = SOCK_STREAM if type == -1 else int(type)
        if kind & SOCK_NONBLOCK:
            self._timeout = 0.0
        kind &= ~(SOCK_NONBLOCK | SOCK_CLOEXEC)
        if family not in _FAMILIES:
            raise _error(_errno.EAFNOSUPPORT)
        if kind not in _KINDS:
            raise PermissionError(
                _errno.EPERM, "a component has sockets of SOCK_STREAM and SOCK_DGRAM alone"
            )
        self._family, self._type, self._proto = family, kind, 0 if proto == -1 else int(proto)
        if self._proto not in (0, IPPROTO_TCP if kind == SOCK_STREAM else IPPROTO_UDP):
            raise _error(_errno.EPROTONOSUPPORT)
        self._number = _waiting.checked(
            _call(_host.OPEN, [_FAMILIES[family], _KINDS[kind]])
        )

    def _adopt(self, family, kind, proto, number):
        """Takes a descriptor that is open, and finds out what it is."""
        if not isinstance(number, int):
            raise TypeError(f"an integer is required, not {type(number).__name__}")
        if number < 0:
            raise ValueError("negative file descriptor")
        if number < _waiting.FIRST or number > _CLOSED:
            raise _error(_errno.ENOTSOCK if _is_open(number) else _errno.EBADF)
        address = _waiting.checked(_call(_host.LOCAL_ADDRESS, [number]))
        if family == -1:
            family = _addresses.family_of(address)
        if kind == -1:
            listens = _call(_host.GET_OPTION, [number, _Option.NO_DELAY])
            stream = family == AF_UNIX or type(listens) is int
            kind = SOCK_STREAM if stream else SOCK_DGRAM
        self._family, self._type = int(family), int(kind)
        self._proto = 0 if proto == -1 else int(proto)
        self._number = number

    @property
    def family(self):
        """the socket family"""
        return self._family

    @property
    def type(self):
        """the socket type"""
        return self._type

    @property
    def proto(self):
        """the socket protocol"""
        return self._proto

    @property
    def timeout(self):
        """the socket timeout"""
        return self._timeout

    def __repr__(self):
        return (
            f"<socket object, fd={self.fileno()}, family={self._family}, "
            f"type={self._type}, proto={self._proto}>"
        )

    def __del__(self):
        if self._number != _CLOSED:
            # As C does, and with the very words.
            _warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            number, self._number = self._number, _CLOSED
            _call(_host.CLOSE, [number])

    # Waiting

    def fileno(self):
        return -1 if self._number == _CLOSED else self._number

    def settimeout(self, timeout, /):
        self._timeout = _checked_timeout(timeout)

    def gettimeout(self):
        return self._timeout

    def setblocking(self, flag, /):
        self._timeout = None if flag else 0.0

    def getblocking(self):
        return self._timeout != 0.0

    def _until_done(self, failure, number, arguments, readiness):
        """Goes on with a call that has failed: waits and calls again where it
        only was too early, and the socket may block."""
        timeout = self._timeout
        until = None if timeout is None else _time.monotonic() + timeout
        while True:
            if failure.value[0] not in _AGAIN or timeout == 0.0:
                raise _waiting.failed(failure)
            left = None
            if until is not None:
                left = until - _time.monotonic()
                if left <= 0:
                    raise TimeoutError("timed out")
            if not _waiting.wait_for(self._number, readiness, left):
                raise TimeoutError("timed out")
            result = _call(number, arguments)
            if type(result) is not _host.Failure:
                return result
            failure = result

    # Receiving

    def recv(self, bufsize, flags=0, /):
        if flags or type(bufsize) is not int or not 0 <= bufsize <= _MAX_RECEIVED:
            return self._receive(bufsize, flags, "recv")
        data = _call(_RECEIVE, [self._number, bufsize])
        if type(data) is bytes:
            return data
        return self._until_done(data, _RECEIVE, [self._number, bufsize], _waiting.READABLE)

    def _receive(self, count, flags, what):
        count = _size(count, what)
        if not flags & MSG_WAITALL or flags & MSG_PEEK:
            return self._receive_once(count, flags)
        pieces, left = [], count
        while left:
            piece = self._receive_once(left, flags)
            pieces.append(piece)
            left -= len(piece)
            if not piece or self._type != SOCK_STREAM:
                break
        return b"".join(pieces)

    def _receive_once(self, count, flags):
        flags = int(flags)
        if flags & ~(MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT | MSG_NOSIGNAL | MSG_TRUNC):
            raise _error(_errno.EOPNOTSUPP)
        number = _host.PEEK if flags & MSG_PEEK else _RECEIVE
        data = _call(number, [self._number, count])
        if type(data) is bytes:
            return data
        if flags & MSG_DONTWAIT:
            raise _waiting.failed(data)
        return self._until_done(data, number, [self._number, count], _waiting.READABLE)

    def recv_into(self, buffer, nbytes=0, flags=0):
        if nbytes == 0 == flags and _is_plain(buffer):
            data = self.recv(min(len(buffer), _MAX_RECEIVED))
            buffer[: len(data)] = data
            return len(data)
        with memoryview(buffer) as view, view.cast("B") as octets:
            count = _room(octets, nbytes, "recv_into")
            data = self.recv(count, flags)
            octets[: len(data)] = data
        return len(data)

    def recvfrom(self, bufsize, flags=0, /):
        count = _size(bufsize, "recvfrom")
        if self._type == SOCK_STREAM:
            return self._receive(count, flags, "recvfrom"), None
        return self._datagram(count, flags)[:2]

    def _datagram(self, count, flags):
        flags = int(flags)
        if flags & ~(MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT | MSG_NOSIGNAL | MSG_TRUNC):
            raise _error(_errno.EOPNOTSUPP)
        if flags & MSG_PEEK:
            raise OSError(
                _errno.EOPNOTSUPP, "a datagram's sender is told when it is taken, not before"
            )
        arguments = [self._number, count]
        datagram = _call(_host.RECEIVE_FROM, arguments)
        if type(datagram) is _host.Failure:
            if flags & MSG_DONTWAIT:
                raise _waiting.failed(datagram)
            datagram = self._until_done(
                datagram, _host.RECEIVE_FROM, arguments, _waiting.READABLE
            )
        return datagram

    def recvfrom_into(self, buffer, nbytes=0, flags=0):
        with memoryview(buffer) as view, view.cast("B") as octets:
            count = _room(octets, nbytes, "recvfrom_into")
            data, address = self.recvfrom(count, flags)
            octets[: len(data)] = data
        return len(data), address

    def recvmsg(self, bufsize, ancbufsize=0, flags=0, /):
        count = _size(bufsize, "recvmsg")
        if self._type == SOCK_STREAM:
            return self._receive(count, flags, "recvmsg"), [], 0, None
        data, address, truncated = self._datagram(count, flags)
        return data, [], MSG_TRUNC if truncated else 0, address

    def recvmsg_into(self, buffers, ancbufsize=0, flags=0, /):
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        data, ancillary, flags, address = self.recvmsg(sum(map(len, views)), ancbufsize, flags)
        start = 0
        for view in views:
            piece = data[start : start + len(view)]
            view[: len(piece)] = piece
            start += len(piece)
        return len(data), ancillary, flags, address

    # Sending

    def send(self, data, flags=0, /):
        if type(data) is not bytes or len(data) > _ONE_SENDING:
            return self._send_unusual(data, flags)
        sent = _call(_SEND, [self._number, data])
        if sent == len(data) or type(sent) is int and self._timeout == 0.0:
            return sent
        return self._send_later(sent, data, flags)

    def _send_unusual(self, data, flags):
        """Sends a buffer, or much. What blocks sends all of it, what does not as
        much as a socket may have room for: the rest would be copied for
        nothing."""
        with _view(data) as view:
            if self._timeout == 0.0 and self._type == SOCK_STREAM:
                return self.send(bytes(view[:_ONE_SENDING]), flags)
            return self._send_later(0, view, flags)

    def _send_later(self, sent, data, flags):
        """Goes on with sending, after `sent` bytes or a failure."""
        if self._type != SOCK_STREAM:
            return self._send_rest(sent or None, bytes(data), flags)
        done = 0
        if type(sent) is int:
            done, sent = sent, None
        until = None if self._timeout is None else _time.monotonic() + self._timeout
        while done < len(data):
            try:
                done += self._send_rest(sent, bytes(data[done : done + _ONE_SENDING]), flags)
            except (BlockingIOError, TimeoutError):
                if done:
                    break
                raise
            sent = None
            if self._timeout == 0.0 or until is not None and _time.monotonic() >= until:
                break
        return done

    def _send_rest(self, failure, data, flags):
        arguments = [self._number, data]
        sent = _call(_SEND, arguments) if failure is None else failure
        if type(sent) is int:
            return sent
        if flags & MSG_DONTWAIT:
            raise _waiting.failed(sent)
        return self._until_done(sent, _SEND, arguments, _waiting.WRITABLE)

    def sendall(self, data, flags=0, /):
        with _view(data) as view:
            until = None if not self._timeout else _time.monotonic() + self._timeout
            sent = self.send(view, flags)
            while sent < len(view):
                if until is not None and _time.monotonic() >= until:
                    raise TimeoutError("timed out")
                sent += self.send(view[sent:], flags)

    def sendto(self, data, flags, address=None, /):
        if address is None:
            flags, address = 0, flags
        arguments = [self._number, _octets(data), _addresses.to_host(self._family, address)]
        sent = _call(_SEND_TO, arguments)
        if type(sent) is int:
            return sent
        if flags & MSG_DONTWAIT:
            raise _waiting.failed(sent)
        return self._until_done(sent, _SEND_TO, arguments, _waiting.WRITABLE)

    def sendmsg(self, buffers, ancdata=(), flags=0, address=None, /):
        if ancdata:
            raise OSError(_errno.EOPNOTSUPP, "a component's sockets carry no control messages")
        if self._type == SOCK_STREAM:
            data = _first_pieces(buffers)
        else:
            data = b"".join(buffers)
        if address is None:
            return self.send(data, flags)
        return self.sendto(data, flags, address)

    # Addresses

    def bind(self, address, /):
        _waiting.checked(
            _call(_host.BIND, [self._number, _addresses.to_host(self._family, address, True)])
        )

    def listen(self, backlog=128, /):
        _waiting.checked(_call(_host.LISTEN, [self._number, max(0, min(_operator.index(backlog), 65535))]))

    def _accept(self):
        accepted = _call(_host.ACCEPT, [self._number])
        if type(accepted) is not tuple:
            accepted = self._until_done(
                accepted, _host.ACCEPT, [self._number], _waiting.READABLE
            )
        return accepted

    def connect(self, address, /):
        failed = self._connect(address)
        if failed is not None:
            try:
                raise failed
            finally:
                # The exception knows this frame: no cycle for the collector.
                del failed

    def connect_ex(self, address, /):
        failed = self._connect(address)
        if failed is None:
            return 0
        if failed.errno is None:
            return _errno.EAGAIN  # timed out, as in C
        return failed.errno

    def _connect(self, address):
        """Connects, and returns an exception or None."""
        to = _addresses.to_host(self._family, address)
        result = _call(_host.CONNECT, [self._number, to])
        if result is None:
            return None
        if result.value[0] != _errno.EINPROGRESS or self._timeout == 0.0:
            return _waiting.failed(result)
        if not _waiting.wait_for(self._number, _waiting.WRITABLE, self._timeout):
            return TimeoutError("timed out")
        failure = _waiting.checked(_call(_host.TAKE_ERROR, [self._number]))
        if failure is None:
            return None
        return OSError(failure[0], failure[1] or _os.strerror(failure[0]))

    def getsockname(self):
        return _waiting.checked(_call(_host.LOCAL_ADDRESS, [self._number]))

    def getpeername(self):
        return _waiting.checked(_call(_host.PEER_ADDRESS, [self._number]))

    # The rest

    def shutdown(self, how, /):
        if _operator.index(how) not in _DIRECTIONS:
            raise _error(_errno.EINVAL)
        _waiting.checked(_call(_host.SHUTDOWN, [self._number, _DIRECTIONS[how]]))

    def close(self):
        number, self._number = self._number, _CLOSED
        if number != _CLOSED:
            close(number)

    def detach(self):
        number = self.fileno()
        self._number = _CLOSED
        return number

    def getsockopt(self, level, option, buflen=0, /):
        if buflen < 0 or buflen > 1024:
            raise OSError("getsockopt buflen out of range")
        value = self._option(int(level), int(option))
        if isinstance(value, bytes):
            return value[:buflen] if buflen else int.from_bytes(value[:4], "little")
        return value.to_bytes(4, "little", signed=True)[:buflen] if buflen else value

    def _option(self, level, option):
        if level == SOL_SOCKET:
            if option == SO_ERROR:
                failure = _waiting.checked(_call(_host.TAKE_ERROR, [self._number]))
                return 0 if failure is None else failure[0]
            if option in (SO_TYPE, SO_DOMAIN, SO_PROTOCOL):
                self.getsockname()
                return {SO_TYPE: self._type, SO_DOMAIN: self._family}.get(option, self._proto)
            if option == SO_LINGER:
                seconds = _waiting.checked(
                    _call(_host.GET_OPTION, [self._number, _Option.LINGER])
                )
                on = seconds >= 0
                return int(on).to_bytes(4, "little") + max(seconds, 0).to_bytes(4, "little")
        name = _OPTIONS.get((level, option))
        if name is None:
            raise _error(_errno.ENOPROTOOPT)
        return _waiting.checked(_call(_host.GET_OPTION, [self._number, name]))

    def setsockopt(self, level, option, value, optlen=None, /):
        if value is None:
            raise _error(_errno.ENOPROTOOPT)
        if not hasattr(value, "__index__"):
            value = _octets(value)
        level, option = int(level), int(option)
        if (level, option) == (SOL_SOCKET, SO_LINGER):
            name = _Option.LINGER
            octets = value if isinstance(value, bytes) else value.to_bytes(8, "little")
            on, seconds = (int.from_bytes(octets[at : at + 4], "little") for at in (0, 4))
            value = seconds if on else -1
        else:
            name = _OPTIONS.get((level, option))
            if isinstance(value, bytes):
                if len(value) < 4:
                    raise _error(_errno.EINVAL)
                value = int.from_bytes(value[:4], "little", signed=True)
        if name is None:
            raise _error(_errno.ENOPROTOOPT)
        if not -0x8000_0000 <= value <= 0x7FFF_FFFF:
            raise OverflowError("Python int too large to convert to C int")
        _waiting.checked(_call(_host.SET_OPTION, [self._number, name, int(value)]))


SocketType = socket


def _error(code):
    return OSError(code, _os.strerror(code))


def _is_open(number):
    try:
        _os.fstat(number)
    except OSError:
        return False
    return True


def _is_plain(buffer):
    """True of a view of bytes to write to, as asyncio's transports have: it needs no
    other view of it."""
    return (
        type(buffer) is memoryview
        and buffer.format == "B"
        and buffer.ndim == 1
        and buffer.contiguous
        and not buffer.readonly
    )


def _room(octets, wanted, what):
    """The number of bytes to receive into a buffer."""
    if octets.readonly:
        raise TypeError(f"{what}() argument 1 must be read-write bytes-like object")
    wanted = _operator.index(wanted)
    if wanted < 0:
        raise ValueError(f"negative buffersize in {what}")
    if wanted > len(octets):
        raise ValueError("buffer too small for requested bytes")
    return min(wanted or len(octets), _MAX_RECEIVED)


def _first_pieces(buffers):
    pieces, size = [], 0
    for buffer in buffers:
        pieces.append(buffer)
        size += len(buffer) if type(buffer) is bytes else memoryview(buffer).nbytes
        if size >= _ONE_SENDING:
            break
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def close(fd, /):
    """socket.close(), of a descriptor."""
    if fd < _waiting.FIRST:
        _os.close(fd)
        return
    failure = _call(_host.CLOSE, [fd])
    if failure is not None and failure.value[0] != _errno.ECONNRESET:
        raise _waiting.failed(failure)


def dup(fd, /):
    """socket.dup(), of a descriptor."""
    if fd < _waiting.FIRST:
        return _os.dup(fd)
    return _waiting.checked(_call(_host.DUPLICATE, [fd]))


def socketpair(family=AF_UNIX, type=SOCK_STREAM, proto=0, /):
    if (family, type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != (AF_UNIX, SOCK_STREAM):
        raise OSError(_errno.EOPNOTSUPP, "a pair is of AF_UNIX and SOCK_STREAM here")
    pair = _waiting.checked(_call(_host.PAIR, []))
    return tuple(socket(family, type, proto, number) for number in pair)
