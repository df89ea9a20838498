"""The site of the tests, by aiohttp: `of_aiohttp.py PORT`."""

import asyncio
import hashlib
import json
import sys

from aiohttp import WSMsgType, web

PIECE = bytes(range(256)) * 64


def size(request):
    return int(request.query.get("n", 0))


async def pieces(request):
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    if request.path == "/bytes":
        response.content_length = size(request)
    else:
        response.enable_chunked_encoding()
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    for begin in range(0, size(request), len(PIECE)):
        await response.write(PIECE[: size(request) - begin])
    await response.write_eof()
    return response


async def sum_up(request):
    digest, length = hashlib.sha256(), 0
    async for piece in request.content.iter_any():
        digest.update(piece)
        length += len(piece)
    return web.json_response({"length": length, "sha": digest.hexdigest()})


async def told(request):
    fields = [[name.lower(), value] for name, value in request.headers.items()]
    return web.Response(text=json.dumps([request.method, request.raw_path, sorted(fields)]))


async def status(request):
    return web.Response(status=int(request.match_info["status"]), headers={"ETag": '"x"'})


async def cookies(_):
    response = web.Response(text="cookies")
    response.headers.add("Set-Cookie", "a=1; Path=/")
    response.headers.add("Set-Cookie", "b=2; Path=/")
    return response


async def slow(_):
    await asyncio.sleep(0.3)
    return web.Response(text="slow")


async def socket(request):
    peer = web.WebSocketResponse(protocols=["chat"])
    await peer.prepare(request)
    async for message in peer:
        if message.type == WSMsgType.TEXT:
            await peer.send_str(message.data.upper())
        elif message.type == WSMsgType.BINARY:
            await peer.send_bytes(message.data)
    return peer


app = web.Application(client_max_size=1 << 31)
app.add_routes([
    web.get("/bytes", pieces), web.get("/stream", pieces), web.post("/sum", sum_up),
    web.route("*", "/told", told), web.get("/status/{status}", status),
    web.get("/cookies", cookies), web.get("/slow", slow), web.get("/socket", socket)])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
