"""A small server of HTTP/1.1 that keeps connections, without any package.

    python3 http_server.py [PORT]
"""

import asyncio
import json
import sys
import urllib.parse

PAGES = {}


def page(path):
    def keep(function):
        PAGES[path] = function
        return function

    return keep


@page("/")
async def home(query, body):
    return "text/html; charset=utf-8", b"<h1>Home</h1>\n"


@page("/hello")
async def hello(query, body):
    name = query.get("name", ["you"])[0]
    return "text/plain; charset=utf-8", f"Hello, {name}!\n".encode()


@page("/sum")
async def add(query, body):
    return "application/json", json.dumps({"sum": sum(json.loads(body))}).encode()


@page("/slow")
async def slow(query, body):
    await asyncio.sleep(0.2)
    return "text/plain; charset=utf-8", b"at last\n"


async def read_request(reader):
    """Returns the method, the target, the headers and the body, or None."""
    line = await reader.readline()
    if not line:
        return None
    method, target, _ = line.decode("latin-1").split()
    headers = {}
    while line := (await reader.readline()).decode("latin-1").rstrip("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return method, target, headers, body


async def serve(reader, writer):
    try:
        while request := await read_request(reader):
            method, target, headers, body = request
            url = urllib.parse.urlsplit(target)
            status, kind, answer = "404 Not Found", "text/plain", b"Not found\n"
            if url.path in PAGES:
                try:
                    kind, answer = await PAGES[url.path](urllib.parse.parse_qs(url.query), body)
                    status = "200 OK"
                except ValueError as error:
                    status, answer = "400 Bad Request", f"{error}\n".encode()
            keep = headers.get("connection", "").lower() != "close"
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n"
                f"Content-Length: {len(answer)}\r\n"
                f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n".encode("latin-1")
                + (b"" if method == "HEAD" else answer)
            )
            await writer.drain()
            if not keep:
                break
    except (ConnectionError, asyncio.IncompleteReadError, ValueError) as error:
        print(f"lost a client: {error}", file=sys.stderr)
    finally:
        writer.close()


async def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    print(f"serving on {server.sockets[0].getsockname()}")
    async with server:
        await server.serve_forever()


asyncio.run(main())
