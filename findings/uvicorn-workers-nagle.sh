#!/usr/bin/env bash
# uvicorn 0.54.0 (PyPI) on CPython's asyncio; Linux.
#
# Question: is a response of `uvicorn --workers 2` as fast as one of `uvicorn`?
# Guess: yes, or faster. asyncio sets TCP_NODELAY on every TCP connection since
# Python 3.6, and the parent does no more than bind the socket for its workers.
# Seen: with workers, and with --fd as under systemd, each response on a connection that
# is kept takes some 40 ms, against less than one. asyncio looks at the socket's `proto`,
# which is 0 (not IPPROTO_TCP) in a socket made by hand and in all that it accepts. Head
# and body are written apart, so Nagle's algorithm holds the body until the delayed
# acknowledgement. uvloop sets the flag always, which hides this where it is installed.
# Why it matters: who binds sockets himself (activation, workers, hand-over at a restart)
# has to set the flag, and a benchmark of such a server measures the kernel's timer.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install uvicorn==0.54.0 h11==0.16.0
cat >"$dir/small.py" <<'PYTHON'
async def app(scope, receive, send):
    length = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": b"ok"})
PYTHON
"$dir/venv/bin/python" - "$dir" <<'PYTHON' | tee "$dir/seen"
import asyncio
import atexit
import http.client
import socket
import statistics
import subprocess
import sys
import time


async def flags():
    found = asyncio.Queue()

    def accepted(reader, writer):
        peer = writer.get_extra_info("socket")
        found.put_nowait(bool(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
        writer.close()

    by_hand = socket.create_server(("127.0.0.1", 0))
    by_name = {"host": "127.0.0.1", "port": 0}
    for name, how in (("host and port", by_name), ("sock", {"sock": by_hand})):
        server = await asyncio.start_server(accepted, **how)
        with socket.create_connection(server.sockets[0].getsockname()):
            print("asyncio,", name, "-> TCP_NODELAY", await found.get())
        server.close()


def median(options, address, fds=()):
    command = [sys.executable, "-m", "uvicorn", "--loop", "asyncio", "--log-level",
               "error", "--lifespan", "off", "--app-dir", sys.argv[1], *options]
    server = subprocess.Popen([*command, "small:app"], pass_fds=fds)
    atexit.register(server.terminate)
    client = http.client.HTTPConnection(*address, timeout=30)
    end = time.monotonic() + 60
    while client.sock is None:
        if time.monotonic() > end or server.poll() is not None:
            sys.exit(f"uvicorn {options} does not listen, or not within a minute.")
        try:
            client.connect()
        except OSError:
            time.sleep(0.05)
    times = []
    for _ in range(41):
        start = time.perf_counter()
        client.request("GET", "/")
        client.getresponse().read()
        times.append(time.perf_counter() - start)
    server.terminate()
    server.wait(30)
    return "slow" if statistics.median(times) > 0.03 else "fast"


asyncio.run(flags())
for workers in ("1", "2"):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    options = ["--workers", workers, "--port", str(address[1])]
    print("uvicorn, workers", workers, "->", median(options, address))
with socket.create_server(("127.0.0.1", 0)) as passed:
    fds = (passed.fileno(),)
    print("uvicorn, --fd ->", median(["--fd", "%d" % fds], passed.getsockname(), fds))
PYTHON
diff "$dir/seen" - <<'SEEN'
asyncio, host and port -> TCP_NODELAY True
asyncio, sock -> TCP_NODELAY False
uvicorn, workers 1 -> fast
uvicorn, workers 2 -> slow
uvicorn, --fd -> slow
SEEN
