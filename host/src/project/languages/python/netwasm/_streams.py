"""Byte streams: transports for asyncio's protocols."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from componentize_py_types import Err, Ok
from wit_world.imports import connector, transports
from wit_world.imports.files import File
from wit_world.imports.types import (
    ConnectOptions,
    ConnectionId,
    Endpoint_Name,
    Endpoint_Unix,
    Error,
    TlsInfo,
    TlsOptions,
    TlsRole_Client,
    TlsRole_Server,
)

from ._addresses import end, ip_to_wire
from ._errors import checked, exception
from ._loop import loop

HIGH = 64 << 10


@dataclass
class TLS:
    """Options of a TLS session, where asyncio takes an `SSLContext`. `authority`
    and `identity` are names of `--tls-authority` and `--tls-identity`."""

    server_name: str | None = None
    alpn: list[str] = field(default_factory=list)
    authority: str | None = None
    identity: str | None = None

    def wire(self, name: str | None) -> TlsOptions:
        return TlsOptions(
            server_name=self.server_name or name,
            alpn=self.alpn,
            authority=self.authority,
            identity=self.identity,
        )


class Transport(asyncio.Transport):
    """A connection. All that asyncio's transports have, and more at the end."""

    __slots__ = (
        "_id", "_token", "_protocol", "_info", "_full", "_reading", "_waiting", "_upgrade", "_lost",
    )

    def __init__(self, connection: ConnectionId, token: int) -> None:
        self._id = connection
        self._token = token
        self._info: dict[str, Any] | None = None
        # True while the protocol was told to pause writing.
        self._full = False
        self._reading = True
        # Those who wait for room.
        self._waiting: list[asyncio.Future] = []
        self._upgrade: asyncio.Future | None = None
        self._lost = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if type(data) is not bytes:
            data = bytes(data)
        if data and not transports.write(self._id, data):
            self._pause()

    def writelines(self, list_of_data) -> None:
        if not transports.writelines(self._id, [bytes(data) for data in list_of_data]):
            self._pause()

    def write_eof(self) -> None:
        checked(transports.write_eof, self._id)

    def can_write_eof(self) -> bool:
        return transports.can_write_eof(self._id)

    def close(self) -> None:
        transports.close(self._id)

    def abort(self) -> None:
        transports.abort(self._id)

    def is_closing(self) -> bool:
        return self._lost or transports.is_closing(self._id)

    def pause_reading(self) -> None:
        self._reading = False
        transports.pause_reading(self._id)

    def resume_reading(self) -> None:
        self._reading = True
        transports.resume_reading(self._id)

    def is_reading(self) -> bool:
        return self._reading and not self.is_closing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        transports.set_write_buffer_limits(self._id, high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        high, low = transports.get_write_buffer_limits(self._id)
        return low, high

    def get_write_buffer_size(self) -> int:
        return transports.get_write_buffer_size(self._id)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns `peername`, `sockname`, or of a TLS session: `tls` (all of it),
        `cipher`, `alpn`, `server_name`, `peercert` (DER)."""
        if self._info is None:
            self._info = extra(transports.info(self._id))
        return self._info.get(name, default)

    # Methods that asyncio's transports do not have.

    def start_tls(
        self, options: Any = True, server_side: bool = False, server_hostname: str | None = None,
        received: bytes = b"",
    ) -> Awaitable[None]:
        """Begins the handshake. The answer may be awaited."""
        if server_side:
            role = TlsRole_Server()
        else:
            role = TlsRole_Client(tls(options).wire(server_hostname))
        checked(transports.start_tls, self._id, role, bytes(received))
        self._upgrade = loop.create_future()
        return self._upgrade

    def relay(self, to: "Transport") -> None:
        """Copies all that arrives here to another transport, inside the host."""
        checked(transports.relay, self._id, to._id)

    def send_file(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Sends a file of `--dir`, by its path or as an open file, after what was
        written before. Returns the number of bytes that will be sent."""
        path = file if isinstance(file, str | os.PathLike) else file.name
        with checked(File.open, os.fspath(path)) as opened:
            sent = checked(transports.send_file, self._id, opened, offset, count)
        if not transports.room(self._id):
            self._pause()
        return sent

    def set_idle_timeout(self, seconds: float | None) -> None:
        """Loses the connection when nothing has moved for that long."""
        after = None if seconds is None else int(seconds * 1e9)
        transports.set_idle_timeout(self._id, after)

    async def drain(self) -> None:
        """Waits until there is room."""
        if self._full and not self._lost:
            future = loop.create_future()
            self._waiting.append(future)
            await future

    # Events.

    def _begin(self, protocol: asyncio.BaseProtocol) -> None:
        _live[self._token] = self
        self._protocol = protocol
        protocol.connection_made(self)

    def _pause(self) -> None:
        if not self._full:
            self._full = True
            self._protocol.pause_writing()

    def _writable(self) -> None:
        self._release()
        if self._full:
            self._full = False
            self._protocol.resume_writing()

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _tls_started(self, info: TlsInfo) -> None:
        self._info = None
        upgrade, self._upgrade = self._upgrade, None
        if upgrade is not None and not upgrade.done():
            upgrade.set_result(None)

    def _end(self, reason: Error | None) -> None:
        error = None if reason is None else exception(reason)
        self._lost = True
        self._release()
        upgrade, self._upgrade = self._upgrade, None
        if upgrade is not None and not upgrade.done():
            upgrade.set_exception(error or ConnectionResetError("the connection was closed"))
            # A caller that used a callback instead of waiting hears of it there.
            upgrade.exception()
        self._protocol.connection_lost(error)


# The connections of this instance, by their tokens.
_live: dict[int, Transport] = {}

_connecting: dict[int, tuple[asyncio.Future, Callable[[], asyncio.BaseProtocol]]] = {}

_factory: Callable[[], asyncio.BaseProtocol] | None = None


def create_server(protocol_factory: Callable[[], asyncio.BaseProtocol], **ignored: Any) -> None:
    """Gives every connection that is accepted (`--tcp`, `--tls`) a protocol."""
    global _factory
    _factory = protocol_factory


def start_server(
    client_connected_cb: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
    *, limit: int = 64 << 10,
) -> None:
    """Gives every connection that is accepted a coroutine with two streams.

    When it returns, the connection is closed; if it raises, it is aborted.
    """

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            result = client_connected_cb(reader, writer)
            if result is not None:
                await result
        except BaseException as error:
            writer.transport.abort()
            # A peer that has gone is no fault of the handler.
            if not (writer.transport._lost and isinstance(error, ConnectionError)):
                raise
        else:
            writer.close()

    def factory() -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        return asyncio.StreamReaderProtocol(reader, client, loop=loop)

    create_server(factory)


async def connect(protocol_factory, to, ssl, server_hostname, timeout, local_addr):
    """`create_connection`."""
    wait = None if timeout is None else int(timeout * 1e9)
    token, future = loop.token(), loop.create_future()
    if isinstance(to, tuple) and str(to[0]).startswith("@"):
        if ssl or local_addr is not None:
            raise ValueError("the options of a group of servers are those of --upstream")
        checked(connector.connect_upstream, token, to[0][1:], wait)
    else:
        checked(connector.connect, token, *_endpoint(to, ssl, server_hostname, wait, local_addr))
    _connecting[token] = (future, protocol_factory)
    try:
        return await future
    finally:
        if _connecting.pop(token, None) is not None:
            connector.cancel(token)


def _endpoint(to, ssl, server_hostname, wait, local_addr):
    """The host's form of whom to connect to, and how."""
    if isinstance(to, tuple):
        endpoint = Endpoint_Name((str(to[0]), int(to[1])))
    else:
        endpoint = Endpoint_Unix(os.fspath(to))
    options = ConnectOptions(
        tls=tls(ssl).wire(server_hostname) if ssl else None,
        timeout=wait,
        local_address=None if local_addr is None else ip_to_wire(local_addr[0]),
    )
    return endpoint, options


def tls(given: Any) -> TLS:
    if isinstance(given, TLS):
        return given
    if given is True:
        return TLS()
    raise TypeError(f"ssl must be True or a netwasm.TLS, not {type(given).__name__}")


def extra(info) -> dict[str, Any]:
    """Returns what `get_extra_info` knows."""
    known = {"peername": end(info.peer), "sockname": end(info.local)}
    session = info.tls
    if session is not None:
        known |= {
            "tls": session,
            # asyncio's streams look whether there is one.
            "sslcontext": session,
            "cipher": (session.cipher, session.version, None),
            "alpn": session.alpn,
            "server_name": session.server_name,
            "peercert": next(iter(session.peer_certificates), None),
        }
    return known


class TcpHandler:
    """The events of connections. A protocol that raises loses its connection,
    and the log has what it raised."""

    def connection_made(self, connection: ConnectionId) -> int:
        transport = Transport(connection, loop.token())
        if _factory is None:
            transport.abort()
            raise RuntimeError("no protocol: call netwasm.create_server or start_server")
        self._call(transport, "connection_made", lambda: transport._begin(_factory()))
        return transport._token

    def data_received(self, token: int, data: bytes) -> None:
        transport = _live.get(token)
        if transport is None:
            return
        try:
            transport._protocol.data_received(data)
        except Exception as error:
            _fail(transport, "data_received", error)
        loop.settle()

    def eof_received(self, token: int) -> bool:
        transport = _live.get(token)
        if transport is None:
            return False
        keep = self._call(transport, "eof_received", lambda: transport._protocol.eof_received())
        return bool(keep)

    def writable(self, token: int) -> None:
        if (transport := _live.get(token)) is not None:
            self._call(transport, "resume_writing", transport._writable)

    def tls_started(self, token: int, info: TlsInfo) -> None:
        if (transport := _live.get(token)) is not None:
            self._call(transport, "start_tls", lambda: transport._tls_started(info))

    def connection_lost(self, token: int, reason: Error | None) -> None:
        if (transport := _live.pop(token, None)) is not None:
            self._call(transport, "connection_lost", lambda: transport._end(reason))

    def _call(self, transport: Transport, what: str, function: Callable[[], Any]) -> Any:
        result = None
        try:
            result = function()
        except Exception as error:
            _fail(transport, what, error)
        loop.settle()
        return result


def _fail(transport: Transport, what: str, error: Exception) -> None:
    loop.failed(f"{what} of a protocol failed", error)
    transport.abort()


class ConnectHandler:
    def connected(self, token: int, outcome: Ok | Err) -> None:
        future, factory = _connecting.pop(token, (None, None))
        if isinstance(outcome, Err):
            if future is not None and not future.done():
                future.set_exception(exception(outcome.value))
        elif future is None or future.done():
            transports.abort(outcome.value)
        else:
            transport = Transport(outcome.value, token)
            try:
                transport._begin(factory())
                future.set_result((transport, transport._protocol))
            except Exception as error:
                transport.abort()
                future.set_exception(error)
        loop.settle()
