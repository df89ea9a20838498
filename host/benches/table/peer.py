"""The echo, and the HTTP server, that Python's asyncio (or uvloop) users write, as Protocols.

Runs by python3, and in the interpreter of netwasm.
"""

import asyncio
import os
import ssl
import sys


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport  # with TCP_NODELAY, which both loops set

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        self.transport.sendto(data, peer)


def response(status, page):
    return (
        b"HTTP/1.1 %s\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s"
        % (status, len(page), page)
    )


class Http(asyncio.Protocol):
    """No more than a benchmark needs: requests without a body, and no limits. A file is sent by
    sendfile(2), where there is no TLS."""

    PAGES = {
        b"/": response(b"200 OK", b"<h1>Home</h1>"),
        b"/about": response(b"200 OK", b"<h1>About</h1>"),
    }
    NOT_FOUND = response(b"404 Not Found", b"<h1>404 Not Found</h1>")

    def connection_made(self, transport):
        self.transport = transport
        self.rest = b""

    def data_received(self, data):
        *heads, self.rest = (self.rest + data).split(b"\r\n\r\n")
        for head in heads:
            method, target, _ = head.split(b" ", 2)
            if target.endswith(b".html"):
                # The load asks for one file at a time.
                self.sending = asyncio.ensure_future(self.send(target.decode().lstrip("/")))
            else:
                self.transport.write(self.PAGES.get(target, self.NOT_FOUND))

    async def send(self, name):
        with open(os.path.join(FILES, name), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % size
            )
            await asyncio.get_running_loop().sendfile(self.transport, file)


async def serve(service, certificate, key):
    loop = asyncio.get_running_loop()
    if service == "udp":
        transport, _ = await loop.create_datagram_endpoint(
            EchoDatagrams, local_addr=("127.0.0.1", 0)
        )
        address = transport.get_extra_info("sockname")
    else:
        context = None
        if service in ("tls", "https"):
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate, key)
        protocol = Http if service in ("http", "https") else Echo
        server = await loop.create_server(protocol, "127.0.0.1", 0, backlog=1024, ssl=context)
        address = server.sockets[0].getsockname()
    print("listening %s://%s:%d" % (service, *address), flush=True)
    await asyncio.Event().wait()


service, certificate, key, FILES, loop = sys.argv[1:]
if loop == "uvloop":
    import uvloop as runner
else:
    runner = asyncio
runner.run(serve(service, certificate, key))
