"""Tests of Python's own modules over the host's sockets, in the component.

Run by tests/python/run, with a folder of certificates; natively, too, where all
of it but the parts about components has to hold as well:

    python3 test_adapter.py FOLDER
"""

import asyncio
import contextvars
import errno
import gc
import getpass
import hashlib
import importlib.resources
import io
import os
import queue
import select
import selectors
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest
import warnings

CERTIFICATES = sys.argv.pop() if len(sys.argv) > 1 else "."
IN_COMPONENT = sys.platform == "wasi"
in_component = unittest.skipUnless(IN_COMPONENT, "of a component")


def listener(family=socket.AF_INET, host="127.0.0.1"):
    return socket.create_server((host, 0), family=family)


def connected():
    """Two ends of a TCP connection."""
    with listener() as listening:
        client = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
    return client, server


class Sockets(unittest.TestCase):
    def test_a_pair_talks(self):
        one, other = socket.socketpair()
        with one, other:
            one.sendall(b"hello")
            self.assertEqual(other.recv(100), b"hello")
            self.assertEqual(one.family, socket.AF_UNIX)
            one.shutdown(socket.SHUT_WR)
            self.assertEqual(other.recv(100), b"")

    def test_much_is_sent_while_the_peer_reads(self):
        client, server = connected()
        with client, server:
            client.setblocking(False)
            data = os.urandom(1 << 20) * 4
            sent, received = 0, bytearray()
            while len(received) < len(data):
                if sent < len(data):
                    try:
                        sent += client.send(memoryview(data)[sent:])
                    except BlockingIOError:
                        pass
                received += server.recv(65536)
            self.assertEqual(received, data)

    def test_a_timeout_is_kept(self):
        one, other = socket.socketpair()
        with one, other:
            one.settimeout(0.05)
            before = time.monotonic()
            with self.assertRaises(TimeoutError) as caught:
                one.recv(1)
            self.assertEqual(str(caught.exception), "timed out")
            self.assertGreaterEqual(time.monotonic() - before, 0.05)

    def test_a_socket_that_does_not_block_says_so(self):
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            with self.assertRaises(BlockingIOError) as caught:
                one.recv(1)
            self.assertEqual(caught.exception.errno, errno.EAGAIN)
            with self.assertRaises(BlockingIOError):
                while True:
                    one.send(bytes(65536))

    def test_buffers_are_filled_in_place(self):
        one, other = socket.socketpair()
        with one, other:
            one.sendall(b"abcdefgh")
            buffer = bytearray(b"........")
            self.assertEqual(other.recv_into(memoryview(buffer)[2:5]), 3)
            self.assertEqual(buffer, b"..abc...")
            self.assertEqual(other.recv_into(buffer, 2), 2)
            self.assertEqual(buffer, b"deabc...")
            self.assertEqual(other.recv(1, socket.MSG_PEEK), b"f")
            self.assertEqual(other.recv(3, socket.MSG_WAITALL), b"fgh")

    def test_several_buffers_are_sent_and_received(self):
        one, other = socket.socketpair()
        with one, other:
            self.assertEqual(one.sendmsg([b"ab", bytearray(b"cd"), memoryview(b"e")]), 5)
            first, second = bytearray(3), bytearray(3)
            self.assertEqual(other.recvmsg_into([first, second])[0], 5)
            self.assertEqual((first, second), (b"abc", b"de\0"))

    def test_datagrams_keep_their_bounds_and_senders(self):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        ):
            one.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            one.sendto(b"first", other.getsockname())
            one.sendto(b"second", other.getsockname())
            self.assertEqual(other.recvfrom(100), (b"first", one.getsockname()))
            data, _, flags, sender = other.recvmsg(3)
            self.assertEqual((data, sender), (b"sec", one.getsockname()))
            self.assertTrue(flags & socket.MSG_TRUNC)
            other.connect(one.getsockname())
            self.assertEqual(other.getpeername(), one.getsockname())
            other.send(b"back")
            self.assertEqual(one.recv(100), b"back")

    def test_addresses_of_ipv6(self):
        with listener(socket.AF_INET6, "::1") as listening:
            host, port, flow_info, scope = listening.getsockname()
            self.assertEqual((host, flow_info, scope), ("::1", 0, 0))
            with socket.create_connection(("::1", port)) as client:
                server, peer = listening.accept()
                server.close()
                self.assertEqual(peer, client.getsockname())

    def test_nobody_listens(self):
        with listener() as listening:
            address = listening.getsockname()
        with self.assertRaises(ConnectionRefusedError) as caught:
            socket.create_connection(address)
        self.assertEqual(caught.exception.errno, errno.ECONNREFUSED)
        with socket.socket() as sock:
            self.assertEqual(sock.connect_ex(address), errno.ECONNREFUSED)

    def test_an_address_is_taken_once(self):
        with listener() as listening, socket.socket() as other:
            with self.assertRaises(OSError) as caught:
                other.bind(listening.getsockname())
            self.assertEqual(caught.exception.errno, errno.EADDRINUSE)

    def test_options_are_the_kernels(self):
        with socket.socket() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.assertEqual(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
            self.assertEqual(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 77)
            linger = (1).to_bytes(4, sys.byteorder) + (5).to_bytes(4, sys.byteorder)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8), linger)
            self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE), socket.SOCK_STREAM)
            self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)
            with self.assertRaises(OSError) as caught:
                sock.setsockopt(socket.SOL_SOCKET, 9999, 1)
            self.assertEqual(caught.exception.errno, errno.ENOPROTOOPT)

    def test_what_is_closed_is_no_socket(self):
        one, other = socket.socketpair()
        other.close()
        one.close()
        one.close()
        self.assertEqual(one.fileno(), -1)
        with self.assertRaises(OSError) as caught:
            one.recv(1)
        self.assertEqual(caught.exception.errno, errno.EBADF)

    def test_a_descriptor_goes_from_hand_to_hand(self):
        one, other = socket.socketpair()
        with one:
            again = socket.socket(fileno=other.detach())
            self.assertEqual((again.family, again.type), (socket.AF_UNIX, socket.SOCK_STREAM))
            copy = again.dup()
            again.close()
            with copy:
                one.sendall(b"still")
                self.assertEqual(copy.recv(10), b"still")

    def test_wrong_arguments_are_python_errors(self):
        one, other = socket.socketpair()
        with one, other:
            for call, kind in (
                (lambda: one.recv(-1), ValueError),
                (lambda: one.recv(1.5), TypeError),
                (lambda: one.recv("1"), TypeError),
                (lambda: one.send("text"), TypeError),
                (lambda: one.send(7), TypeError),
                (lambda: one.recv_into(bytearray(1), 2), ValueError),
                (lambda: one.recv_into(b"fixed"), (TypeError, BufferError)),
                (lambda: one.settimeout(-1), ValueError),
            ):
                with self.assertRaises(kind):
                    call()
        with socket.socket() as sock:
            for address in (("127.0.0.1", 70000), ("127.0.0.1", -1)):
                with self.assertRaises(OverflowError):
                    sock.bind(address)
            for address in (("127.0.0.1", "80"), ("127.0.0.1",), "127.0.0.1", (1, 80)):
                with self.assertRaises(TypeError):
                    sock.bind(address)
            with self.assertRaises(TypeError):
                sock.listen("x")
        with self.assertRaises(OSError):
            socket.socket(99)

    def test_many_bytes_are_asked_for(self):
        one, other = socket.socketpair()
        with one, other:
            one.sendall(b"few")
            self.assertEqual(other.recv(1 << 30), b"few")

    def test_what_was_forgotten_is_told_and_closed(self):
        one, other = socket.socketpair()
        with other:
            with self.assertWarns(ResourceWarning):
                del one
            self.assertEqual(other.recv(1), b"")

    def test_a_blocking_program_serves(self):
        with listener() as listening:
            with socket.create_connection(listening.getsockname()) as client:
                server, _ = listening.accept()
                with server, client.makefile("rw") as lines, server.makefile("rw") as answers:
                    lines.write("question\n")
                    lines.flush()
                    self.assertEqual(answers.readline(), "question\n")

    def test_paths_are_addresses(self):
        path = os.path.join(os.path.abspath(CERTIFICATES), "socket")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                server, peer = listening.accept()
                with server:
                    self.assertEqual(server.getsockname(), path)
                    self.assertEqual(peer, "")
                    client.sendall(b"hello")
                    self.assertEqual(server.recv(10), b"hello")
        if not IN_COMPONENT:
            os.remove(path)


