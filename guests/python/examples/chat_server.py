"""A chat room: a line from one client goes to all others.

    python3 chat_server.py [PORT]
"""

import asyncio
import sys


class Room:
    """The clients that are there, each with the lines that it has not got yet."""

    def __init__(self, backlog=100):
        self.backlog = backlog
        self.lines = {}

    def say(self, line, speaker=None):
        for name, lines in self.lines.items():
            if name == speaker:
                continue
            if lines.full():
                lines.get_nowait()  # a client that does not read misses the oldest
            lines.put_nowait(line)

    async def serve(self, reader, writer):
        name = "{}:{}".format(*writer.get_extra_info("peername"))
        self.lines[name] = asyncio.Queue(self.backlog)
        self.say(f"{name} came\n", name)
        try:
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(self.tell(self.lines[name], writer))
                while line := await reader.readline():
                    self.say(f"{name}: {line.decode(errors='replace')}", name)
                telling.cancel()
        except* (ConnectionError, ValueError) as errors:
            print(f"{name}: {errors.exceptions[0]}", file=sys.stderr)
        finally:
            del self.lines[name]
            self.say(f"{name} went\n")
            writer.close()

    async def tell(self, lines, writer):
        while True:
            writer.write((await lines.get()).encode())
            await writer.drain()


async def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 6667
    server = await asyncio.start_server(Room().serve, "127.0.0.1", port)
    print(f"serving on {server.sockets[0].getsockname()}")
    async with server:
        await server.serve_forever()


asyncio.run(main())
