#!/usr/bin/env bash
# HAProxy 2.6.12 (Debian 12's haproxy 2.6.12-1+deb12u4), as a reverse proxy.
#
# Question: what does a client get if the server closes the connection in answer to its
# request, as one does that ends or whose time limit for idle connections has run out?
# Guess: 502, whichever request of the connection it is; or, for a GET, the answer of a
# second attempt. RFC 9110 (15.6.3) has 502 for servers that answer nothing valid.
# Seen: 502 for the first request of the server's connection. For a later one, haproxy
# closes the client's connection without a byte. Neither the retries (3 unless set) nor
# the server's counter of failed responses (eresp: 1, for the first) move.
# Why it matters: a client that does not try again itself reports a reset or an empty
# reply, and the proxy's statistics say that all servers are well.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
pool=http://deb.debian.org
for deb in debian-security/pool/updates/main/h/haproxy/haproxy_2.6.12-1+deb12u4 \
    debian/pool/main/l/lua5.3/liblua5.3-0_5.3.6-2 \
    debian/pool/main/o/opentracing-c-wrapper/libopentracing-c-wrapper0_1.1.3-3+b1 \
    debian/pool/main/o/opentracing-cpp/libopentracing1_1.6.0-4; do
    curl -sSf -o "$dir/deb" "$pool/${deb}_amd64.deb"
    dpkg-deb -x "$dir/deb" "$dir/root"
done
export LD_LIBRARY_PATH="$dir/root/usr/lib/x86_64-linux-gnu"
cd "$dir"
cat >ask.py <<'PYTHON'
import csv
import os
import socket
import subprocess
import sys
import threading
import time


def serve(listener):
    """Answers /yes, and closes the connection for everything else."""
    def talk(peer):
        with peer:
            while (head := peer.recv(65536)) and head.startswith(b"GET /yes "):
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")

    while True:
        threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def ask(client, path):
    client.sendall(b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
    try:
        return client.recv(65536).split(b"\r\n")[0].decode() or "the end, without a byte"
    except ConnectionError:
        return "a reset"


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(listener,), daemon=True).start()
port = free_port()
with open("configuration", "w") as file:
    file.write(f"""
global
    stats socket {os.getcwd()}/stats
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    server one 127.0.0.1:{listener.getsockname()[1]}
""")
run = subprocess.Popen(["root/usr/sbin/haproxy", "-f", "configuration"])
try:
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
            break
        except ConnectionRefusedError:
            if time.monotonic() > end or run.poll() is not None:
                sys.exit("haproxy does not listen, or not within a minute.")
            time.sleep(0.05)
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        print("first request:", ask(client, b"no"))
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        print("before:", ask(client, b"yes"))
        print("second request:", ask(client, b"no"))
    with socket.socket(socket.AF_UNIX) as stats:
        stats.settimeout(30)
        stats.connect("stats")
        stats.sendall(b"show stat\n")
        text = b""
        while piece := stats.recv(65536):
            text += piece
    rows = csv.DictReader(text.decode().lstrip("# ").splitlines())
    one = next(row for row in rows if row["svname"] == "one")
    print("server:", *(f"{name}={one[name]}" for name in ("econ", "eresp", "wretr", "hrsp_5xx")))
finally:
    run.kill()
    run.wait(30)
PYTHON
seen=$(root/usr/sbin/haproxy -v | head -n 1 | cut -d' ' -f 3; python3 ask.py)
echo "$seen"
diff - <(echo "$seen") <<'TEXT'
2.6.12-1+deb12u4
first request: HTTP/1.1 502 Bad Gateway
before: HTTP/1.1 200 OK
second request: the end, without a byte
server: econ=0 eresp=1 wretr=0 hrsp_5xx=0
TEXT
