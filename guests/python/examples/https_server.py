"""Answers each request by TLS with one line.

    python3 https_server.py CERTIFICATE.pem KEY.pem [PORT]
"""

import asyncio
import ssl
import sys


async def answer(reader, writer):
    try:
        request = (await reader.readline()).decode("latin-1").split()
        while (await reader.readline()).strip():
            pass
        path = request[1] if len(request) > 1 else "?"
        body = f"you asked for {path}\n".encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
        )
        await writer.drain()
    except ConnectionError as error:
        print(f"lost a client: {error}")
    finally:
        writer.close()


async def main():
    certificate, key, *port = sys.argv[1:]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(
        answer, "127.0.0.1", int(port[0]) if port else 8443, ssl=context
    )
    print(f"serving on {server.sockets[0].getsockname()}")
    async with server:
        await server.serve_forever()


asyncio.run(main())
