"""HTTP/1.1 as bytes: messages that are read with little judgement, so that what a
proxy has sent is seen as it is."""

import socket

# Silence after which a peer is taken for stuck, in seconds.
WAIT = 8


class Cut(Exception):
    """The connection ended within a message."""


class Wire:
    """A connection, and what has arrived on it."""

    def __init__(self, peer, timeout=WAIT):
        self.peer, self.kept = peer, b""
        peer.settimeout(timeout)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def more(self):
        """Receives some bytes; False at the end."""
        try:
            piece = self.peer.recv(1 << 18)
        except (ConnectionError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            piece = b""
        self.kept += piece
        return bool(piece)

    def until(self, end):
        """Takes all up to and with these bytes."""
        while (at := self.kept.find(end)) < 0:
            if not self.more():
                raise Cut(self.kept)
        taken, self.kept = self.kept[: at + len(end)], self.kept[at + len(end):]
        return taken

    def take(self, count):
        """Takes so many bytes."""
        while len(self.kept) < count:
            if not self.more():
                raise Cut(self.kept)
        taken, self.kept = self.kept[:count], self.kept[count:]
        return taken

    def rest(self):
        """Takes all up to the end of the connection."""
        while self.more():
            pass
        taken, self.kept = self.kept, b""
        return taken

    def send(self, data):
        """Sends all; False if the peer takes no more."""
        try:
            self.peer.sendall(data)
            return True
        except OSError:
            return False

    def close(self):
        self.peer.close()


class Message:
    """A request or a response."""

    def __init__(self, head):
        lines = head.rstrip(b"\r\n").split(b"\r\n")
        self.start = lines[0]
        self.fields = []
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            self.fields.append((name.lower().decode("latin-1"), value.strip(b" \t")))
        self.framing, self.body, self.trailers, self.whole = "none", b"", [], True

    def all(self, name):
        return [value for found, value in self.fields if found == name]

    def members(self, name):
        """The members of a field that is a list, in lower case."""
        joined = b",".join(self.all(name)).lower()
        return [it.strip().decode("latin-1") for it in joined.split(b",") if it.strip()]

    @property
    def status(self):
        return int(self.start.split()[1])

    @property
    def method(self):
        return self.start.split(b" ")[0].decode("latin-1")

    def closes(self):
        """True if the connection ends after this message."""
        options = self.members("connection")
        old = self.start.startswith(b"HTTP/1.0") or self.start.endswith(b"HTTP/1.0")
        return "close" in options or (old and "keep-alive" not in options)

    def read_body(self, wire, is_response, wants_none):
        """Reads the body, by RFC 9112, section 6.3."""
        chunked = "chunked" in self.members("transfer-encoding")
        lengths = self.all("content-length")
        try:
            if wants_none:
                pass
            elif chunked:
                self.framing = "chunked"
                self._read_chunks(wire)
            elif lengths:
                self.framing = "length"
                self._read_length(wire, int(lengths[0]))
            elif is_response:
                self.framing = "close"
                self.body = wire.rest()
        except Cut:
            self.whole = False
        return self

    def _read_length(self, wire, length):
        while len(wire.kept) < length and wire.more():
            pass
        self.body, wire.kept = wire.kept[:length], wire.kept[length:]
        self.whole = len(self.body) == length

    def _read_chunks(self, wire):
        while True:
            size = int(wire.until(b"\r\n").split(b";")[0], 16)
            if size == 0:
                break
            self.body += wire.take(size)
            wire.take(2)
        while (line := wire.until(b"\r\n")) != b"\r\n":
            name, _, value = line.partition(b":")
            self.trailers.append((name.lower().decode("latin-1"), value.strip()))


def read_head(wire):
    """Reads a head; None at the end of the connection."""
    while True:
        while wire.kept.startswith(b"\r\n"):
            wire.kept = wire.kept[2:]
        if wire.kept:
            return Message(wire.until(b"\r\n\r\n"))
        if not wire.more():
            return None


def read_response(wire, method):
    """Reads a response with its interim ones; None for it if none comes."""
    interim = []
    while True:
        try:
            head = read_head(wire)
        except Cut:
            head = None
        if head is None:
            return interim, None
        if 100 <= head.status < 200 and head.status != 101:
            interim.append(head)
            continue
        none = method == "HEAD" or head.status in (101, 204, 304)
        return interim, head.read_body(wire, True, none)


def connect(address, timeout=WAIT):
    return Wire(socket.create_connection(address, timeout), timeout)
