"""A client of HTTP and HTTPS, against a server that the arguments name."""

import asyncio
import ssl
import sys

import httpx


async def main():
    plain, secure, authority = sys.argv[1:]
    async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=authority)) as client:
        answers = await asyncio.gather(*(client.get(f"{plain}/hello?name={n}") for n in range(10)))
        assert [answer.text for answer in answers] == [f"Hello, {n}!\n" for n in range(10)]
        answer = await client.post(f"{plain}/sum", json=[1, 2, 3])
        assert answer.json() == {"sum": 6}
        answer = await client.get(f"{secure}/path")
        assert answer.text == "you asked for /path\n", answer.text
        try:
            await client.get("http://192.0.2.1/")
        except httpx.ConnectError as error:
            print(error)
    with httpx.Client() as client:
        assert client.get(f"{plain}/").status_code == 200
    print("httpx: done")


asyncio.run(main())
