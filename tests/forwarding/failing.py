"""Checks of servers that die, stall, answer half, and close what is idle."""

import collections
import itertools
import signal
import socket
import subprocess
import sys
import threading
import time

from proxies import Process, free_port, gateway
from wire import Cut, Wire, connect, read_head, read_response

CHECKS = []

# A server that tells each request that it gets before it answers it.
COUNTING = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=256)

def serve(peer):
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    kept = b""
    while piece := peer.recv(65536):
        kept += piece
        while b"\\r\\n\\r\\n" in kept:
            head, _, kept = kept.partition(b"\\r\\n\\r\\n")
            sys.stdout.write(head.split()[1].decode() + "\\n")
            sys.stdout.flush()
            peer.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")

while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


def check(function):
    CHECKS.append(function)
    return function


class Counting(Process):
    def __init__(self, port):
        super().__init__([sys.executable, "-c", COUNTING, port], stdout=subprocess.PIPE, text=True)
        self.got = set()
        self.await_port(port)
        self.reading = threading.Thread(target=self._read, daemon=True)
        self.reading.start()

    def _read(self):
        for line in self.process.stdout:
            self.got.add(line.strip())

    def kill(self):
        """Kills it, and returns what it had got."""
        self.process.kill()
        self.process.wait()
        self.reading.join()
        return self.got


class Load:
    """Clients that send requests one after the other, each with its own path."""

    def __init__(self, address, method, count=16):
        self.address, self.method, self.going = address, method, True
        self.failed, self.sent = collections.defaultdict(list), 0
        self.threads = [threading.Thread(target=self._go, args=(it,)) for it in range(count)]
        for thread in self.threads:
            thread.start()

    def _go(self, client):
        wire, number = None, 0
        while self.going:
            number += 1
            path = f"/{client}/{number}"
            if wire is None:
                wire = connect(self.address, 30)
            framing = "Content-Length: 0\r\n" if self.method == "POST" else ""
            wire.send(f"{self.method} {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n".encode())
            _, answer = read_response(wire, self.method)
            self.sent += 1
            if answer is None or answer.status != 200:
                self.failed[answer and answer.status].append(path)
            if answer is None or answer.closes():
                wire.close()
                wire = None
        if wire:
            wire.close()

    def stop(self):
        self.going = False
        for thread in self.threads:
            thread.join()
        return [path for paths in self.failed.values() for path in paths]


def await_load(load, more):
    wanted = load.sent + more
    deadline = time.monotonic() + 60
    while load.sent < wanted:
        assert time.monotonic() < deadline, "the load has stopped"
        time.sleep(0.01)


def killed_under_load(program, method):
    """Kills one of two servers under load, and starts it a second later."""
    ports = free_port(), free_port()
    group = ",".join(f"127.0.0.1:{port}" for port in ports) + ";fail-timeout=1s"
    with Counting(ports[0]) as stays, Counting(ports[1]) as dies:
        with gateway(program, group, "--workers", "1") as proxy:
            load = Load(proxy.address, method)
            await_load(load, 1000)
            got = dies.kill()
            time.sleep(1)
            with Counting(ports[1]) as again:
                # It gets its share again.
                deadline = time.monotonic() + 60
                while len(again.got) < 200:
                    assert time.monotonic() < deadline, "the server gets nothing"
                    time.sleep(0.01)
                failed = load.stop()
                assert not (set(failed) & stays.got), failed
                return failed, got, load.sent


@check
def killed_idempotent(program):
    """a server that is killed for a second under load costs no GET"""
    failed, _, sent = killed_under_load(program, "GET")
    assert not failed, failed
    return f", {sent} requests"


@check
def killed(program):
    """a server that is killed for a second under load costs POSTs that were sent to it"""
    failed, got, sent = killed_under_load(program, "POST")
    # One that is under way for each client; what it had read is among them.
    assert len(failed) <= 16, failed
    return f", {len(failed)} of {sent} requests, of which it had read {len(set(failed) & got)}"


@check
def alone(program):
    """the only server is killed under load, and comes back at once when it does"""
    port = free_port()
    with Counting(port) as dies, gateway(program, f"127.0.0.1:{port}", "--workers", "1") as proxy:
        load = Load(proxy.address, "GET", 4)
        await_load(load, 200)
        dies.kill()
        time.sleep(1)
        with Counting(port) as again:
            deadline = time.monotonic() + 60
            while len(again.got) < 200:
                assert time.monotonic() < deadline, "the server gets nothing"
                time.sleep(0.01)
            load.stop()
        assert set(load.failed) <= {502, 503}, load.failed.keys()
        assert load.failed, "nobody has noticed"


