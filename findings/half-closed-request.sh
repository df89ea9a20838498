#!/usr/bin/env bash
# uvicorn 0.54.0, granian 2.8.7, aiohttp 3.14.5, hypercorn 0.18.0 (all PyPI).
#
# Question: does a client that sends its whole request, shuts down its sending side and
# reads, as `nc -N` does, get a response that takes 0.3 s to make?
# Guess: yes. TCP lets a side that has closed go on receiving (RFC 9293, 3.6), and HTTP
# knows by its own framing that the request is whole.
# Seen: uvicorn, granian and aiohttp close at once and send nothing; hypercorn
# answers. What is ready at once is sent (tried with uvicorn), so that a quick
# try shows no fault.
# Why it matters: a proxy that passes the end of one direction on, as a relay of TCP
# should, loses slow responses and no others. A proxy before such servers has to keep its
# sending side open until the response has come.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install --only-binary :all: \
    uvicorn==0.54.0 h11==0.16.0 granian==2.8.7 aiohttp==3.14.5 hypercorn==0.18.0
cat >"$dir/slow.py" <<'PYTHON'
import asyncio

from aiohttp import web


async def asgi(scope, receive, send):
    if scope["path"] == "/slow":
        await asyncio.sleep(0.3)
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


async def handler(request):
    await asyncio.sleep(0.3)
    return web.Response(text="ok")


def application(arguments):
    app = web.Application()
    app.add_routes([web.get("/slow", handler)])
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

HEAD = b"Host: localhost\r\nConnection: close\r\n\r\n"


def connect(server, port):
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), 30)
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{server.args} does not listen, or not within a minute.")


for path, command in (
    ("/", "uvicorn --lifespan off --port PORT slow:asgi"),
    ("/slow", "uvicorn --lifespan off --port PORT slow:asgi"),
    ("/slow", "granian --interface asginl --port PORT slow:asgi"),
    ("/slow", "aiohttp.web -H 127.0.0.1 -P PORT slow:application"),
    ("/slow", "hypercorn --bind 127.0.0.1:PORT slow:asgi"),
):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ("venv/bin/python -m " + command.replace("PORT", str(port))).split()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(words, env=dict(os.environ, PYTHONPATH="."), **quiet)
    atexit.register(server.terminate)
    with connect(server, port) as client:
        client.sendall(b"GET %s HTTP/1.1\r\n" % path.encode() + HEAD)
        client.shutdown(socket.SHUT_WR)
        got = b"".join(iter(lambda: client.recv(4096), b"")).decode() or "nothing"
    print(command.split()[0], path, "->", got.split()[-1])
    server.terminate()
    server.wait(30)
PYTHON
diff seen - <<'SEEN'
uvicorn / -> ok
uvicorn /slow -> nothing
granian /slow -> nothing
aiohttp.web /slow -> nothing
hypercorn /slow -> ok
SEEN
