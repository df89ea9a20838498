"""Speaks a few lines in plain text, and goes on in TLS on the same connection, as
servers of mail do.

    python3 start_tls_server.py CERTIFICATE.pem KEY.pem [PORT]
"""

import asyncio
import ssl
import sys


async def talk(reader, writer, context):
    """Answers in plain text until the client asks for TLS, then echoes."""
    writer.write(b"READY for STARTTLS or QUIT\n")
    while line := (await reader.readline()).strip():
        if line == b"QUIT":
            writer.write(b"OK goodbye\n")
            return
        if line == b"STARTTLS":
            writer.write(b"OK begin TLS\n")
            await writer.start_tls(context)
            break
        writer.write(b"ERROR unknown command\n")
        await writer.drain()
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()


async def main():
    certificate, key, *port = sys.argv[1:]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def serve(reader, writer):
        try:
            await talk(reader, writer, context)
        except (ConnectionError, ssl.SSLError) as error:
            print(f"lost a client: {error}", file=sys.stderr)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", int(port[0]) if port else 2525)
    print(f"serving on {server.sockets[0].getsockname()}")
    async with server:
        await server.serve_forever()


asyncio.run(main())
