#!/usr/bin/env bash
# uvicorn 0.54.0 with httptools 0.9.0 and with h11 0.16.0, aiohttp 3.14.5, hypercorn
# 0.18.0, granian 2.8.7, daphne 4.2.3 (all PyPI).
#
# Question: how does a client of HTTP/1.0 see the end of a streamed response?
# Guess: by the end of the connection, under every server. HTTP/1.0 has nothing else where
# there is no length, and RFC 9112 (6.1) forbids Transfer-Encoding towards it.
# Seen: uvicorn with httptools, which it takes where that is installed, sends chunks, so
# that their sizes are part of the content; with h11 it does not. aiohttp sends neither
# length nor chunks and, if the client asks for keep-alive, leaves the connection open:
# there is no end before the time limit of keep-alive.
# Why it matters: `ab` and `ab -k`, health checks, and nginx's proxy_pass as it comes
# speak HTTP/1.0. A page with a length looks well, a streamed one is broken or hangs.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install --only-binary :all: \
    uvicorn==0.54.0 h11==0.16.0 httptools==0.9.0 aiohttp==3.14.5 hypercorn==0.18.0 \
    granian==2.8.7 daphne==4.2.3
cat >"$dir/sites.py" <<'PYTHON'
from aiohttp import web


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})
    await send({"type": "http.response.body", "body": b"two"})


async def handler(request):
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"one")
    await response.write(b"two")
    return response


def application(_):
    app = web.Application()
    app.add_routes([web.get("/", handler)])
    return app
PYTHON
cd "$dir"
venv/bin/python - <<'PYTHON' | tee seen
import atexit
import os
import socket
import subprocess
import sys
import time


def connect(server, port):
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), 10)
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{server.args} does not listen, or not within a minute.")


def ask(server, port, field):
    """Returns what follows the head of the response, and whether the end is seen."""
    got = b""
    with connect(server, port) as client:
        client.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n" + field + b"\r\n")
        try:
            while piece := client.recv(4096):
                got += piece
            return repr(got.partition(b"\r\n\r\n")[2].decode())
        except TimeoutError:
            return repr(got.partition(b"\r\n\r\n")[2].decode()) + " without an end"


for command in (
    "uvicorn --http httptools --lifespan off --port PORT sites:asgi",
    "uvicorn --http h11 --lifespan off --port PORT sites:asgi",
    "aiohttp.web -H 127.0.0.1 -P PORT sites:application",
    "hypercorn --bind 127.0.0.1:PORT sites:asgi",
    "granian --interface asginl --port PORT sites:asgi",
    "daphne -p PORT sites:asgi",
):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ("venv/bin/python -m " + command.replace("PORT", str(port))).split()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(words, env=dict(os.environ, PYTHONPATH="."), **quiet)
    atexit.register(server.terminate)
    name = command.partition(" --lifespan")[0].split(" -")[0] + (
        " " + command.split()[2] if "--http " in command else "")
    plain = ask(server, port, b"")
    kept = ask(server, port, b"Connection: keep-alive\r\n")
    print(name, "->", plain, "| keep-alive ->", kept)
    server.terminate()
    server.wait(30)
PYTHON
diff seen - <<'SEEN'
uvicorn httptools -> '3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n' | keep-alive -> '3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n'
uvicorn h11 -> 'onetwo' | keep-alive -> 'onetwo'
aiohttp.web -> 'onetwo' | keep-alive -> 'onetwo' without an end
hypercorn -> 'onetwo' | keep-alive -> 'onetwo'
granian -> 'onetwo' | keep-alive -> 'onetwo'
daphne -> 'onetwo' | keep-alive -> 'onetwo'
SEEN
