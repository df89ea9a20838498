#!/usr/bin/env bash
# hypercorn 0.18.0, granian 2.8.7, daphne 4.2.3, and uvicorn 0.54.0 (all PyPI).
#
# Question: which code does an ASGI application see in `websocket.disconnect` when the
# client closes with 4001, with no code, and when TCP ends without a close frame?
# Guess: 4001, 1005, 1006 under every server. RFC 6455 (7.1.5) defines the three, ASGI
# has 1005 for no code, and the servers' libraries keep them apart.
# Seen: under hypercorn the code is always 1006, so that no close looks clean and no code
# of an application's own arrives. A lost connection is 1005 under granian and under
# uvicorn with wsproto, 1006 under uvicorn with websockets. daphne has None for no code.
# Why it matters: codes from 4000 are the usual way to say why a session ends. Whether an
# application gets them depends on its server, and under uvicorn on another package.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install --only-binary :all: \
    hypercorn==0.18.0 granian==2.8.7 daphne==4.2.3 uvicorn==0.54.0 websockets==17.4 \
    wsproto==1.3.2
cat >"$dir/told.py" <<'PYTHON'
import os


async def app(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    message = await receive()
    with open(os.environ["TOLD"], "a") as file:
        file.write("%s\n" % message.get("code"))
PYTHON
cd "$dir"
venv/bin/python - <<'PYTHON' | tee seen
import atexit
import os
import socket
import subprocess
import sys
import time

ASK = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CLOSES = (b"\x88\x82\0\0\0\0\x0f\xa1", b"\x88\x80\0\0\0\0", b"")


def connect(server, port):
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), 30)
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{server.args} does not listen, or not within a minute.")


def upgrade(client):
    client.sendall(ASK)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        if not (piece := client.recv(1 << 16)):
            sys.exit(f"The connection ends within the head of the response: {head}")
        head += piece


def codes_of(file, count):
    """Returns what the application has told, once it has told so many codes."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        codes = open(file).read().split() if os.path.exists(file) else []
        if len(codes) == count:
            return codes
        time.sleep(0.05)
    sys.exit(f"The application has told {codes} within a minute, and not {count} codes.")


for number, command in enumerate((
    "uvicorn --ws websockets --port PORT",
    "uvicorn --ws wsproto --port PORT",
    "hypercorn --bind 127.0.0.1:PORT",
    "granian --interface asginl --port PORT",
    "daphne --port PORT",
)):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = "told%d" % number
    words = f"venv/bin/{command} told:app".replace("PORT", str(port)).split()
    environment = dict(os.environ, TOLD=told, PYTHONPATH=".")
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(words, env=environment, stdout=quiet, stderr=quiet)
    atexit.register(server.terminate)
    for count, close in enumerate(CLOSES, 1):
        with connect(server, port) as client:
            upgrade(client)
            client.sendall(close) if close else client.shutdown(socket.SHUT_WR)
            codes = codes_of(told, count)
    print(command.rpartition(" --")[0], "->", *codes)
    server.terminate()
    server.wait(30)
PYTHON
diff seen - <<'SEEN'
uvicorn --ws websockets -> 4001 1005 1006
uvicorn --ws wsproto -> 4001 1005 1005
hypercorn -> 1006 1006 1006
granian --interface asginl -> 4001 1005 1005
daphne -> 4001 None 1006
SEEN
