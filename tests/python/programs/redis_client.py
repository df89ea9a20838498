"""redis-py's asyncio client, against a real server."""

import asyncio
import sys

import redis.asyncio as redis


async def main():
    client = redis.Redis(host="127.0.0.1", port=int(sys.argv[1]), decode_responses=True)
    assert await client.ping()
    await client.set("größe", "7")
    assert await client.incrby("größe", 5) == 12
    async with client.pipeline() as pipe:
        for number in range(200):
            pipe.rpush("list", number)
        await pipe.execute()
    assert await client.llen("list") == 200
    async with client.pubsub() as channel:
        await channel.subscribe("news")
        await client.publish("news", "hello")
        while True:
            message = await channel.get_message(ignore_subscribe_messages=True, timeout=10)
            if message:
                assert message["data"] == "hello"
                break
    values = await asyncio.gather(*(client.lindex("list", n) for n in range(50)))
    assert values == [str(n) for n in range(50)]
    await client.aclose()
    print("redis: done")


asyncio.run(main())
