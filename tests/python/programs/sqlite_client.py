"""A data base of aiosqlite, in a file."""

import asyncio
import sqlite3
import sys

import aiosqlite


async def main():
    async with aiosqlite.connect(sys.argv[1]) as base:
        await base.execute("CREATE TABLE things (name TEXT UNIQUE, number INTEGER)")
        rows = [(f"thing {number}", number) for number in range(100)]
        await base.executemany("INSERT INTO things VALUES (?, ?)", rows)
        await base.commit()
        async with base.execute("SELECT number FROM things WHERE number < 5") as cursor:
            assert [number async for (number,) in cursor] == [0, 1, 2, 3, 4]
        try:
            await base.execute("INSERT INTO things VALUES ('thing 1', 1)")
        except sqlite3.IntegrityError as error:
            assert "UNIQUE" in str(error)
        await base.rollback()
    async with aiosqlite.connect(sys.argv[1]) as base:
        count = await base.execute_fetchall("SELECT count(*) FROM things")
        assert count == [(100,)], count
    print("aiosqlite: done")


asyncio.run(main())
