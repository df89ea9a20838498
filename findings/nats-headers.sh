#!/usr/bin/env bash
# nats-py 2.16.0 (PyPI), beside nats 2.29.3 (npm).
#
# Question: what does a subscriber get of a message in which one header comes twice?
# Guess: both values, in a list or by a method. Headers of NATS are written like HTTP's,
# names may come again, and the client for JavaScript has append() and values() for it.
# Seen: msg.headers of nats-py is a plain dict of name and text with the last value only;
# nothing tells that there was another. The client for JavaScript gives both, from the
# very same bytes.
# Why it matters: links, trace states and Set-Cookie cross a bridge from HTTP to NATS as
# repeated headers, and a consumer in Python sees one of them.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install nats-py==2.16.0
npm init -y >/dev/null
npm install --silent --no-fund --no-audit nats@2.29.3
cat >client.js <<'JS'
const { connect } = require('nats');

(async () => {
  const client = await connect({ servers: process.argv[2], reconnect: false });
  for await (const message of client.subscribe('subject')) {
    console.log('nats:', message.headers.values('Link').join(' and '));
    break;
  }
  await client.close();
})();
JS
cat >ask.py <<'PYTHON'
import asyncio
import json

import nats

INFO = json.dumps({
    "server_id": "test", "server_name": "test", "version": "2.10.0", "proto": 1,
    "headers": True, "max_payload": 1 << 20, "host": "127.0.0.1", "port": 4222,
})
HEAD = b"NATS/1.0\r\nLink: </one>\r\nLink: </two>\r\n\r\n"
BODY = b"body"


async def serve(reader, writer):
    """Is as much of a NATS server as sends one message to each subscription."""
    writer.write(b"INFO %s\r\n" % INFO.encode())
    while line := await reader.readline():
        word, *rest = line.split()
        if word == b"PING":
            writer.write(b"PONG\r\n")
        elif word == b"SUB":
            sizes = (len(HEAD), len(HEAD) + len(BODY))
            writer.write(b"HMSG subject %s %d %d\r\n" % (rest[-1], *sizes))
            writer.write(HEAD + BODY + b"\r\n")
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
    script = await asyncio.create_subprocess_exec("node", "client.js", address)
    await script.wait()
    client = await nats.connect("nats://" + address)
    subscription = await client.subscribe("subject")
    message = await subscription.next_msg(timeout=20)
    print("nats-py:", message.headers, flush=True)
    await client.close()


asyncio.run(main())
PYTHON
timeout -v 120 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
nats: </one> and </two>
nats-py: {'Link': '</two>'}
SEEN
