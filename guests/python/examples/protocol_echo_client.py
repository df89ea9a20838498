"""Sends a message by a protocol of callbacks, and prints its echo.

    python3 protocol_echo_client.py [PORT]
"""

import asyncio
import sys


class Client(asyncio.Protocol):
    def __init__(self, message, done):
        self.message, self.done = message, done

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.message.encode())
        print(f"sent: {self.message}")

    def data_received(self, data):
        print(f"received: {data.decode()}")
        self.transport.close()

    def connection_lost(self, error):
        self.done.set_result(error)


async def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    await loop.create_connection(lambda: Client("hello, streams", done), "127.0.0.1", port)
    await done


asyncio.run(main())
