"""Checks that bodies of a gibibyte pass both ways, while netwasm stays small."""

import os
import socket
import subprocess
import tempfile
import threading

from proxies import gateway
from wire import Wire, connect, read_head, read_response

SIZE = 1 << 30
# The growth of netwasm that is allowed meanwhile, in bytes.
GROWTH = 48 << 20
PIECE = bytes(range(256)) * 4096
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


class Store:
    """A server that takes what is sent to it, and sends bodies of any size."""

    def __init__(self):
        self.taken, self.closed = [], threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.upstream = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            peer, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(Wire(peer, 600),), daemon=True).start()

    def _serve(self, wire):
        while (request := read_head(wire)) is not None:
            taken = self._take(wire, request)
            if taken is not None:
                self.taken.append(taken)
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            elif b"chunked" in request.start:
                wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                send_chunks(wire)
            else:
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
                send_pieces(wire)
        wire.close()
        self.closed.set()

    def _take(self, wire, request):
        """Takes a body, and returns its size; None without one."""
        if request.method == "GET":
            return None
        left = request.all("content-length")
        if left:
            return count(wire, int(left[0]))
        total = 0
        while size := int(wire.until(b"\r\n"), 16):
            total += count(wire, size)
            wire.take(2)
        wire.until(b"\r\n")
        return total


def count(wire, size):
    """Takes so many bytes without keeping them."""
    left = size - len(wire.kept[:size])
    wire.kept = wire.kept[size:]
    buffer = bytearray(1 << 20)
    while left:
        taken = wire.peer.recv_into(buffer, min(left, len(buffer)))
        if taken == 0:
            break
        left -= taken
    return size - left


def send_pieces(wire):
    for _ in range(SIZE // len(PIECE)):
        if not wire.send(PIECE):
            break


def send_chunks(wire):
    for _ in range(SIZE // len(PIECE)):
        if not wire.send(b"%x\r\n%s\r\n" % (len(PIECE), PIECE)):
            break
    wire.send(b"0\r\n\r\n")


def measured(proxy, work):
    """Does some work, and checks how much netwasm grows meanwhile."""
    before, _ = proxy.resident()
    work()
    _, most = proxy.resident()
    assert most - before < GROWTH, f"it has grown by {(most - before) >> 20} MiB"
    return f", {(most - before) >> 20} MiB more"


def started(program, store):
    proxy = gateway(program, store.upstream, "--max-body", "2GiB", "--workers", "1")
    # The memory of first requests is there.
    for _ in range(3):
        wire = connect(proxy.address)
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + PIECE[:1000000])
        assert read_response(wire, "POST")[1].body == b"ok"
        wire.close()
    return proxy


def download(proxy, target):
    wire = connect(proxy.address, 60)
    wire.send(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % target)
    head = read_head(wire)
    if head.all("content-length"):
        assert count(wire, SIZE) == SIZE
    else:
        total = 0
        while size := int(wire.until(b"\r\n"), 16):
            total += count(wire, size)
            wire.take(2)
        assert total == SIZE, total
    wire.close()


def upload(proxy, store, chunked):
    wire = connect(proxy.address, 60)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % SIZE
    wire.send(b"POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % framing)
    (send_chunks if chunked else send_pieces)(wire)
    assert read_response(wire, "POST")[1].body == b"ok"
    assert store.taken[-1] == SIZE, store.taken
    wire.close()


@check
def downloads(program):
    """1 GiB to the client, by length and in chunks"""
    store, seen = Store(), ""
    for target in (b"/length", b"/chunked"):
        with started(program, store) as proxy:
            seen += measured(proxy, lambda: download(proxy, target))
    return seen


@check
def uploads(program):
    """1 GiB to the server, by length and in chunks"""
    store, seen = Store(), ""
    for chunked in (False, True):
        with started(program, store) as proxy:
            seen += measured(proxy, lambda: upload(proxy, store, chunked))
    return seen


@check
def over_http2(program):
    """1 GiB each way for a client of HTTP/2"""
    store, seen = Store(), ""
    curl = ["curl", "--silent", "--show-error", "--fail", "--http2-prior-knowledge"]
    with started(program, store) as proxy, tempfile.NamedTemporaryFile() as file:
        url = f"http://127.0.0.1:{proxy.address[1]}"
        os.truncate(file.name, SIZE)

        def both():
            command = [*curl, "--output", "/dev/null", "--write-out", "%{size_download}"]
            got = subprocess.run([*command, f"{url}/length"], capture_output=True, check=True)
            assert int(got.stdout) == SIZE, got
            command = [*curl, "--upload-file", file.name, f"{url}/up"]
            got = subprocess.run(command, capture_output=True, check=True)
            assert (got.stdout, store.taken[-1]) == (b"ok", SIZE), got

        seen += measured(proxy, both)
    return seen


@check
def slow_clients(program):
    """clients that do not read: nothing piles up, and the server is told when they leave"""
    store = Store()
    with started(program, store) as proxy:
        before, _ = proxy.resident()
        wires = []
        for _ in range(20):
            wire = connect(proxy.address, 60)
            wire.send(b"GET /length HTTP/1.1\r\nHost: a\r\n\r\n")
            read_head(wire)
            wires.append(wire)
        _, most = proxy.resident()
        assert most - before < GROWTH, f"it has grown by {(most - before) >> 20} MiB"
        store.closed.clear()
        for wire in wires:
            wire.close()
        # The server is told that its client has gone.
        assert store.closed.wait(60)


@check
def slow_servers(program):
    """servers that do not read: nothing piles up, and their clients get a 504"""
    stalled = socket.create_server(("127.0.0.1", 0))
    upstream = f"127.0.0.1:{stalled.getsockname()[1]}"
    flags = ("--max-body", "2GiB", "--workers", "1", "--write-timeout", "3s")
    with gateway(program, upstream, *flags) as proxy:
        before, _ = proxy.resident()
        statuses = []

        def client():
            # It gives up sending once there was no room for so long.
            wire = connect(proxy.address, 2)
            wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE)
            while wire.send(PIECE):
                pass
            wire.peer.settimeout(30)
            statuses.append(read_response(wire, "POST")[1].status)
            wire.close()

        threads = [threading.Thread(target=client) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _, most = proxy.resident()
        assert most - before < GROWTH, f"it has grown by {(most - before) >> 20} MiB"
        assert set(statuses) == {504} and len(statuses) == 20, statuses
    stalled.close()
