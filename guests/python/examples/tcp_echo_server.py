"""Echoes lines by asyncio's streams, until it is interrupted.

    python3 tcp_echo_server.py [PORT]
"""

import asyncio
import sys


async def serve(reader, writer):
    peer = writer.get_extra_info("peername")
    print(f"{peer} came")
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    except ConnectionError as error:
        print(f"{peer}: {error}")
    finally:
        writer.close()
    print(f"{peer} went")


async def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
    server = await asyncio.start_server(serve, "localhost", port)
    addresses = ", ".join(str(sock.getsockname()) for sock in server.sockets)
    print(f"serving on {addresses}")
    async with server:
        await server.serve_forever()


try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("bye")
