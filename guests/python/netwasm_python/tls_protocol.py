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

from netwasm_python import tls

_WRAPPED = sslproto.SSLProtocolState.WRAPPED
# Larger pieces may not fit into the session at once.
_MOST_WRITTEN = 64 * 1024

_Protocol = sslproto.SSLProtocol
_Transport = selector_events._SelectorSocketTransport
_stock_init = _Protocol.__init__
_stock_write_appdata = _Protocol._write_appdata
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
            if (
                session._dry
                and not self._outgoing._size
                and not self._write_backlog
                and not self._app_writing_paused
                and not self._ssl_reading_paused
                # Of 0 bytes: what holds none has too many.
                and self._incoming_high_water
                and self._outgoing_high_water
            ):
                return
    except Exception as error:
        self._fatal_error(error, "Fatal error on SSL protocol")
    else:
        self._do_read()


def _write_appdata(self, list_of_data):
    session = self._sslobj._sslobj
    if (
        self._state is not _WRAPPED
        or self._write_backlog
        or self._ssl_writing_paused
        or self._app_writing_paused
        or self._outgoing._size
        or not self._outgoing_high_water
        or type(session) is not tls._SSLSocket
        or session._closed
        or type(list_of_data) is not tuple
        or len(list_of_data) != 1
        or type(list_of_data[0]) is not bytes
        or len(list_of_data[0]) > _MOST_WRITTEN
    ):
        _stock_write_appdata(self, list_of_data)
        return
    data = list_of_data[0]
    try:
        encrypted, written = session.encrypt(data)
        self._transport.write(encrypted)
    except Exception as error:
        self._fatal_error(error, "Fatal error on SSL protocol")
    else:
        if written < len(data):
            _stock_write_appdata(self, (data[written:],))


def install():
    _Protocol.__init__ = __init__
    _Protocol._write_appdata = _write_appdata
    _Transport.set_protocol = set_protocol
    _Transport._read_ready__tls = _read_ready__tls
