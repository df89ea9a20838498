"""Passes each connection on to another server.

    python3 tcp_proxy.py HOST PORT [PORT-TO-LISTEN-ON]
"""

import asyncio
import sys


async def copy(reader, writer):
    """Copies until one side ends, and tells the other."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def main():
    host, to, *port = sys.argv[1:]

    async def serve(reader, writer):
        there = None
        try:
            from_there, there = await asyncio.open_connection(host, int(to))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(copy(reader, there))
                tasks.create_task(copy(from_there, writer))
        except* OSError as errors:
            print(f"lost a client: {errors.exceptions[0]}", file=sys.stderr)
        finally:
            writer.close()
            if there is not None:
                there.close()

    server = await asyncio.start_server(serve, "127.0.0.1", int(port[0]) if port else 8080)
    print(f"serving on {server.sockets[0].getsockname()}")
    async with server:
        await server.serve_forever()


asyncio.run(main())
