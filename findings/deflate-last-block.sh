#!/usr/bin/env bash
# websockets 17.4, Tornado 6.6.1, wsproto 1.3.2, aiohttp 3.14.5 (PyPI), undici 7.30.2 and ws
# 8.23.0 (npm): clients with permessage-deflate.
#
# Question: is a message read that follows one whose last DEFLATE block is marked as last
# (BFINAL)?
# Guess: yes. RFC 7692 (7.2.3.4) lets a sender set the bit and shows the bytes, and after
# such a block a new one begins, also where the window is kept from message to message.
# Seen: all read the marked message. After it aiohttp and ws read on. websockets, Tornado and
# undici give every later message as an empty text, without an error, for the rest of the
# connection; wsproto ends the connection with 1007.
# Why it matters: a compressor that finishes each message on its own (zlib's Z_FINISH) makes
# such blocks. The first message of a test passes, and in production the others are empty.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install --only-binary :all: \
    websockets==17.4 tornado==6.6.1 wsproto==1.3.2 aiohttp==3.14.5
npm init -y >/dev/null
npm install --silent --no-fund --no-audit undici@7.30.2 ws@8.23.0
cat >client.js <<'JAVASCRIPT'
const [name, url] = process.argv.slice(2);
const WebSocket = name === "ws" ? require("ws") : require("undici").WebSocket;
const seen = [];
const client = new WebSocket(url);
client.addEventListener("message", (event) => seen.push(event.data));
client.addEventListener("close", (event) => console.log(JSON.stringify([seen, event.code])));
JAVASCRIPT
cat >ask.py <<'PYTHON'
import asyncio
import base64
import hashlib
import json
import re
import zlib

import aiohttp
import websockets
from tornado.websocket import websocket_connect
from wsproto import ConnectionType, WSConnection
from wsproto.events import CloseConnection, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def marked(text):
    """Ends with a block that has BFINAL, and the byte that the RFC adds."""
    compress = zlib.compressobj(wbits=-15)
    return compress.compress(text) + compress.flush(zlib.Z_FINISH) + b"\0"


def unmarked(text):
    compress = zlib.compressobj(wbits=-15)
    return (compress.compress(text) + compress.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def serve(reader, writer):
    """Sends three compressed messages, the first of them marked, and closes."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"permessage-deflate" in head
    key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)[1]
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                 b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n"
                 b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
    for packed in (marked(b"one"), unmarked(b"two"), unmarked(b"three")):
        writer.write(bytes([0xC1, len(packed)]) + packed)
    writer.write(b"\x88\x02\x03\xe8")
    await reader.read(1)  # the client's close, whichever code it has
    writer.close()


async def by_websockets(port):
    async with websockets.connect(f"ws://127.0.0.1:{port}/") as client:
        return [text async for text in client], client.close_code


async def by_tornado(port):
    client = await websocket_connect(f"ws://127.0.0.1:{port}/", compression_options={})
    texts = []
    while (text := await client.read_message()) is not None:
        texts.append(text)
    return texts, client.close_code


async def by_aiohttp(port):
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"ws://127.0.0.1:{port}/", compress=15) as client:
            return [message.data async for message in client], client.close_code


async def by_wsproto(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = WSConnection(ConnectionType.CLIENT)
    request = Request(host="localhost", target="/", extensions=[PerMessageDeflate()])
    writer.write(client.send(request))
    texts = []
    while True:
        client.receive_data(await reader.read(65536))
        for event in client.events():
            if isinstance(event, TextMessage):
                texts.append(event.data)
            elif isinstance(event, CloseConnection):
                writer.close()
                return texts, int(event.code)


async def by_node(name, port):
    script = await asyncio.create_subprocess_exec(
        "node", "client.js", name, f"ws://127.0.0.1:{port}/", stdout=asyncio.subprocess.PIPE)
    return json.loads((await script.communicate())[0])


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for name, client in {
        "aiohttp": by_aiohttp(port), "ws": by_node("ws", port),
        "websockets": by_websockets(port), "Tornado": by_tornado(port),
        "undici": by_node("undici", port), "wsproto": by_wsproto(port),
    }.items():
        texts, code = await client
        print(f"{name}: {texts} {code}", flush=True)


asyncio.run(main())
PYTHON
timeout -v 120 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
aiohttp: ['one', 'two', 'three'] 1000
ws: ['one', 'two', 'three'] 1000
websockets: ['one', '', ''] 1000
Tornado: ['one', '', ''] 1000
undici: ['one', '', ''] 1000
wsproto: ['one'] 1007
SEEN
