#!/usr/bin/env bash
# uvloop 0.23.0, beside asyncio; aiohttp 3.14.5, and httpx 0.28.1 with anyio 4.16.0 (all PyPI);
# Linux.
#
# Question: does a program that uses Unix sockets run on uvloop as it does on asyncio?
# Guess: yes. uvloop is to replace asyncio's loop with no other change, and its server does
# listen at an abstract address (one that begins with a zero byte, and has no file).
# Seen: a client cannot connect to such an address, not even to that of its own server: EINVAL,
# "Invalid argument", and so with aiohttp's UnixConnector. httpx can, as anyio connects by
# itself. `create_datagram_endpoint` raises TypeError for a path, though it takes a socket
# that is bound to one.
# Why it matters: uvicorn and others take uvloop by themselves where it is installed. D-Bus,
# containers and supervisors use abstract addresses; syslog and readiness messages of
# systemd go by datagrams. Connect such a socket by hand, and give it as `sock`.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install uvloop==0.23.0 aiohttp==3.14.5 \
    httpx==0.28.1 anyio==4.16.0
cat >ask.py <<'PYTHON'
import asyncio
import os
import secrets
import socket

import aiohttp
import httpx
import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


async def answer(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(ANSWER)
    await writer.drain()
    writer.close()


async def by_asyncio_streams(address):
    reader, writer = await asyncio.open_unix_connection(address)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return (await reader.read())[-2:].decode()


async def by_a_socket(address):
    client = socket.socket(socket.AF_UNIX)
    client.connect(address)
    client.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=client)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return (await reader.read())[-2:].decode()


async def by_aiohttp(address):
    connector = aiohttp.UnixConnector(address)
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get("http://localhost/") as response:
            return await response.text()


async def by_httpx(address):
    transport = httpx.AsyncHTTPTransport(uds=address)
    async with httpx.AsyncClient(transport=transport) as client:
        return (await client.get("http://localhost/")).text


class Receiver(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, address):
        self.received.set_result(data.decode())


async def datagram(address, **how):
    loop = asyncio.get_running_loop()
    transport, receiver = await loop.create_datagram_endpoint(Receiver, **how)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"ok", address)
    seen = await receiver.received
    transport.close()
    return seen


async def datagrams_to_a_path(name):
    return await datagram(name, family=socket.AF_UNIX, local_addr=name)


async def datagrams_to_a_socket(name):
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bound.bind(name)
    bound.setblocking(False)
    return await datagram(name, sock=bound)


async def tell(ask, address):
    try:
        seen = await asyncio.wait_for(ask(address), 30)
    except (OSError, TypeError, httpx.HTTPError) as error:
        seen = type(error).__name__
    print(f"  {ask.__name__}: {seen}", flush=True)


async def main():
    for kind, address in (
        ("a path", os.path.abspath(secrets.token_hex(4))),
        ("an abstract address", "\0" + secrets.token_hex(16)),
    ):
        print(f" {kind}", flush=True)
        server = await asyncio.start_unix_server(answer, address)
        for ask in (by_asyncio_streams, by_a_socket, by_aiohttp, by_httpx):
            await tell(ask, address)
        server.close()
    print(" datagrams", flush=True)
    for ask in (datagrams_to_a_path, datagrams_to_a_socket):
        await tell(ask, os.path.abspath(secrets.token_hex(4)))


for runner in (asyncio, uvloop):
    print(runner.__name__, flush=True)
    runner.run(main())
PYTHON
timeout -v 120 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
asyncio
 a path
  by_asyncio_streams: ok
  by_a_socket: ok
  by_aiohttp: ok
  by_httpx: ok
 an abstract address
  by_asyncio_streams: ok
  by_a_socket: ok
  by_aiohttp: ok
  by_httpx: ok
 datagrams
  datagrams_to_a_path: ok
  datagrams_to_a_socket: ok
uvloop
 a path
  by_asyncio_streams: ok
  by_a_socket: ok
  by_aiohttp: ok
  by_httpx: ok
 an abstract address
  by_asyncio_streams: OSError
  by_a_socket: ok
  by_aiohttp: UnixClientConnectorError
  by_httpx: ok
 datagrams
  datagrams_to_a_path: TypeError
  datagrams_to_a_socket: ok
SEEN
