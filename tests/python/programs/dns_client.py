"""dnspython over UDP and TCP, against a server that the arguments name."""

import asyncio

import dns.asyncquery
import dns.message
import dns.rdatatype
import dns.rrset


class Server(asyncio.DatagramProtocol):
    """Answers each question with one address."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(answer(data), address)


def answer(data):
    question = dns.message.from_wire(data)
    made = dns.message.make_response(question)
    name = question.question[0].name
    made.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.33"))
    return made.to_wire()


async def by_stream(reader, writer):
    size = int.from_bytes(await reader.readexactly(2), "big")
    made = answer(await reader.readexactly(size))
    writer.write(len(made).to_bytes(2, "big") + made)
    await writer.drain()
    writer.close()


async def main():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    server = await asyncio.start_server(by_stream, "127.0.0.1", 0)
    question = dns.message.make_query("example.org", dns.rdatatype.A)
    for found in (
        await dns.asyncquery.udp(question, "127.0.0.1", 10, port),
        await dns.asyncquery.tcp(question, "127.0.0.1", 10, server.sockets[0].getsockname()[1]),
    ):
        assert found.answer[0][0].address == "192.0.2.33"
    server.close()
    transport.close()
    print("dnspython: done")


asyncio.run(main())
