#!/usr/bin/env bash
# Tornado 6.6.1 (PyPI), server and simple_httpclient.
#
# Question: does it read a chunked body that has a chunk extension, or a trailer field?
# Guess: yes, and drops both: RFC 9112 (7.1.1, 7.1.2) has recipients ignore extensions
# that they do not know, and lets them drop trailers, as uvicorn and gunicorn do.
# Seen: the server answers 400 to both, before any handler. The client takes a response
# with either for a broken one, though its head and body have come whole.
# Why it matters: checksums and timings come as trailers, and a proxy that passes them on
# breaks the exchange with such a peer. Send them only to who asks with `TE: trailers`.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install tornado==6.6.1
timeout -v 120 "$dir/venv/bin/python" - <<'PYTHON' | tee "$dir/seen"
import asyncio
import logging
import socket

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.web import Application, RequestHandler

logging.disable()
BODIES = {
    "plain": b"5\r\nhello\r\n0\r\n\r\n",
    "extension": b"5;name=value\r\nhello\r\n0\r\n\r\n",
    "trailer": b"5\r\nhello\r\n0\r\nX-Checksum: 1\r\n\r\n",
}
HEAD = b"Host: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"


class Handler(RequestHandler):
    def post(self):
        self.write(self.request.body)


async def main():
    sockets = bind_sockets(0, "127.0.0.1", socket.AF_INET)
    HTTPServer(Application([("/", Handler)])).add_sockets(sockets)
    for name, body in BODIES.items():
        reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
        writer.write(b"POST / HTTP/1.1\r\n" + HEAD + body)
        answer = (await reader.read()).decode()
        print("server:", name, "->", answer.split()[1])
        writer.close()
    for name, body in BODIES.items():

        async def respond(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n" + HEAD + body)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(respond, "127.0.0.1", 0)
        url = "http://127.0.0.1:%d/" % server.sockets[0].getsockname()[1]
        try:
            result = (await SimpleAsyncHTTPClient().fetch(url)).body
        except Exception as error:
            result = type(error).__name__
        print("client:", name, "->", result)
        server.close()


asyncio.run(main())
PYTHON
diff "$dir/seen" - <<'SEEN'
server: plain -> 200
server: extension -> 400
server: trailer -> 400
client: plain -> b'hello'
client: extension -> HTTPStreamClosedError
client: trailer -> HTTPStreamClosedError
SEEN
