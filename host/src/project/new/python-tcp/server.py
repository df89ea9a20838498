"""Sends each line back in capitals."""

from asyncio import StreamReader, StreamWriter

import netwasm


async def shout(reader: StreamReader, writer: StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()


netwasm.start_server(shout)
