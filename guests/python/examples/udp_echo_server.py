"""Echoes datagrams by a protocol, for as long as it is told.

    python3 udp_echo_server.py [PORT [SECONDS]]
"""

import asyncio
import sys


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        print(f"{data.decode()!r} from {address}")
        self.transport.sendto(data, address)


async def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9999
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 3600
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", port))
    print(f"serving on {transport.get_extra_info('sockname')}")
    try:
        await asyncio.sleep(seconds)
    finally:
        transport.close()


asyncio.run(main())
