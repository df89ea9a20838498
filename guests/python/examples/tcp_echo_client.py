"""Sends lines to an echo server by asyncio's streams, and prints what it says.

    python3 tcp_echo_client.py [HOST [PORT]]
"""

import asyncio
import sys


async def main():
    host = sys.argv[1] if len(sys.argv) > 1 else "localhost"
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8888
    reader, writer = await asyncio.open_connection(host, port)
    for line in ("there", "and back", "größer"):
        print(f"sent: {line}")
        writer.write(line.encode() + b"\n")
        await writer.drain()
        answer = await reader.readline()
        print(f"received: {answer.decode().rstrip()}")
    writer.close()
    await writer.wait_closed()


asyncio.run(main())
