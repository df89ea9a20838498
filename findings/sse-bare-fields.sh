#!/usr/bin/env bash
# httpx-sse 0.4.3 with httpx 0.28.1, aiosseclient 0.1.8, sseclient-py 1.9.0 with requests
# 2.34.2 (all PyPI), eventsource 4.1.1 and undici 7.30.2 (npm).
#
# Question: which events does a program see of a stream that begins with a block of `retry`
# alone and one of `id` alone, and goes on with two blocks of data?
# Guess: the two with data, both with that id: the WHATWG's text drops a block without data,
# but keeps the id for all that follow.
# Seen: undici alone does that. httpx-sse and aiosseclient make events named "message", with
# no data, of the two first; eventsource, sseclient-py and aiosseclient tell no id for the
# others.
# Why it matters: servers send such blocks first, so that a client that loses the connection
# at once comes back where it was. A program that parses each event's data as JSON fails at
# the first, and one that asks the last event for its id comes back with none.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install httpx-sse==0.4.3 httpx==0.28.1 \
    aiosseclient==0.1.8 sseclient-py==1.9.0 requests==2.34.2
npm init -y >/dev/null
npm install --silent --no-fund --no-audit eventsource@4.1.1 undici@7.30.2
cat >client.js <<'JAVASCRIPT'
const [name, url] = process.argv.slice(2);
const { EventSource } = require(name);
const seen = [];
const source = new EventSource(url);
source.onmessage = (event) => seen.push([event.type, event.data, event.lastEventId]);
source.onerror = () => {
  console.log(JSON.stringify(seen));
  process.exit(0);
};
JAVASCRIPT
cat >ask.py <<'PYTHON'
import asyncio
import json

import httpx
import requests
from aiosseclient import aiosseclient
from httpx_sse import aconnect_sse
from sseclient import SSEClient

STREAM = b"retry: 60000\n\nid: 7\n\ndata: 1\n\ndata: 2\n\n"


async def serve(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
    writer.write((head % len(STREAM)).encode() + STREAM)
    await writer.drain()
    writer.close()


async def by_httpx_sse(url):
    async with httpx.AsyncClient() as client, aconnect_sse(client, "GET", url) as source:
        return [(it.event, it.data, it.id) async for it in source.aiter_sse()]


async def by_aiosseclient(url):
    return [(it.event, it.data, it.id) async for it in aiosseclient(url)]


def read_sseclient_py(url):
    events = SSEClient(requests.get(url, stream=True, timeout=20)).events()
    return [(it.event, it.data, it.id) for it in events]


async def by_sseclient_py(url):
    return await asyncio.to_thread(read_sseclient_py, url)


async def by_node(name, url):
    script = await asyncio.create_subprocess_exec(
        "node", "--no-warnings", "client.js", name, url, stdout=asyncio.subprocess.PIPE)
    return json.loads((await script.communicate())[0])


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = "http://127.0.0.1:%d/" % server.sockets[0].getsockname()[1]
    for name, client in {
        "undici": by_node("undici", url), "eventsource": by_node("eventsource", url),
        "httpx-sse": by_httpx_sse(url), "aiosseclient": by_aiosseclient(url),
        "sseclient-py": by_sseclient_py(url),
    }.items():
        for event in await client:
            print(f"{name}:", *map(repr, event), flush=True)


asyncio.run(main())
PYTHON
timeout -v 120 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
undici: 'message' '1' '7'
undici: 'message' '2' '7'
eventsource: 'message' '1' ''
eventsource: 'message' '2' ''
httpx-sse: 'message' '' ''
httpx-sse: 'message' '' '7'
httpx-sse: 'message' '1' '7'
httpx-sse: 'message' '2' '7'
aiosseclient: 'message' '' None
aiosseclient: 'message' '' '7'
aiosseclient: 'message' '1' None
aiosseclient: 'message' '2' None
sseclient-py: 'message' '1' None
sseclient-py: 'message' '2' None
SEEN
