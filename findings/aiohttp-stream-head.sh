#!/usr/bin/env bash
# aiohttp 3.14.5 (PyPI), beside Starlette 1.10.0 under uvicorn 0.54.0.
#
# Question: what does a client get for HEAD from a handler that streams its response to GET?
# Guess: the head alone. `add_get` serves HEAD, too, by its own choice (allow_head=True),
# so that the framework must leave the body out, as it does for web.Response, and as
# servers of ASGI do for whatever an application sends.
# Seen: what the handler writes to a StreamResponse is sent, behind a head after which
# there must be none (RFC 9110, 9.3.2), with a length as with chunks (without their
# framing). The next response on the connection comes after it.
# Why it matters: checks of links and of health use HEAD, over connections that clients
# and proxies keep. What they take for the next status line is the body of this one.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install aiohttp==3.14.5 starlette==1.10.0 \
    uvicorn==0.54.0 h11==0.16.0
cat >"$dir/sites.py" <<'PYTHON'
import sys

from aiohttp import web
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route


async def by_length(request):
    response = web.StreamResponse()
    response.content_length = 4
    await response.prepare(request)
    await response.write(b"body")
    return response


async def in_chunks(request):
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(b"body")
    return response


async def whole(request):
    return web.Response(text="body")


def application(_):
    app = web.Application()
    app.router.add_get("/whole", whole)
    app.router.add_get("/length", by_length)
    app.router.add_get("/chunks", in_chunks)
    return app


async def streamed(_):
    return StreamingResponse(iter([b"body"]))


starlette = Starlette(routes=[Route("/chunks", streamed)])
PYTHON
cd "$dir"
venv/bin/python - <<'PYTHON' | tee seen
import atexit
import os
import socket
import subprocess
import sys
import time

ASK = b"HEAD %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def connect(server, port):
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), 30)
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{server.args} does not listen, or not within a minute.")


for name, command, paths in (
    ("aiohttp", "aiohttp.web -H 127.0.0.1 -P PORT sites:application",
     (b"/whole", b"/length", b"/chunks")),
    ("Starlette", "uvicorn --lifespan off --port PORT sites:starlette", (b"/chunks",)),
):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ("venv/bin/python -m " + command.replace("PORT", str(port))).split()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(words, env=dict(os.environ, PYTHONPATH="."), **quiet)
    atexit.register(server.terminate)
    for path in paths:
        with connect(server, port) as client:
            client.sendall(ASK % path)
            got = b"".join(iter(lambda: client.recv(4096), b""))
        head, _, rest = got.partition(b"\r\n\r\n")
        print(name, path.decode(), "->", head.split()[1].decode(), rest)
    server.terminate()
    server.wait(30)
PYTHON
diff seen - <<'SEEN'
aiohttp /whole -> 200 b''
aiohttp /length -> 200 b'body'
aiohttp /chunks -> 200 b'body'
Starlette /chunks -> 200 b''
SEEN
