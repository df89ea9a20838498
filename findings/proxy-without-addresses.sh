#!/usr/bin/env bash
# gunicorn 27.0.1 and Twisted 26.10.0 (both PyPI), as receivers of the PROXY protocol.
#
# Question: what does a receiver make of a proxy's own connection, as a health check is,
# which comes with `PROXY UNKNOWN` (version 1) or the command LOCAL (version 2)?
# Guess: both are accepted and the socket's own addresses are used, as the protocol's text
# has it: a receiver should do so with UNKNOWN, and must with LOCAL.
# Seen: gunicorn answers version 1 with 400. It takes LOCAL, but then REMOTE_ADDR is
# None, where WSGI wants a string, and REMOTE_PORT the four letters "None". Twisted
# refuses the short UNKNOWN line and takes the long one, whose addresses it drops.
# Why it matters: a proxy that checks with version 1 takes such a server for dead, and
# one that checks with LOCAL meets code that only ever saw addresses.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install gunicorn==27.0.1 twisted==26.10.0
cat >"$dir/told.py" <<'PYTHON'
def app(environ, start_response):
    told = repr([environ["REMOTE_ADDR"], environ["REMOTE_PORT"]]).encode()
    start_response("200 OK", [("Content-Length", str(len(told)))])
    return [told]
PYTHON
cd "$dir"
venv/bin/python - <<'PYTHON' | tee seen
import atexit
import re
import socket
import subprocess
import sys

from twisted.protocols.haproxy._exceptions import InvalidProxyHeader
from twisted.protocols.haproxy._v1parser import V1Parser

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
LONG = b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n"
listener = socket.create_server(("127.0.0.1", 0))
fd = listener.fileno()
server = subprocess.Popen(
    [sys.executable, "-m", "gunicorn", "--proxy-protocol", "--log-level", "critical",
     "--bind", "fd://%d" % fd, "told:app"],
    pass_fds=[fd],
)
atexit.register(server.terminate)
for name, header in (
    ("TCP4", b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\r\n"),
    ("UNKNOWN", b"PROXY UNKNOWN\r\n"),
    ("LOCAL", SIGNATURE + b"\x20\x00\x00\x00"),
):
    with socket.create_connection(listener.getsockname(), 30) as client:
        client.sendall(header + ASK)
        answer = b"".join(iter(lambda: client.recv(4096), b"")).decode()
    body = answer.partition("\r\n\r\n")[2]
    status = re.match(r"HTTP/1.1 (\d+)", answer)[1]
    print("gunicorn:", name, "->", status, *[body] * (status == "200"))
server.terminate()
server.wait(30)
for name, line in (("short", b"PROXY UNKNOWN\r\n"), ("long", LONG)):
    try:
        info, rest = V1Parser().feed(line + ASK)
        result = "accepted, source %s" % info.source
    except InvalidProxyHeader as error:
        result = type(error).__name__
    print("Twisted:", name, "UNKNOWN ->", result)
PYTHON
diff seen - <<'SEEN'
gunicorn: TCP4 -> 200 ['192.0.2.1', '1111']
gunicorn: UNKNOWN -> 400
gunicorn: LOCAL -> 200 [None, 'None']
Twisted: short UNKNOWN -> InvalidNetworkProtocol
Twisted: long UNKNOWN -> accepted, source None
SEEN
