"""The echo that Python's asyncio (or uvloop) users write, as Protocols."""

import asyncio
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


async def serve(service, certificate, key):
    loop = asyncio.get_running_loop()
    if service == "udp":
        transport, _ = await loop.create_datagram_endpoint(
            EchoDatagrams, local_addr=("127.0.0.1", 0)
        )
        address = transport.get_extra_info("sockname")
    else:
        context = None
        if service == "tls":
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate, key)
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1024, ssl=context)
        address = server.sockets[0].getsockname()
    print("listening %s://%s:%d" % (service, *address), flush=True)
    await asyncio.Event().wait()


service, certificate, key, loop = sys.argv[1:]
if loop == "uvloop":
    import uvloop as runner
else:
    runner = asyncio
runner.run(serve(service, certificate, key))
