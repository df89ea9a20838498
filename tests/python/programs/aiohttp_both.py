"""A server and a client of aiohttp."""

import asyncio

import aiohttp
from aiohttp import web


async def hello(request):
    return web.json_response({"hello": request.match_info["name"], "body": await request.text()})


async def socket(request):
    answer = web.WebSocketResponse()
    await answer.prepare(request)
    async for message in answer:
        await answer.send_str(message.data.upper())
    return answer


async def main():
    app = web.Application()
    app.add_routes([web.post("/hello/{name}", hello), web.get("/socket", socket)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession() as session:
        for number in range(20):
            async with session.post(f"{base}/hello/{number}", data="x" * 10_000) as answer:
                found = await answer.json()
                assert found == {"hello": str(number), "body": "x" * 10_000}
        async with session.ws_connect(f"{base}/socket") as talk:
            await talk.send_str("quiet")
            assert (await talk.receive()).data == "QUIET"
    await runner.cleanup()
    print("aiohttp: done")


asyncio.run(main())
