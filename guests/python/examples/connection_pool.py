"""Keeps a few connections to an echo server, and shares them among many tasks.

    python3 connection_pool.py [HOST [PORT]]
"""

import asyncio
import contextlib
import sys


class Pool:
    """Connections to one server, at most `size` of them."""

    def __init__(self, host, port, size):
        self.host, self.port = host, port
        self.free = asyncio.LifoQueue()
        for _ in range(size):
            self.free.put_nowait(None)
        self.opened = 0

    @contextlib.asynccontextmanager
    async def connection(self):
        pair = await self.free.get()
        try:
            if pair is None:
                self.opened += 1
                pair = await asyncio.open_connection(self.host, self.port)
            yield pair
        except BaseException:
            if pair is not None:
                pair[1].close()
            pair = None
            raise
        finally:
            self.free.put_nowait(pair)

    async def close(self):
        while not self.free.empty():
            if pair := self.free.get_nowait():
                pair[1].close()
                await pair[1].wait_closed()


async def ask(pool, number):
    async with pool.connection() as (reader, writer):
        writer.write(b"question %d\n" % number)
        await writer.drain()
        return (await reader.readline()).decode().rstrip()


async def main():
    host = sys.argv[1] if len(sys.argv) > 1 else "localhost"
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8888
    pool = Pool(host, port, 4)
    answers = await asyncio.gather(*(ask(pool, number) for number in range(20)))
    await pool.close()
    right = sum(answer == f"question {number}" for number, answer in enumerate(answers))
    print(f"{right} right answers by {pool.opened} connections")


asyncio.run(main())
