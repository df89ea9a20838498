#!/usr/bin/env bash
# aioquic 1.7.2 (PyPI), streams of its asyncio API (create_stream).
#
# Question: do its StreamReader and StreamWriter tell of a failed connection and of a full
# one, as those of asyncio over TCP do?
# Guess: yes, they are asyncio's own classes. A connection closed with an error before the
# stream's end makes read() raise, as a TCP reset makes it raise ConnectionResetError, and
# drain() waits while the peer's window is full.
# Seen: read() returns what had come, as if that were all: a stream cut off and a
# stream ended look alike. drain() never waits: 32 MiB are taken for a peer whose window
# is 1 KiB, and it has next to none of them.
# Why it matters: code moved from TCP to QUIC takes half a body for a whole one, and its
# back pressure, which a proxy lives by, is gone without a word.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install --only-binary :all: \
    aioquic==1.7.2 trustme==1.2.1
timeout -v 120 "$dir/venv/bin/python" - "$dir" <<'PYTHON' | tee "$dir/seen"
import asyncio
import sys

import trustme
from aioquic.asyncio import connect, serve
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived

MIB = 1 << 20
dir = sys.argv[1]
authority = trustme.CA()
authority.cert_pem.write_to_path(dir + "/ca")
issued = authority.issue_cert("localhost")
issued.private_key_pem.write_to_path(dir + "/key")
issued.cert_chain_pems[0].write_to_path(dir + "/cert")


class Server(QuicConnectionProtocol):
    received = 0

    def quic_event_received(self, event):
        if not isinstance(event, StreamDataReceived):
            return
        Server.received += len(event.data)
        if event.data == b"half":
            self._quic.send_stream_data(event.stream_id, b"the first half")
            self.transmit()
            asyncio.get_running_loop().call_later(0.2, self.close, 9, "it failed")


def connected(port):
    configuration = QuicConfiguration(alpn_protocols=["x"], server_name="localhost")
    configuration.load_verify_locations(dir + "/ca")
    return connect("127.0.0.1", port, configuration=configuration)


async def main():
    configuration = QuicConfiguration(
        is_client=False, alpn_protocols=["x"], max_data=1024, max_stream_data=1024
    )
    configuration.load_cert_chain(dir + "/cert", dir + "/key")
    how = {"configuration": configuration, "create_protocol": Server}
    server = await serve("127.0.0.1", 0, **how)
    port = server._transport.get_extra_info("sockname")[1]
    async with connected(port) as client:
        reader, writer = await client.create_stream()
        writer.write(b"half")
        print("read:", await reader.read(), "at_eof:", reader.at_eof())
        print("exception:", reader.exception())
    async with connected(port) as client:
        reader, writer = await client.create_stream()
        for _ in range(32):
            writer.write(bytes(MIB))
            await asyncio.wait_for(writer.drain(), 20)
            await asyncio.sleep(0)
        print("32 MiB drained")
        print("of which the peer has less than one:", Server.received < MIB)
    server.close()


asyncio.run(main())
PYTHON
diff "$dir/seen" - <<'SEEN'
read: b'the first half' at_eof: True
exception: None
32 MiB drained
of which the peer has less than one: True
SEEN