class Scripted:
    """A server whose connections a function serves."""

    def __init__(self, serve):
        self.serve, self.connections = serve, 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.upstream = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            peer, _ = self.listener.accept()
            self.connections += 1
            threading.Thread(target=self._serve, args=(Wire(peer, 60),), daemon=True).start()

    def _serve(self, wire):
        try:
            self.serve(wire)
        except (Cut, OSError):
            pass
        wire.close()


def ask(proxy, method="GET", path="/"):
    wire = connect(proxy.address, 30)
    framing = "Content-Length: 0\r\n" if method == "POST" else ""
    wire.send(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n".encode())
    _, answer = read_response(wire, method)
    wire.close()
    return answer


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@check
def stalls(program):
    """a server that takes a request and says nothing: 504, and the client is free"""
    gone = threading.Event()

    def serve(wire):
        read_head(wire)
        wire.rest()
        gone.set()

    server = Scripted(serve)
    flags = ("--response-timeout", "1s", "--workers", "1")
    with gateway(program, server.upstream + ";max-fails=0", *flags) as proxy:
        begun = time.monotonic()
        assert ask(proxy, "POST").status == 504
        assert 0.9 < time.monotonic() - begun < 5
        assert gone.wait(10), "the server's connection stays"
        # An idempotent one is given another chance.
        before = server.connections
        assert ask(proxy).status == 504
        assert server.connections - before in (1, 2)


@check
def does_not_accept(program):
    """a server whose backlog is full: 504 after the time limit of connecting"""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    port = full.getsockname()[1]
    fillers = []
    for _ in range(8):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
        fillers.append(filler)
    with gateway(program, f"127.0.0.1:{port}") as proxy:
        begun = time.monotonic()
        status = ask(proxy).status
        assert status == 504 and time.monotonic() - begun < 20, status
    for filler in fillers:
        filler.close()


@check
def halves(program):
    """servers that answer half and end, or stall: the client sees that it is half"""
    heads = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
             b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n"]

    def serve(wire):
        request = read_head(wire)
        _, head, end = request.start.split(b" ")[1].split(b"/")
        wire.send(heads[int(head)] + b"half")
        if end == b"reset":
            wire.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif end == b"stall":
            wire.rest()

    with gateway(program, Scripted(serve).upstream, "--response-body-timeout", "1s") as proxy:
        for head in (0, 1):
            for end in ("end", "reset", "stall"):
                answer = ask(proxy, "GET", f"/{head}/{end}")
                assert answer.status == 200 and not answer.whole, (head, end)
        # A head that is cut is none.
        server = Scripted(lambda wire: (read_head(wire), wire.send(b"HTTP/1.1 200 OK\r\nContent")))
        with gateway(program, server.upstream) as other:
            assert ask(other).status == 502


def idle_ends(program, method, kept_for):
    """A server closes each connection so long after its last response, when the next
    request may be on its way. Returns the numbers of requests and of failed ones."""

    def serve(wire):
        for number in itertools.count():
            if number and not wire.kept:
                wire.peer.settimeout(kept_for)
                try:
                    if not wire.more():
                        return
                except TimeoutError:
                    return
            wire.peer.settimeout(60)
            read_head(wire)
            wire.send(OK)

    server = Scripted(serve)
    with gateway(program, server.upstream + ";max-fails=0", "--workers", "1") as proxy:
        failed, going = [], 16

        def client(seed):
            wire = connect(proxy.address, 30)
            framing = "Content-Length: 0\r\n" if method == "POST" else ""
            for number in range(150):
                wire.send(f"{method} /{number} HTTP/1.1\r\nHost: a\r\n{framing}\r\n".encode())
                _, answer = read_response(wire, method)
                if answer is None or answer.status != 200:
                    failed.append(answer and answer.status)
                # About the time at which the server closes.
                time.sleep(kept_for * (0.9 + 0.02 * ((number + seed) % 11)))
            wire.close()

        threads = [threading.Thread(target=client, args=(it,)) for it in range(going)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.connections > 100, server.connections
        return going * 150, failed


@check
def idle_connections(program):
    """a server that closes idle connections as they are used costs no GET, hardly a POST"""
    sent, failed = idle_ends(program, "GET", 0.02)
    assert not failed, failed
    sent, lost = idle_ends(program, "POST", 0.02)
    # A POST that meets the end may have had an effect.
    assert set(lost) <= {502} and len(lost) < sent / 20, lost
    return f", {len(lost)} of {sent} POSTs"


@check
def leaves(program):
    """a client that leaves ends its request at the server, and nothing is left"""
    gone = threading.Semaphore(0)

    def serve(wire):
        read_head(wire)
        wire.rest()
        gone.release()

    with gateway(program, Scripted(serve).upstream, "--workers", "1") as proxy:
        for _ in range(20):
            wire = connect(proxy.address)
            wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            time.sleep(0.02)
            wire.close()
        for _ in range(20):
            assert gone.acquire(timeout=30), "the server's connection stays"
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.process.wait(10) == 0
