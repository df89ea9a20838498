"""The way of data through asyncio's TLS, shortened for sessions of the host.

The stock one receives into a buffer, copies that into a `MemoryBIO`, and asks the
session for data until an exception says that there is none; what is written goes
through a second `MemoryBIO`. Here the host moves the bytes between socket and session,
where nothing else is going on:

    socket --bytes--> session --data--> the program's protocol
           <--bytes--         <--data-- its transport.write()

Handshakes and ends, protocols with buffers of their own, pauses, what finds no room
and what fails all take the stock way, which goes on from any point of this one.
"""

from asyncio import selector_events, sslproto

from netwasm_python import host, sockets, tls_session, waiting
from netwasm_python.tls_ends import PIECE

_call, _RECEIVE, _SEND = host.call, host.RECEIVE_TLS, host.SEND_TLS
_WRAPPED = sslproto.SSLProtocolState.WRAPPED
# Larger pieces may not fit into the session at once.
_MOST_WRITTEN = 64 * 1024

_Session = tls_session.Session
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
    if (
        protocol._state is not _WRAPPED
        or protocol._app_reading_paused
        or protocol._app_protocol_is_buffer
        or protocol._incoming._size
        or type(session := protocol._sslobj._sslobj) is not _Session
    ):
        _receive(self, protocol)
        return
    received = _call(_RECEIVE, [self._sock_fd, session._session, PIECE])
    if type(received) is not tuple:
        if received is None:
            self._read_ready__on_eof()
        elif received.value[0] not in sockets._AGAIN:
            self._fatal_error(
                waiting.failed(received), "Fatal read error on socket transport"
            )
        return
    data, more = received
    try:
        session._dry = not more
        if data:
            protocol._app_protocol.data_received(data)
        if more or _is_busy(protocol) or protocol._ssl_reading_paused:
            protocol._do_read()
    except (SystemExit, KeyboardInterrupt):
        raise
    except Exception as error:
        protocol._fatal_error(error, "Fatal error on SSL protocol")
    except BaseException as error:
        self._fatal_error(error, "Fatal error: protocol.buffer_updated() call failed.")


def _receive(self, protocol):
    """Goes the stock way."""
    try:
        data = self._sock.recv(PIECE)
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
        protocol._incoming.write(data)
        protocol.buffer_updated(0)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        self._fatal_error(error, "Fatal error: protocol.buffer_updated() call failed.")


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
    if (
        type(data) is bytes
        and protocol is not None
        and protocol._state is _WRAPPED
        and 0 < len(data) <= _MOST_WRITTEN
        and not _is_busy(protocol)
        and not protocol._ssl_writing_paused
        and type(session := protocol._sslobj._sslobj) is _Session
        and not session._closed
    ):
        _write(protocol, session, data)
    else:
        _stock_write(self, data)


def _write(self, session, data):
    """SSLProtocol._write_appdata(), where nothing else waits."""
    transport = self._transport
    try:
        if (
            type(transport) is _Transport
            and not transport._buffer
            and not transport._conn_lost
            and not transport._eof
            and transport._empty_waiter is None
        ):
            sent = _call(_SEND, [transport._sock_fd, session._session, data])
            if type(sent) is not tuple:
                transport._fatal_error(
                    waiting.failed(sent), "Fatal write error on socket transport"
                )
                return
        else:
            sent = _call(host.TLS_ENCRYPT, [session._session, data])
        encrypted, written = sent
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
