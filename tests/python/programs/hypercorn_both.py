"""A server of hypercorn, and httpx over HTTP/1.1 and HTTP/2."""

import asyncio
import ssl
import sys

import httpx
from hypercorn.asyncio import serve
from hypercorn.config import Config


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for word in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{word}"
            await send({"type": f"lifespan.{word}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["http_version"].encode()})


async def main():
    port, certificate, key, authority = sys.argv[1:]
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.certfile, config.keyfile = certificate, key
    stop, tried = asyncio.Event(), ssl.create_default_context(cafile=authority)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(app, config, shutdown_trigger=stop.wait))
        for newer, version in ((False, "1.1"), (True, "2")):
            transport = httpx.AsyncHTTPTransport(http2=newer, verify=tried, retries=10)
            async with httpx.AsyncClient(transport=transport) as client:
                await client.get(f"https://localhost:{port}/")
                asked = (client.get(f"https://localhost:{port}/") for _ in range(10))
                assert {answer.text for answer in await asyncio.gather(*asked)} == {version}
        stop.set()
    print("hypercorn: done")


asyncio.run(main())
