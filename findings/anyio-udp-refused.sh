#!/usr/bin/env bash
# anyio 4.16.0 with trio 0.35.0 (both PyPI), connected UDP sockets; Linux.
#
# Question: does one program hear on both backends that nobody listens where it sends?
# Guess: yes. Linux gives a connected UDP socket ECONNREFUSED after the ICMP message,
# asyncio hands that to error_received, and anyio's classes are to hide the backend.
# Seen: on trio the next call raises BrokenResourceError. On asyncio nothing ever does:
# each send() succeeds and receive() waits, though asyncio's own endpoint is told of
# each refusal.
# Why it matters: a client of UDP (DNS, syslog, StatsD) that tries the next server when
# one refuses does so at once on trio, and after its time-out, if it has one, on asyncio.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install anyio==4.16.0 trio==0.35.0
"$dir/venv/bin/python" - <<'PYTHON' | tee "$dir/seen"
import asyncio
import socket

import anyio


def closed_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()


class Endpoint(asyncio.DatagramProtocol):
    def error_received(self, error):
        print("asyncio itself: error_received", type(error).__name__)


async def alone():
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        Endpoint, remote_addr=closed_port()
    )
    transport.sendto(b"data")
    await asyncio.sleep(0.2)
    transport.close()


async def main(backend):
    host, port = closed_port()
    async with await anyio.create_connected_udp_socket(host, port) as endpoint:
        await endpoint.send(b"data")
        await anyio.sleep(0.2)
        with anyio.move_on_after(2) as scope:
            try:
                await endpoint.receive()
            except anyio.BrokenResourceError:
                print("anyio on", backend, "-> BrokenResourceError")
        if scope.cancelled_caught:
            print("anyio on", backend, "-> nothing in 2 s")


asyncio.run(alone())
for backend in ("trio", "asyncio"):
    anyio.run(main, backend, backend=backend)
PYTHON
diff "$dir/seen" - <<'SEEN'
asyncio itself: error_received ConnectionRefusedError
anyio on trio -> BrokenResourceError
anyio on asyncio -> nothing in 2 s
SEEN
