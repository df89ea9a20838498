#!/usr/bin/env bash
# uvloop 0.23.0 (PyPI), datagram endpoints.
#
# Guess: `transport.sendto(b"")` sends an empty datagram, which UDP allows (RFC
# 768) and which uvloop's own endpoints receive as an event.
# Seen: nothing is sent and nothing is said: the first datagram that the peer
# gets is the second one. The endpoint receives empty ones from others.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install uvloop==0.23.0
timeout -v 120 "$dir/venv/bin/python" - <<'PYTHON' | tee "$dir/seen"
import asyncio
import socket

import uvloop


class Endpoint(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = asyncio.Queue()

    def datagram_received(self, data, address):
        self.received.put_nowait(data)


async def main():
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    peer.settimeout(10)
    loop = asyncio.get_running_loop()
    transport, endpoint = await loop.create_datagram_endpoint(
        Endpoint, remote_addr=peer.getsockname()
    )
    transport.sendto(b"")
    transport.sendto(b"second")
    print("the peer gets", await asyncio.to_thread(peer.recv, 100))
    peer.sendto(b"", transport.get_extra_info("sockname"))
    print("the endpoint gets", await endpoint.received.get())
    transport.close()


uvloop.run(main())
PYTHON
diff "$dir/seen" - <<'SEEN'
the peer gets b'second'
the endpoint gets b''
SEEN
