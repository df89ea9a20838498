#!/usr/bin/env bash
# HAProxy 2.6.12 (Debian 12's haproxy 2.6.12-1+deb12u4), as a reverse proxy.
#
# Question: does a response pass whole if its server has sent `103 Early Hints` before it?
# Guess: yes, HTX passes one message after the other, and a 103 is a message without a
# body. RFC 9110 (15.2) lets any number of interim responses come first.
# Seen: if both arrive together, as they do from a server that writes them at once, a body
# beyond haproxy's buffer (16 KiB) is lost. In chunks, the client gets the first part with
# a proper last chunk, so that the response looks whole; with a length, it waits for the
# rest until a time limit. Without the 103, all arrives.
# Why it matters: early hints precede pages, and pages are larger than the buffer. Nothing
# in a status, in the framing or in the server's log shows that half of one was lost.
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
import atexit
import socket
import subprocess
import sys
import threading
import time

BODY = b"0123456789abcdef" * 6250
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKS = OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH = OK + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
ANSWERS = {"chunks": CHUNKS, "103, chunks": HINTS + CHUNKS,
           "length": LENGTH, "103, length": HINTS + LENGTH}


def serve(listener):
    while True:
        peer, _ = listener.accept()
        name = peer.recv(65536).split(b"/")[1].split(b" ")[0]
        peer.sendall(list(ANSWERS.values())[int(name)])


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def size(body):
    """Returns the size of what has come of a chunked body, and whether its end has."""
    total = 0
    while b"\r\n" in body:
        line, _, body = body.partition(b"\r\n")
        total += min(int(line, 16), len(body))
        if line.strip(b"0") == b"":
            return total, True
        body = body[int(line, 16) + 2:]
    return total, False


def ask(port, number):
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
        got, ends = b"", False
        try:
            while not ends:
                if not (piece := client.recv(65536)):
                    return "is cut"
                got += piece
                head, _, body = got.rpartition(b"HTTP/1.1 200 OK")[2].partition(b"\r\n\r\n")
                if b"chunked" in head:
                    come, ends = size(body)
                else:
                    come, ends = len(body), len(body) == len(BODY)
        except TimeoutError:
            return "less, and no end"
    return "all" if come == len(BODY) else "less, and a proper end"


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(listener,), daemon=True).start()
port = free_port()
with open("configuration", "w") as file:
    file.write(f"""
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
listen one
    bind 127.0.0.1:{port}
    server site 127.0.0.1:{listener.getsockname()[1]}
""")
proxy = subprocess.Popen(["root/usr/sbin/haproxy", "-q", "-db", "-f", "configuration"])
atexit.register(proxy.terminate)
end = time.monotonic() + 60
while True:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        break
    except OSError:
        if time.monotonic() > end or proxy.poll() is not None:
            sys.exit("haproxy does not listen, or not within a minute.")
        time.sleep(0.05)
for number, name in enumerate(ANSWERS):
    print(name, "->", ask(port, number))
proxy.terminate()
proxy.wait(30)
PYTHON
python3 ask.py | tee seen
diff seen - <<'SEEN'
chunks -> all
103, chunks -> less, and a proper end
length -> all
103, length -> less, and no end
SEEN
