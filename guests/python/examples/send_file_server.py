"""Sends a file to each client by loop.sendfile(): the kernel copies it, Python
never sees it.

    python3 send_file_server.py FILE [PORT]
"""

import asyncio
import sys


async def main():
    path, *port = sys.argv[1:]
    loop = asyncio.get_running_loop()

    async def send(reader, writer):
        with open(path, "rb") as file:
            sent = await loop.sendfile(writer.transport, file)
        print(f"sent {sent} bytes to {writer.get_extra_info('peername')}")
        writer.close()

    server = await asyncio.start_server(send, "127.0.0.1", int(port[0]) if port else 8888)
    print(f"serving on {server.sockets[0].getsockname()}")
    async with server:
        await server.serve_forever()


asyncio.run(main())
