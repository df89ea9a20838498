#!/usr/bin/env bash
# aiohttp 3.14.5 and websockets 16.0 (PyPI).
#
# Question: which close code does a program see when the other side closes a WebSocket
# with a close frame that has no payload, as `close()` without arguments sends it in
# browsers?
# Guess: 1005 in both roles, which RFC 6455 (7.1.5) has for just this: closed cleanly, no
# status was given.
# Seen: `websockets` says 1005. aiohttp's server says 0, which is no close code. aiohttp's
# client takes the frame for an answer that is still to come: it waits for another one,
# and says 1006, the code of a connection that broke. Both answer with 1000.
# Why it matters: programs reconnect, and count an error, at 1006. A server that closes
# for maintenance should send a code for them, even if it has nothing to say.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install --only-binary :all: \
    aiohttp==3.14.5 websockets==16.0
cd "$dir"
timeout -v 120 venv/bin/python - <<'PYTHON' | tee seen
import asyncio
import base64
import hashlib

import aiohttp
import websockets
from aiohttp import web

CLOSE = b"\x88\x00"
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def close_at_once(reader, writer):
    """A server that closes without a code, and then waits for the answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
    key = {name.lower(): value for name, value in fields.items()}["sec-websocket-key"]
    accept = base64.b64encode(hashlib.sha1(key.encode() + MAGIC).digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n" + CLOSE
    )
    await reader.read(1)
    writer.close()


async def clients():
    server = await asyncio.start_server(close_at_once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"http://127.0.0.1:{port}/") as socket:
            async for _ in socket:
                pass
            print("client of aiohttp:", socket.close_code)
    async with websockets.connect(f"ws://127.0.0.1:{port}/") as socket:
        await socket.wait_closed()
        print("client of websockets:", socket.close_code)


async def of_aiohttp(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for _ in socket:
        pass
    print("server of aiohttp:", socket.close_code)
    return socket


async def of_websockets(socket):
    await socket.wait_closed()
    print("server of websockets:", socket.close_code)


async def close_as_browsers_do(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    # That frame, masked.
    writer.write(b"\x88\x80\x00\x00\x00\x00")
    await reader.read()
    writer.close()


async def servers():
    application = web.Application()
    application.router.add_get("/", of_aiohttp)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    await close_as_browsers_do(runner.addresses[0][1])
    await runner.cleanup()
    async with websockets.serve(of_websockets, "127.0.0.1", 0) as server:
        await close_as_browsers_do(server.sockets[0].getsockname()[1])


asyncio.run(clients())
asyncio.run(servers())
PYTHON
diff seen - <<'SEEN'
client of aiohttp: 1006
client of websockets: 1005
server of aiohttp: 0
server of websockets: 1005
SEEN
