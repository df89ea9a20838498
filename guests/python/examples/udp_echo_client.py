"""Sends a datagram by a protocol, and waits for its echo.

    python3 udp_echo_client.py [PORT [MESSAGE]]
"""

import asyncio
import sys


class Client(asyncio.DatagramProtocol):
    def __init__(self, message, done):
        self.message, self.done = message, done

    def connection_made(self, transport):
        self.transport = transport
        print(f"sent: {self.message}")
        transport.sendto(self.message.encode())

    def datagram_received(self, data, address):
        print(f"received: {data.decode()}")
        self.transport.close()

    def error_received(self, error):
        print(f"failed: {error}")
        self.transport.close()

    def connection_lost(self, error):
        self.done.set_result(True)


async def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9999
    message = sys.argv[2] if len(sys.argv) > 2 else "hello, datagrams"
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: Client(message, done), remote_addr=("127.0.0.1", port)
    )
    try:
        await asyncio.wait_for(done, 10)
    finally:
        transport.close()


asyncio.run(main())
