"""The site of the tests, as an ASGI application: `uvicorn of_uvicorn:site`."""

import asyncio
import hashlib
import json
import urllib.parse

PIECE = bytes(range(256)) * 64


async def body(receive):
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        yield event["body"]
        if not event.get("more_body"):
            return


async def respond(send, status, content, headers=()):
    if status not in (204, 304):
        headers = [*headers, (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": content})


async def pieces(scope, send):
    query = urllib.parse.parse_qs(scope["query_string"].decode())
    size = int(query["n"][0])
    headers = [(b"content-type", b"application/octet-stream")]
    if scope["path"] == "/bytes":
        headers.append((b"content-length", b"%d" % size))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for begin in range(0, size, len(PIECE)):
        piece = PIECE[: size - begin]
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def socket(receive, send):
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "chat"})
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text") is not None:
            await send({"type": "websocket.send", "text": event["text"].upper()})
        else:
            await send({"type": "websocket.send", "bytes": event["bytes"]})


async def site(scope, receive, send):
    path = scope.get("path", "")
    if scope["type"] == "websocket":
        await socket(receive, send)
    elif scope["type"] != "http":
        return
    elif path in ("/bytes", "/stream"):
        await pieces(scope, send)
    elif path == "/sum":
        digest, length = hashlib.sha256(), 0
        async for piece in body(receive):
            digest.update(piece)
            length += len(piece)
        content = json.dumps({"length": length, "sha": digest.hexdigest()}).encode()
        await respond(send, 200, content, [(b"content-type", b"application/json")])
    elif path == "/told":
        fields = sorted([it.decode("latin-1") for it in field] for field in scope["headers"])
        target = scope["raw_path"].decode()
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode()
        await respond(send, 200, json.dumps([scope["method"], target, fields]).encode())
    elif path.startswith("/status/"):
        await respond(send, int(path.rpartition("/")[2]), b"", [(b"etag", b'"x"')])
    elif path == "/cookies":
        await respond(send, 200, b"cookies", [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")])
    elif path == "/slow":
        await asyncio.sleep(0.3)
        await respond(send, 200, b"slow")
    else:
        await respond(send, 404, b"none")
