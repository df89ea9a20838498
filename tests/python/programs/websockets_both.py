"""A server and a client of WebSocket."""

import asyncio

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def main():
    async with serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}") as socket:
            for message in ("text", b"bytes", "x" * 300_000):
                await socket.send(message)
                assert await socket.recv() == message
            await asyncio.wait_for(await socket.ping(), 10)
    print("websockets: done")


asyncio.run(main())
