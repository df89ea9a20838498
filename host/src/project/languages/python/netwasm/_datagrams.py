"""Datagrams: transports for asyncio's datagram protocols."""

import asyncio
from collections.abc import Callable
from typing import Any

from componentize_py_types import Err
from wit_world.imports import datagrams
from wit_world.imports.types import Error, IpSocketAddress, SocketId

from ._addresses import from_wire, to_wire
from ._errors import exception
from ._loop import loop


class DatagramTransport(asyncio.DatagramTransport):
    """A socket of the host's listener (`--udp`)."""

    __slots__ = ("_id", "_protocol")

    def __init__(self, socket: SocketId) -> None:
        self._id = socket

    def sendto(self, data: bytes | bytearray | memoryview, addr: tuple | None = None) -> None:
        """Sends a datagram to an address: that of a peer who has sent one, or
        one that `--allow-udp` allows. Raises OSError."""
        if addr is None:
            raise ValueError("the socket has no peer of its own: name the address")
        if type(data) is not bytes:
            data = bytes(data)
        try:
            datagrams.send_to(self._id, data, to_wire(addr))
        except Err as error:
            raise exception(error.value) from None

    def close(self) -> None:
        datagrams.close(self._id)

    def abort(self) -> None:
        datagrams.abort(self._id)

    def is_closing(self) -> bool:
        return datagrams.is_closing(self._id)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns `sockname`."""
        local = datagrams.local_address(self._id) if name == "sockname" else None
        return default if local is None else from_wire(local)


_live: dict[int, DatagramTransport] = {}

_factory: Callable[[], asyncio.BaseProtocol] | None = None


def create_datagram_endpoint(
    protocol_factory: Callable[[], asyncio.BaseProtocol], **ignored: Any
) -> None:
    """Gives the sockets of `--udp` a protocol."""
    global _factory
    _factory = protocol_factory


class UdpHandler:
    """The events of datagram sockets."""

    def connection_made(self, socket: SocketId) -> int:
        token = loop.token()
        if _factory is None:
            datagrams.close(socket)
            raise RuntimeError("no protocol: call netwasm.create_datagram_endpoint")
        transport = _live[token] = DatagramTransport(socket)
        transport._protocol = _factory()
        self._call("connection_made", lambda: transport._protocol.connection_made(transport))
        return token

    def datagram_received(self, token: int, data: bytes, peer: IpSocketAddress) -> None:
        if (transport := _live.get(token)) is None:
            return
        try:
            transport._protocol.datagram_received(data, from_wire(peer))
        except Exception as error:
            loop.failed("datagram_received of a protocol failed", error)
        loop.settle()

    def error_received(self, token: int, error: Error, peer: IpSocketAddress | None) -> None:
        if (transport := _live.get(token)) is not None:
            made = exception(error)
            made.peer = None if peer is None else from_wire(peer)
            self._call("error_received", lambda: transport._protocol.error_received(made))

    def connection_lost(self, token: int, reason: Error | None) -> None:
        if (transport := _live.pop(token, None)) is not None:
            error = None if reason is None else exception(reason)
            self._call("connection_lost", lambda: transport._protocol.connection_lost(error))

    def _call(self, what: str, function: Callable[[], Any]) -> None:
        try:
            function()
        except Exception as error:
            loop.failed(f"{what} of a protocol failed", error)
        loop.settle()
