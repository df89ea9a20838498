"""The way of data through asyncio's TLS, shortened for sessions of the host.

The stock one receives into a buffer, copies that into a `MemoryBIO`, and asks the
session for data until an exception says that there is none; what is written goes
through a second `MemoryBIO`. Here bytes pass between transport and session as they
are, where nothing else is going on:

    _SelectorSocketTransport --bytes--> session --data--> the program's protocol
                             <--bytes--         <--data-- its transport.write()

Handshakes and ends, protocols with buffers of their own, pauses, what finds no room
and what fails all take the stock way, which goes on from any point of this one.
"""

from asyncio import selector_events, sslproto

from netwasm_python import host, sockets, tls, waiting

_call, _SEND = host.call, host.SEND
_WRAPPED = sslproto.SSLProtocolState.WRAPPED
# Larger pieces may not fit into the session at once.
_MOST_WRITTEN = 64 * 1024

_Protocol = sslproto.SSLProtocol
_Transport = selector_events._SelectorSocketTransport
_stock_init = _Protocol.__init__
_stock_write = sslproto._SSLProtocolTransport.write
_stock_set_protocol = _Transport.set_protocol


def __init__(self, *arguments, **named):
    # get_buffer() makes the buffer of 256 KiB when it is needed first.
    self.max_size = 0
    try:
        _stock_init(self, *arguments, **named)
    finally:
        del self.max_size


def set_protocol(self, protocol):
    _stock_set_protocol(self, protocol)
    if type(protocol) is _Protocol:
        self._read_ready_cb = self._read_ready__tls


def _read_ready__tls(self):
    """Like _read_ready__get_buffer(), without a buffer."""
    if self._conn_lost:
        return
    protocol = self._protocol
    try:
        data = self._sock.recv(_Protocol.max_size)
    except (BlockingIOError, InterruptedError):
        return
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        self._fatal_error(error, "Fatal read error on socket transport")
        return
    if not data:
        self._read_ready__on_eof()
        return
    try:
        _take(protocol, data)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        self._fatal_error(error, "Fatal error: protocol.buffer_updated() call failed.")


def _take(self, data):
    """SSLProtocol.buffer_updated(), of bytes that are in no buffer."""
    session = self._sslobj._sslobj
    if (
        self._state is not _WRAPPED
        or self._app_reading_paused
        or self._app_protocol_is_buffer
        or self._incoming._size
        or type(session) is not tls._SSLSocket
    ):
        self._incoming.write(data)
        self.buffer_updated(0)
        return
    try:
        data = session.exchange(data)
        if data:
            self._app_protocol.data_received(data)
            if session._dry and not _is_busy(self) and not self._ssl_reading_paused:
                return
    except Exception as error:
        self._fatal_error(error, "Fatal error on SSL protocol")
    else:
        self._do_read()


def _is_busy(self):
    """True if something waits to be sent, or to be told to a program that has too much."""
    return (
        self._outgoing._size
        or self._write_backlog
        or self._app_writing_paused
        # Of 0 bytes: what holds none has too many.
        or not self._outgoing_high_water
        or not self._incoming_high_water
    )


def write(self, data):
    protocol = self._ssl_protocol
    if type(data) is bytes and data and protocol is not None:
        session = protocol._sslobj._sslobj
        if (
            protocol._state is _WRAPPED
            and len(data) <= _MOST_WRITTEN
            and not _is_busy(protocol)
            and not protocol._ssl_writing_paused
            and type(session) is tls._SSLSocket
            and not session._closed
        ):
            _write(protocol, session, data)
            return
    _stock_write(self, data)


def _write(self, session, data):
    """SSLProtocol._write_appdata(), where nothing else waits."""
    try:
        encrypted, written = session.encrypt(data)
        transport = self._transport
        if (
            type(transport) is _Transport
            and not transport._buffer
            and not transport._conn_lost
            and not transport._eof
            and transport._empty_waiter is None
        ):
            sent = _call(_SEND, [transport._sock_fd, encrypted])
            if sent == len(encrypted):
                encrypted = b""
            elif type(sent) is int:
                encrypted = memoryview(encrypted)[sent:]
            elif sent.value[0] not in sockets._AGAIN:
                transport._fatal_error(
                    waiting.failed(sent), "Fatal write error on socket transport"
                )
                return
        if encrypted:
            transport.write(encrypted)
    except Exception as error:
        self._fatal_error(error, "Fatal error on SSL protocol")
    else:
        if written < len(data):
            self._write_appdata((data[written:],))


def install():
    _Protocol.__init__ = __init__
    sslproto._SSLProtocolTransport.write = write
    _Transport.set_protocol = set_protocol
    _Transport._read_ready__tls = _read_ready__tls
