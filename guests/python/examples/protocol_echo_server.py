"""Echoes by a protocol of callbacks, and stops at SIGTERM when all is done.

    python3 protocol_echo_server.py [PORT]
"""

import asyncio
import signal
import sys


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(Echo, "127.0.0.1", port)
    print(f"serving on {server.sockets[0].getsockname()}")
    async with server:
        await stop.wait()
    print("stopped")


asyncio.run(main())
