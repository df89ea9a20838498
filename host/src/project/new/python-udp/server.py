"""Sends each datagram back."""

import asyncio

import netwasm


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple) -> None:
        self.transport.sendto(data, addr)


netwasm.create_datagram_endpoint(Echo)
