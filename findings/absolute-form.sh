#!/usr/bin/env bash
# uvicorn 0.54.0 with httptools 0.9.0 and with h11 0.16.0, Twisted 26.10.0, cheroot
# 11.1.2 (all PyPI).
#
# Question: which path does an application see for `GET http://localhost/page?x=1`?
# Guess: /page. RFC 9112 (3.2.2) has every server accept the absolute form, and "path"
# of ASGI and PATH_INFO of WSGI are by their text the path of the URL.
# Seen: it is so under uvicorn with httptools. With h11, which uvicorn takes by itself
# where httptools is not installed, the path is the whole URL. Twisted cuts off the first
# letter, for the slash that it expects there: "/ttp://localhost/page". cheroot answers
# 400, saying that it is no proxy.
# Why it matters: a client behind a proxy sends this form for http:// URLs, and simple
# proxies pass it on as it is. Routes then match under one server and give 404 under
# another, or the same one with another package.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install uvicorn==0.54.0 h11==0.16.0 \
    httptools==0.9.0 twisted==26.10.0 cheroot==11.1.2
cat >"$dir/told.py" <<'PYTHON'
async def asgi(scope, receive, send):
    body = scope["path"].encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def wsgi(environ, start_response):
    body = environ["PATH_INFO"].encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
PYTHON
cd "$dir"
venv/bin/python - <<'PYTHON' | tee seen
import atexit
import os
import re
import socket
import subprocess
import sys
import time

ASK = b"GET http://localhost/page?x=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def connect(server, port):
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), 30)
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{server.args} does not listen, or not within a minute.")


for command in (
    "uvicorn --http httptools --lifespan off --port PORT told:asgi",
    "uvicorn --http h11 --lifespan off --port PORT told:asgi",
    "twist web --listen tcp:PORT:interface=127.0.0.1 --wsgi told.wsgi",
    "cheroot --bind 127.0.0.1:PORT told:wsgi",
):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        ("venv/bin/" + command.replace("PORT", str(port))).split(),
        env=dict(os.environ, PYTHONPATH="."),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    atexit.register(server.terminate)
    with connect(server, port) as client:
        client.sendall(ASK)
        answer = b"".join(iter(lambda: client.recv(4096), b"")).decode()
    name = re.match(r"(uvicorn --http )?\w+", command)[0]
    print(name, "->", answer.split()[1], answer.partition("\r\n\r\n")[2])
    server.terminate()
    server.wait(30)
PYTHON
diff seen - <<'SEEN'
uvicorn --http httptools -> 200 /page
uvicorn --http h11 -> 200 http://localhost/page
twist -> 200 /ttp://localhost/page
cheroot -> 400 Absolute URI not allowed if server is not a proxy.
SEEN