class Memory(unittest.TestCase):
    @in_component
    def test_what_is_sent_does_not_stay(self):
        # More than the memory that a program may have.
        one, other = socket.socketpair()
        with one, other:
            data = bytes(100_000)
            for _ in range(20_000):
                one.sendall(data)
                self.assertEqual(len(other.recv(200_000)), len(data))


class Names(unittest.TestCase):
    def test_numbers_need_no_resolver(self):
        self.assertEqual(
            socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM),
            [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))],
        )
        self.assertEqual(
            socket.getaddrinfo("::1", "https", type=socket.SOCK_STREAM),
            [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 443, 0, 0))],
        )
        self.assertEqual(len(socket.getaddrinfo("127.0.0.1", 80)), 3)

    def test_wildcards(self):
        found = socket.getaddrinfo(
            None, 80, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        self.assertEqual({entry[4][0] for entry in found}, {"0.0.0.0", "::"})
        found = socket.getaddrinfo(None, 80, type=socket.SOCK_STREAM)
        self.assertEqual({entry[4][0] for entry in found}, {"127.0.0.1", "::1"})

    def test_localhost(self):
        found = socket.getaddrinfo("localhost", 0, socket.AF_INET, socket.SOCK_STREAM)
        self.assertEqual(found[0][4][0], "127.0.0.1")
        self.assertEqual(socket.gethostbyname("localhost"), "127.0.0.1")

    def test_what_cannot_be_looked_up(self):
        for arguments, code in (
            ((None, None), socket.EAI_NONAME),
            (("127.0.0.1", "no such service"), socket.EAI_SERVICE),
            (("localhost", 0, socket.AF_INET, 0, 0, socket.AI_NUMERICHOST), socket.EAI_NONAME),
            (("::1", 0, socket.AF_INET), socket.EAI_ADDRFAMILY),
            (("127.0.0.1", 0, 99), socket.EAI_FAMILY),
        ):
            with self.subTest(arguments), self.assertRaises(socket.gaierror) as caught:
                socket.getaddrinfo(*arguments)
            self.assertEqual(caught.exception.args[0], code)
        for name in ("two..dots", ".leading", "long" * 16, "l" * 300):
            with self.subTest(name), self.assertRaises(UnicodeError):
                socket.getaddrinfo(name, 0)

    def test_text_and_bytes_of_addresses(self):
        for text in ("::", "::1", "1::", "fe80::1:2", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4"):
            packed = socket.inet_pton(socket.AF_INET6, text)
            self.assertEqual(socket.inet_ntop(socket.AF_INET6, packed), text)
        self.assertEqual(socket.inet_pton(socket.AF_INET6, "1::2:0:0:3.4.5.6")[12:], b"\3\4\5\6")
        for text in ("", ":", ":::", "1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::12345", "::g",
                     "1::2::3", "1.2.3.4", ":1::", "::1:"):
            with self.subTest(text), self.assertRaises(OSError):
                socket.inet_pton(socket.AF_INET6, text)
        for text in ("", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.x", "1..2.3", "01.2.3.4"):
            with self.subTest(text), self.assertRaises(OSError):
                socket.inet_pton(socket.AF_INET, text)
        self.assertEqual(socket.inet_aton("127.1"), b"\x7f\0\0\1")
        self.assertEqual(socket.inet_aton("0x7f000001"), b"\x7f\0\0\1")
        self.assertEqual(socket.htons(0x1234), 0x3412)

    def test_names_of_addresses_are_numbers(self):
        flags = socket.NI_NUMERICHOST
        self.assertEqual(socket.getnameinfo(("127.0.0.1", 80), flags), ("127.0.0.1", "http"))
        flags |= socket.NI_NUMERICSERV
        self.assertEqual(socket.getnameinfo(("::1", 80), flags), ("::1", "80"))


class Waiting(unittest.TestCase):
    def test_select_returns_what_it_was_given(self):
        one, other = socket.socketpair()
        with one, other:
            self.assertEqual(select.select([one], [], [], 0), ([], [], []))
            other.send(b"x")
            ready = select.select([one, other.fileno()], [one], [], 1)
            self.assertEqual(ready, ([one], [one], []))

    def test_poll(self):
        one, other = socket.socketpair()
        with one, other:
            poll = select.poll()
            poll.register(one, select.POLLIN)
            self.assertEqual(poll.poll(10), [])
            other.close()
            ((number, bits),) = poll.poll(1000)
            self.assertEqual(number, one.fileno())
            self.assertTrue(bits & select.POLLIN)
            poll.unregister(one)
            with self.assertRaises(KeyError):
                poll.unregister(one)

    def test_epoll(self):
        one, other = socket.socketpair()
        with one, other, select.epoll() as epoll:
            epoll.register(one, select.EPOLLIN | select.EPOLLOUT)
            with self.assertRaises(FileExistsError):
                epoll.register(one)
            self.assertEqual(epoll.poll(1), [(one.fileno(), select.EPOLLOUT)])
            epoll.modify(one, select.EPOLLIN)
            self.assertEqual(epoll.poll(0), [])
            other.send(b"x")
            self.assertEqual(epoll.poll(1, 1), [(one.fileno(), select.EPOLLIN)])
            epoll.unregister(one)
            with self.assertRaises(OSError):
                epoll.unregister(one)
            with self.assertRaises(OSError):
                epoll.modify(one, 0)
        with self.assertRaises(ValueError):
            epoll.poll(0)

    def test_a_number_is_used_again(self):
        with select.epoll() as epoll:
            for _ in range(3):
                one, other = socket.socketpair()
                with one, other:
                    epoll.register(one, select.EPOLLIN)
                    other.send(b"x")
                    self.assertEqual(len(epoll.poll(1)), 1)

    def test_the_default_selector_is_epolls(self):
        self.assertIs(selectors.DefaultSelector, selectors.EpollSelector)

    def test_files_are_ready(self):
        with open(__file__, "rb") as file:
            self.assertEqual(select.select([file], [], [], 5)[0], [file])

    def test_sleep_takes_its_time(self):
        before = time.monotonic()
        time.sleep(0.05)
        self.assertGreaterEqual(time.monotonic() - before, 0.05)
        with self.assertRaises(ValueError):
            time.sleep(-1)
        with self.assertRaises(TypeError):
            time.sleep("1")


class Signals(unittest.TestCase):
    def test_a_handler_is_called(self):
        seen = []
        before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
        try:
            self.assertEqual(before, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            self.assertEqual(seen, [signal.SIGTERM] * 2)
            self.assertEqual([type(number) for number in seen], [int, int])
        finally:
            signal.signal(signal.SIGTERM, before)

    def test_an_interrupt_is_an_exception(self):
        with self.assertRaises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    def test_some_cannot_be_caught(self):
        with self.assertRaises(OSError):
            signal.signal(signal.SIGKILL, signal.SIG_IGN)
        with self.assertRaises(ValueError):
            signal.signal(999, signal.SIG_IGN)

    def test_a_loop_hears_them(self):
        async def main():
            heard = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, heard.set)
            loop.call_later(0.01, os.kill, os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(heard.wait(), 10)
            self.assertTrue(loop.remove_signal_handler(signal.SIGTERM))

        asyncio.run(main())

    def test_a_runner_cancels_its_task(self):
        async def main():
            asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        cancelled = []
        with self.assertRaises(KeyboardInterrupt):
            asyncio.run(main())
        self.assertEqual(cancelled, [True])


class Loops(unittest.IsolatedAsyncioTestCase):
    async def serve(self, handler, **options):
        server = await asyncio.start_server(handler, "127.0.0.1", 0, **options)
        self.addAsyncCleanup(server.wait_closed)
        self.addCleanup(server.close)
        return server.sockets[0].getsockname()

    async def echo(self, reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def test_streams_carry_much(self):
        address = await self.serve(self.echo)
        reader, writer = await asyncio.open_connection(*address)
        data = os.urandom(3_000_000)
        writer.write(data)
        self.assertEqual(await reader.readexactly(len(data)), data)
        writer.close()
        await writer.wait_closed()

    async def test_a_name_does_not_hold_the_loop(self):
        loop = asyncio.get_running_loop()
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        found = await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        counting.cancel()
        self.assertIn("127.0.0.1", {entry[4][0] for entry in found})
        self.assertGreater(turns, 0)

    async def test_a_call_from_elsewhere_wakes_the_loop(self):
        loop = asyncio.get_running_loop()
        called = asyncio.Event()
        loop.call_later(0.01, loop.call_soon_threadsafe, called.set)
        await asyncio.wait_for(called.wait(), 10)

    async def test_many_connections_at_once(self):
        address = await self.serve(self.echo)

        async def one(number):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"%d\n" % number)
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return int(line)

        answers = await asyncio.gather(*map(one, range(100)))
        self.assertEqual(answers, list(range(100)))

    async def test_a_reset_is_told(self):
        async def reset(reader, writer):
            linger = (1).to_bytes(4, "little") + bytes(4)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

        reader, writer = await asyncio.open_connection(*await self.serve(reset))
        with self.assertRaises(ConnectionResetError):
            await reader.read()
        writer.close()

    async def test_files_are_sent(self):
        data = os.urandom(1 << 20) + b"end"
        path = os.path.join(CERTIFICATES, "data.bin")
        with open(path, "wb") as file:
            file.write(data)
        self.addCleanup(os.remove, path)
        loop = asyncio.get_running_loop()

        async def send(reader, writer):
            with open(path, "rb") as file:
                self.assertEqual(await loop.sendfile(writer.transport, file), len(data))
                self.assertEqual(file.tell(), len(data))
                sent = await loop.sendfile(writer.transport, file, 1 << 20, 2)
                self.assertEqual(sent, 2)
            writer.close()

        reader, writer = await asyncio.open_connection(*await self.serve(send))
        self.assertEqual(await reader.read(), data + b"en")
        writer.close()

    async def test_files_are_read_and_sent_where_the_kernel_cannot(self):
        data = os.urandom(700_000)
        path = os.path.join(CERTIFICATES, "more.bin")
        with open(path, "wb") as file:
            file.write(data)
        self.addCleanup(os.remove, path)
        loop = asyncio.get_running_loop()

        async def send(reader, writer):
            with open(path, "rb") as file:
                await loop.sendfile(writer.transport, file)
            writer.close()

        address = await self.serve(send, ssl=server_context())
        reader, writer = await asyncio.open_connection(
            *address, ssl=client_context(), server_hostname="localhost"
        )
        self.assertEqual(await reader.read(), data)
        writer.close()

    async def test_datagrams_by_a_protocol(self):
        received = asyncio.get_running_loop().create_future()

        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, address):
                self.transport.sendto(data.upper(), address)

        class Client(asyncio.DatagramProtocol):
            def datagram_received(self, data, address):
                received.set_result(data)

        loop = asyncio.get_running_loop()
        server, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        client, _ = await loop.create_datagram_endpoint(
            Client, remote_addr=server.get_extra_info("sockname")
        )
        client.sendto(b"hello")
        self.assertEqual(await asyncio.wait_for(received, 10), b"HELLO")
        client.close()
        server.close()

    async def test_tls_carries_pieces_of_any_size(self):
        # Streams pause reading and writing meanwhile; some pieces fit into a session
        # and a socket at once, and some do not.
        address = await self.serve(self.echo, ssl=server_context())
        reader, writer = await asyncio.open_connection(
            *address, ssl=client_context(), server_hostname="localhost"
        )
        pieces = [os.urandom(size) for size in (1, 100, 16_384, 65_536, 65_537, 300_000, 7) * 3]
        for piece in pieces:
            writer.write(piece)
        for piece in pieces:
            self.assertEqual(await reader.readexactly(len(piece)), piece)
        writer.writelines([b"", b"some ", memoryview(b"views "), bytearray(b"of it")])
        self.assertEqual(await reader.readexactly(16), b"some views of it")
        writer.close()
        await writer.wait_closed()

    async def test_tls_waits_where_a_program_does_not_read(self):
        received, lost = [], asyncio.Event()

        class Slow(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                received.append(data)
                self.transport.pause_reading()
                asyncio.get_running_loop().call_later(0, self.transport.resume_reading)

            def eof_received(self):
                received.append(None)

            def connection_lost(self, error):
                lost.set()

        loop = asyncio.get_running_loop()
        server = await loop.create_server(Slow, "127.0.0.1", 0, ssl=server_context())
        self.addAsyncCleanup(server.wait_closed)
        self.addCleanup(server.close)
        _, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
        )
        data = os.urandom(600_000)
        for start in range(0, len(data), 60_000):
            writer.write(data[start : start + 60_000])
        # The end is right behind the data.
        writer.close()
        await lost.wait()
        self.assertIsNone(received.pop())
        self.assertEqual(b"".join(received), data)

    @in_component
    async def test_tls_gives_data_before_it_tells_what_broke_a_session(self):
        async def spoil(reader, writer):
            writer.write(b"data")
            writer.transport._ssl_protocol._transport.write(b"no record of TLS")
            await asyncio.wait_for(reader.read(), 10)

        reader, writer = await asyncio.open_connection(
            *await self.serve(spoil, ssl=server_context()),
            ssl=client_context(),
            server_hostname="localhost",
        )
        self.assertEqual(await reader.readexactly(4), b"data")
        with self.assertRaises(ssl.SSLError):
            await reader.read()
        writer.close()

    @in_component
    async def test_tls_keeps_no_buffer_for_each_connection(self):
        address = await self.serve(self.echo, ssl=server_context())
        reader, writer = await asyncio.open_connection(
            *address, ssl=client_context(), server_hostname="localhost"
        )
        writer.write(b"some")
        self.assertEqual(await reader.readexactly(4), b"some")
        kept = len(writer.transport._ssl_protocol._ssl_buffer)
        writer.close()
        await writer.wait_closed()
        self.assertEqual(kept, 0)

    async def test_tls_begins_later(self):
        async def upgrade(reader, writer):
            self.assertEqual(await reader.readline(), b"STARTTLS\n")
            writer.write(b"go\n")
            await writer.start_tls(server_context())
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()

        reader, writer = await asyncio.open_connection(*await self.serve(upgrade))
        writer.write(b"STARTTLS\n")
        self.assertEqual(await reader.readline(), b"go\n")
        await writer.start_tls(client_context(), server_hostname="localhost")
        writer.write(b"secret\n")
        self.assertEqual(await reader.readline(), b"SECRET\n")
        writer.close()

    @in_component
    async def test_an_executor_runs_at_once(self):
        with self.assertWarnsRegex(RuntimeWarning, "no threads") if not executors_warned() else quiet():
            self.assertEqual(await asyncio.to_thread(sum, [1, 2, 3]), 6)
        with self.assertRaises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)

    async def test_a_function_of_an_executor_finds_what_a_thread_would(self):
        variable = contextvars.ContextVar("variable", default="of nobody")
        variable.set("of the task")
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            self.assertEqual(await loop.run_in_executor(None, variable.get), "of nobody")
            await loop.run_in_executor(None, variable.set, "of the function")
            await asyncio.to_thread(variable.set, "of the function")
            self.assertEqual(variable.get(), "of the task")
            self.assertEqual(await asyncio.to_thread(variable.get), "of the task")
            with self.assertRaisesRegex(RuntimeError, "no running event loop"):
                await asyncio.to_thread(asyncio.get_running_loop)
            inner = asyncio.sleep(0.01, "of another loop")
            self.assertEqual(await asyncio.to_thread(asyncio.run, inner), "of another loop")
        self.assertIs(asyncio.get_running_loop(), loop)
        self.assertIs(asyncio.current_task(), task)

    @in_component
    async def test_a_function_that_would_wait_for_its_loop_is_told(self):
        loop = asyncio.get_running_loop()

        def wait():
            return asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            with self.assertRaisesRegex(RuntimeError, "no threads"):
                await asyncio.to_thread(wait)

    @in_component
    async def test_a_process_is_refused(self):
        for start in (
            lambda: asyncio.create_subprocess_exec("ls"),
            lambda: asyncio.create_subprocess_shell("ls"),
        ):
            with self.assertRaisesRegex(PermissionError, "no processes"):
                await start()


def executors_warned():
    from netwasm_python import inline, loop

    return loop._INLINE in inline._warned


class quiet:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


@in_component
class Hashes(unittest.TestCase):
    def test_what_the_build_left_is_found_by_the_secret_of_this_start(self):
        # Each string in memory has its hash of the build, and another string that
        # is equal has to have that, too, or no table would find it.
        gc.unfreeze()
        self.addCleanup(gc.freeze)
        seen = {
            id(value): value
            for holder in gc.get_objects()
            for value in gc.get_referents(holder)
            if isinstance(value, (str, bytes))
        }
        self.assertGreater(len(seen), 10_000)
        for value in seen.values():
            if isinstance(value, str):
                again = "".join([*value])
            else:
                again = bytes(bytearray(value))
            if hash(again) != hash(value):
                self.fail(f"another {value!r} has another hash")

    def test_kinds_of_strings_and_bytes_hash_alike(self):
        for text in ("q", "of no module", "größer als das", "\u20ac and more", "\U0001f40d"):
            self.assertEqual(hash(text), hash("".join([*text])))
            octets = text.encode()
            self.assertEqual(hash(octets), hash(bytes(bytearray(octets))))
            self.assertEqual(hash(octets), hash(memoryview(octets)))
        self.assertEqual(hash("eleven more"), hash(b"eleven more"))
        self.assertEqual((hash(""), hash(b"")), (0, 0))
        # Nothing is lost on the way to 32 bits, and no length collides.
        lengths = [hash("z" * count) for count in range(200)]
        self.assertGreater(len(set(lengths)), 198)


class Component(unittest.TestCase):
    @in_component
    def test_a_thread_is_refused_in_words(self):
        with self.assertRaisesRegex(RuntimeError, "no threads"):
            threading.Thread(target=print).start()

    @in_component
    def test_what_waits_for_a_thread_waits_for_its_time(self):
        before = time.monotonic()
        self.assertFalse(threading.Event().wait(0.05))
        with self.assertRaises(queue.Empty):
            queue.Queue().get(timeout=0.05)
        with self.assertRaises(queue.Empty):
            queue.SimpleQueue().get(timeout=0.05)
        lock = threading.Lock()
        with lock:
            self.assertFalse(lock.acquire(timeout=0.05))
        self.assertGreaterEqual(time.monotonic() - before, 0.2)

    @in_component
    def test_a_function_that_would_wait_for_ever_is_told(self):
        import concurrent.futures

        lock, event, semaphore = threading.Lock(), threading.Event(), threading.Semaphore(0)
        condition = threading.Condition(threading.Lock())
        waits = (
            lambda: event.wait(),
            lambda: semaphore.acquire(),
            lambda: queue.Queue().get(),
            lambda: queue.SimpleQueue().get(),
            lambda: queue.PriorityQueue().get(),
        )

        def notified():
            with condition:
                condition.wait()

        def deeper():
            with concurrent.futures.ThreadPoolExecutor() as inner:
                inner.submit(lock.acquire).result()

        async def within_a_loop():
            with lock:
                await asyncio.to_thread(lock.acquire)

        with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor() as executor:
            warnings.simplefilter("ignore", RuntimeWarning)

            def told(function):
                with self.assertRaisesRegex(RuntimeError, "no threads") as caught:
                    executor.submit(function).result()
                return str(caught.exception)

            # The line and the function that called are named.
            where = r"test_adapter\.py, line \d+, in .*"
            with lock:
                self.assertRegex(told(lock.acquire), where + "told")
                self.assertRegex(told(deeper), where + "told")
                self.assertIn("acquired before", told(lock.__enter__))
                # One that ends is not.
                self.assertFalse(executor.submit(lock.acquire, True, 0.01).result())
                self.assertFalse(executor.submit(lock.acquire, False).result())
                with condition:
                    self.assertIn("acquired before", told(notified))
            with self.assertRaisesRegex(RuntimeError, where + "within_a_loop"):
                asyncio.run(within_a_loop())
            for wait in (*waits, notified):
                told(wait)
            # Nothing is left as it would be within a function.
            self.assertTrue(executor.submit(lock.acquire).result())
            lock.release()

    @in_component
    def test_a_process_is_refused_in_words(self):
        with self.assertRaisesRegex(PermissionError, "no processes"):
            subprocess.run(["ls"])

    @in_component
    def test_other_ways_to_a_process_are_refused_in_words(self):
        import concurrent.futures
        import multiprocessing

        with self.assertRaisesRegex(PermissionError, "no processes"):
            multiprocessing.Process(target=print).start()
        with self.assertRaisesRegex(NotImplementedError, "no processes"):
            concurrent.futures.ProcessPoolExecutor()
        # hypercorn imports it, and has workers only where it is told to.
        import multiprocessing.synchronize

        with self.assertRaisesRegex(PermissionError, "no processes"):
            multiprocessing.Event()

    def test_the_user_has_a_name(self):
        self.assertTrue(getpass.getuser())

    def test_a_server_with_a_thread_for_each_connection_serves(self):
        class Echo(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(self.rfile.readline())

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
                for line in (b"one\n", b"another\n"):
                    with socket.create_connection(server.server_address) as client:
                        client.sendall(line)
                        server.handle_request()
                        self.assertEqual(client.recv(100), line)

    def test_temporary_files_need_no_folder(self):
        folders = [tempfile.tempdir]
        tempfile.tempdir = None
        self.addCleanup(lambda: setattr(tempfile, "tempdir", folders[0]))
        with tempfile.TemporaryFile() as file:
            file.write(b"some bytes")
            file.seek(5)
            self.assertEqual(file.read(), b"bytes")
            self.assertIsInstance(file, io.BufferedRandom)
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
            file.write("größer")
            file.seek(0)
            self.assertEqual(file.read(), "größer")
        with tempfile.SpooledTemporaryFile(max_size=10) as file:
            file.write(bytes(100))
            file.seek(50)
            self.assertEqual(len(file.read()), 50)
        if IN_COMPONENT:
            with self.assertRaisesRegex(FileNotFoundError, "--dir"):
                tempfile.mkdtemp()

    def test_keys_are_derived_from_passwords(self):
        # RFC 6070 and RFC 7914.
        for digest, password, salt, rounds, key in (
            ("sha1", b"password", b"salt", 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"),
            ("sha1", b"pass\0word", b"sa\0lt", 4096, "56fa6aa75548099dcc37d7f03425e0c3"),
            ("sha256", b"passwd", b"salt", 1,
             "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
             "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"),
        ):
            made = hashlib.pbkdf2_hmac(digest, password, salt, rounds, len(key) // 2)
            self.assertEqual(made.hex(), key)
        self.assertEqual(len(hashlib.pbkdf2_hmac("sha512", bytearray(b"x"), b"y", 1)), 64)
        for arguments, kind in (
            (("nothing", b"", b"", 1), ValueError),
            (("shake_128", b"", b"", 1), ValueError),
            (("shake_256", b"", b"", 1, 32), ValueError),
            (("sha256", b"", b"", 0), ValueError),
            (("sha256", b"", b"", 1, 0), ValueError),
            (("sha256", "text", b"", 1), TypeError),
            ((b"sha256", b"", b"", 1), TypeError),
        ):
            with self.subTest(arguments), self.assertRaises(kind):
                hashlib.pbkdf2_hmac(*arguments)

    @in_component
    def test_a_denial_names_the_flag(self):
        for call, flag in (
            (lambda: socket.create_connection(("192.0.2.7", 80)), "--allow-connect"),
            (lambda: socket.getaddrinfo("example.org", 80), "--allow-resolve"),
            (lambda: socket.create_server(("192.0.2.7", 80)), "--allow-listen"),
        ):
            with self.assertRaisesRegex(PermissionError, flag) as caught:
                call()
            self.assertEqual(caught.exception.errno, errno.EACCES)

    @in_component
    def test_the_wasi_libc_sockets_are_out_of_reach(self):
        import _socket

        self.assertEqual(_socket.__name__, "netwasm_python.sockets")

    def test_a_traceback_shows_lines_of_the_library(self):
        async def fail():
            raise ValueError("on purpose")

        try:
            asyncio.run(fail())
        except ValueError:
            text = traceback.format_exc()
        self.assertIn("return runner.run(main)", text)
        self.assertIn('raise ValueError("on purpose")', text)

    def test_all_of_the_library_can_be_imported(self):
        for name in ("sqlite3", "xml.etree.ElementTree", "decimal", "zipfile", "csv", "wsgiref",
                     "http.server", "smtplib", "concurrent.futures", "statistics", "tomllib", "pydoc", "pdb"):
            with self.subTest(name):
                __import__(name)

    def test_random_numbers_differ(self):
        self.assertNotEqual(os.urandom(16), os.urandom(16))
        self.assertNotEqual(ssl.RAND_bytes(16), bytes(16))


def certificate(name):
    return os.path.join(CERTIFICATES, name)


def server_context(**options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate("server.pem"), certificate("server.key"))
    return context


def client_context():
    return ssl.create_default_context(cafile=certificate("ca.pem"))


def sessions(client, server, name="localhost"):
    """Two sessions in memory, and a function that carries what is between them, or
    at most some bytes of it each way."""
    client_in, client_out, server_in, server_out = (ssl.MemoryBIO() for _ in range(4))
    near = client.wrap_bio(client_in, client_out, server_hostname=name)
    far = server.wrap_bio(server_in, server_out, server_side=True)

    def carry(most=-1):
        server_in.write(client_out.read(most))
        client_in.write(server_out.read(most))

    return near, far, carry


def handshake(client, server, name="localhost"):
    """Like `sessions`, after their handshake."""
    near, far, carry = sessions(client, server, name)
    done = set()
    for _ in range(10):
        for session in (near, far):
            if session not in done:
                try:
                    session.do_handshake()
                    done.add(session)
                except ssl.SSLWantReadError:
                    pass
            carry()
        if len(done) == 2:
            return near, far, carry
    raise AssertionError("a handshake without an end")


class Tls(unittest.TestCase):
    def test_sessions_agree_and_talk(self):
        near, far, carry = handshake(client_context(), server_context())
        self.assertEqual(near.version(), "TLSv1.3")
        name, version, bits = near.cipher()
        self.assertTrue(name.startswith("TLS_"), name)
        self.assertEqual((version, near.cipher()), ("TLSv1.3", far.cipher()))
        self.assertIn(bits, (128, 256))
        near.write(b"secret")
        carry()
        self.assertEqual(far.read(3), b"sec")
        self.assertEqual(far.read(100), b"ret")
        with self.assertRaises(ssl.SSLWantReadError):
            far.read()

    def test_the_older_version(self):
        client = client_context()
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        near, _, _ = handshake(client, server_context())
        self.assertEqual(near.version(), "TLSv1.2")
        self.assertIn("ECDHE", near.cipher()[0])

    def test_protocols_are_agreed_on(self):
        client, server = client_context(), server_context()
        client.set_alpn_protocols(["h2", "http/1.1"])
        server.set_alpn_protocols(["http/1.1"])
        near, far, _ = handshake(client, server)
        self.assertEqual(near.selected_alpn_protocol(), "http/1.1")
        self.assertEqual(far.selected_alpn_protocol(), "http/1.1")
        server.set_alpn_protocols(["other"])
        near, _, _ = handshake(client, server)
        self.assertIsNone(near.selected_alpn_protocol())

    def test_a_certificate_is_told(self):
        near, far, _ = handshake(client_context(), server_context())
        found = near.getpeercert()
        self.assertEqual(found["subject"], ((("commonName", "localhost"),),))
        self.assertEqual(found["issuer"], ((("commonName", "netwasm test authority"),),))
        self.assertEqual(
            found["subjectAltName"],
            (("DNS", "localhost"), ("IP Address", "127.0.0.1"), ("IP Address", "0:0:0:0:0:0:0:1")),
        )
        self.assertEqual(found["version"], 3)
        self.assertGreater(ssl.cert_time_to_seconds(found["notAfter"]), time.time())
        pem = ssl.DER_cert_to_PEM_cert(near.getpeercert(True))
        with open(certificate("server.pem")) as file:
            self.assertIn(pem.strip(), file.read())
        self.assertIsNone(far.getpeercert())

    def test_an_unknown_authority_is_refused(self):
        client = ssl.create_default_context()
        with self.assertRaises(ssl.SSLCertVerificationError) as caught:
            handshake(client, server_context())
        self.assertIn("certificate verify failed", str(caught.exception))
        self.assertIn(caught.exception.verify_code, (18, 19, 20))

    def test_a_peer_without_tls_is_told_as_openssl_does(self):
        client_in, client_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        near = client_context().wrap_bio(client_in, client_out, server_hostname="localhost")
        client_in.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with self.assertRaisesRegex(ssl.SSLError, "wrong version number") as caught:
            near.do_handshake()
        self.assertEqual(caught.exception.reason, "WRONG_VERSION_NUMBER")

    def test_another_name_is_refused(self):
        with self.assertRaises(ssl.SSLCertVerificationError) as caught:
            handshake(client_context(), server_context(), "example.org")
        self.assertEqual(caught.exception.verify_code, 62)
        self.assertTrue(caught.exception.verify_message)

    def test_clients_present_certificates(self):
        client, server = client_context(), server_context()
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(certificate("ca.pem"))
        client.load_cert_chain(certificate("client.pem"), certificate("client.key"))
        _, far, _ = handshake(client, server)
        self.assertEqual(far.getpeercert()["subject"], ((("commonName", "client"),),))
        with self.assertRaises(ssl.SSLError):
            near, far, carry = handshake(client_context(), server)
            carry()
            near.read()

    def test_a_name_chooses_a_certificate(self):
        names = []

        def choose(session, name, context):
            names.append(name)
            session.context = other

        first, other = server_context(), server_context()
        other.set_alpn_protocols(["chosen"])
        first.sni_callback = choose
        client = client_context()
        client.set_alpn_protocols(["chosen"])
        near, _, _ = handshake(client, first)
        self.assertEqual(names, ["localhost"])
        self.assertEqual(near.selected_alpn_protocol(), "chosen")

    def test_a_callback_refuses_a_name_by_an_alert(self):
        def refuse(session, name, context):
            return ssl.ALERT_DESCRIPTION_ACCESS_DENIED

        def fail(session, name, context):
            1 / 0

        def confuse(session, name, context):
            return "none"

        reported = []
        hook, sys.unraisablehook = sys.unraisablehook, lambda told: reported.append(told.exc_type)
        self.addCleanup(setattr, sys, "unraisablehook", hook)
        for callback, reason in (
            (refuse, "TLSV1_ALERT_ACCESS_DENIED"),
            (fail, "ALERT_HANDSHAKE_FAILURE"),
            (confuse, "TLSV1_ALERT_INTERNAL_ERROR"),
        ):
            server = server_context()
            server.sni_callback = callback
            near, far, carry = sessions(client_context(), server)
            with self.assertRaises(ssl.SSLWantReadError):
                near.do_handshake()
            carry()
            with self.assertRaises(ssl.SSLError) as caught:
                far.do_handshake()
            self.assertEqual(caught.exception.reason, "CALLBACK_FAILED")
            carry()
            with self.assertRaises(ssl.SSLError) as caught:
                near.do_handshake()
            self.assertIn(reason, caught.exception.reason)
        self.assertEqual(reported, [ZeroDivisionError, TypeError])

    def test_an_end_is_told(self):
        near, far, carry = handshake(client_context(), server_context())
        with self.assertRaises(ssl.SSLWantReadError):
            near.unwrap()
        carry()
        self.assertEqual(far.read(), b"")
        far.unwrap()
        carry()
        near.unwrap()

    def test_records_come_in_pieces_and_together(self):
        for most in (1, 4, 6, 30, -1):
            with self.subTest(most=most):
                near, far, carry = handshake(client_context(), server_context())
                for data in (b"one", b"two", b"three"):
                    near.write(data)
                with self.assertRaises(ssl.SSLWantReadError):
                    near.unwrap()
                received = []
                for _ in range(1000):
                    try:
                        received.append(far.read(4))
                    except ssl.SSLWantReadError:
                        carry(most)
                    else:
                        if not received[-1]:
                            break
                self.assertEqual(b"".join(received), b"onetwothree")
                self.assertEqual(received[-1], b"")

    def test_blocking_sockets(self):
        client, server = connected()
        with client, server:
            client.settimeout(10)
            server.setblocking(False)
            far = server_context().wrap_socket(
                server, server_side=True, do_handshake_on_connect=False
            )
            near = client_context().wrap_socket(
                client, server_hostname="localhost", do_handshake_on_connect=False
            )
            near.setblocking(False)
            done = set()
            while len(done) < 2:
                for session in {near, far} - done:
                    try:
                        session.do_handshake()
                        done.add(session)
                    except ssl.SSLWantReadError:
                        pass
            near.setblocking(True)
            far.setblocking(True)
            near.sendall(b"question")
            self.assertEqual(far.recv(100), b"question")
            buffer = bytearray(10)
            far.sendall(b"answer")
            self.assertEqual(near.recv_into(buffer), 6)
            self.assertEqual(buffer[:6], b"answer")
            far.close()
            near.close()

    def test_keying_material(self):
        near, far, _ = handshake(client_context(), server_context())
        if IN_COMPONENT:
            binding = near.get_channel_binding("tls-exporter")
            self.assertEqual(len(binding), 32)
            self.assertEqual(binding, far.get_channel_binding("tls-exporter"))
        with self.assertRaises(ValueError):
            near.get_channel_binding("unknown")

    @in_component
    def test_verification_is_off_only_where_the_host_allows_it(self):
        client = client_context()
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        with self.assertRaisesRegex(PermissionError, "--tls-insecure"):
            handshake(client, server_context())

    @in_component
    def test_lists_of_revoked_certificates_are_refused_in_words(self):
        context = client_context()
        for flag in (ssl.VERIFY_CRL_CHECK_LEAF, ssl.VERIFY_CRL_CHECK_CHAIN):
            with self.assertRaisesRegex(ssl.SSLError, "revoked"):
                context.verify_flags |= flag
        context.verify_flags |= ssl.VERIFY_X509_STRICT

    def test_much_is_read_at_once(self):
        near, far, carry = handshake(client_context(), server_context())
        data = bytes(5_000_000)
        sent = 0
        while sent < len(data):
            sent += near.write(data[sent : sent + 100_000])
        carry()
        received = bytearray()
        while len(received) < len(data):
            received += far.read(200_000)
        self.assertEqual(received, data)

    def test_a_context_knows_its_authorities(self):
        context = client_context()
        self.assertEqual(context.cert_store_stats(), {"x509": 1, "crl": 0, "x509_ca": 1})
        (found,) = context.get_ca_certs()
        self.assertEqual(found["subject"], ((("commonName", "netwasm test authority"),),))
        with self.assertRaises(ssl.SSLError):
            context.load_verify_locations(cadata="nothing")
        with self.assertRaises(FileNotFoundError):
            context.load_verify_locations("no such file")
        with self.assertRaises(ssl.SSLError):
            context.load_cert_chain(__file__)


if __name__ == "__main__":
    warnings.simplefilter("default")
    unittest.main(verbosity=1)
