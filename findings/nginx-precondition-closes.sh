#!/usr/bin/env bash
# nginx 1.22.1 (Debian 12's nginx 1.22.1-9+deb12u11), static files.
#
# Question: does a connection go on after a 412 or a 416 that nginx answers with
# `Connection: keep-alive`?
# Guess: yes, after both. The field says so, the body has a length, and RFC 9112 (9.3)
# has a server that means to close say `close` in its last response.
# Seen: after the 416 it does. After a 412, by If-Match or If-Unmodified-Since, nginx says
# keep-alive and closes, and nobody reads the next request.
# Why it matters: a client that keeps connections meets the end at its next request, which
# may be another user's POST behind a proxy and cannot be sent again. An upload client
# that asks with If-Match in a loop sees its server as flaky.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
pool=http://deb.debian.org/debian-security/pool/updates/main
curl -sSf -o "$dir/deb" "$pool/n/nginx/nginx_1.22.1-9+deb12u11_amd64.deb"
dpkg-deb -x "$dir/deb" "$dir/root"
chmod 755 "$dir"
cd "$dir"
echo content >page
cat >ask.py <<'PYTHON'
import atexit
import os
import socket
import subprocess
import sys
import time

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
here = os.getcwd()
with open("configuration", "w") as file:
    file.write(f"""
daemon off; pid {here}/pid; error_log {here}/error; worker_processes 1;
events {{ }}
http {{
    access_log off; client_body_temp_path {here}/b; proxy_temp_path {here}/p;
    fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;
    server {{ listen 127.0.0.1:{port}; root {here}; }}
}}
""")
server = subprocess.Popen(["root/usr/sbin/nginx", "-e", "stderr", "-c", f"{here}/configuration"])
atexit.register(server.terminate)


def connect():
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), 10)
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{server.args} does not listen, or not within a minute.")


def response(stream):
    """Returns the status and the field Connection of a response; None for the end."""
    line = stream.readline().decode()
    if not line:
        return None
    fields = {}
    while (field := stream.readline().decode().strip()):
        name, _, value = field.partition(": ")
        fields[name] = value
    stream.read(int(fields["Content-Length"]))
    return line.split()[1], fields["Connection"]


for field in ("Range: bytes=100-", 'If-Match: "other"',
              "If-Unmodified-Since: Thu, 01 Jan 1998 00:00:00 GMT"):
    with connect() as client:
        stream = client.makefile("rb")
        client.sendall(f"GET /page HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n".encode())
        first = response(stream)
        try:
            client.sendall(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
            second = response(stream)
        except ConnectionError:
            second = None
        print(field.split(":")[0], "->", *first, "-> then", second[0] if second else "closed")
server.terminate()
server.wait(30)
PYTHON
python3 ask.py | tee seen
diff seen - <<'SEEN'
Range -> 416 keep-alive -> then 200
If-Match -> 412 keep-alive -> then closed
If-Unmodified-Since -> 412 keep-alive -> then closed
SEEN
