"""Ways to a server of WebSocket: HTTP/1.1 and streams of HTTP/2, with TLS and without.
They carry bytes, of frames that are right or wrong."""

import base64
import hashlib
import os
import socket
import ssl

from harness import CERTIFICATES

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# A debug build may take that long for 16 MiB.
PATIENCE = 60


class Refused(Exception):
    """The server opens no connection: its status, its fields and its body."""

    def __init__(self, status, fields, body=b""):
        super().__init__(f"{status} {fields} {body!r}")
        self.status, self.fields = status, fields


def connect(address, alpn):
    """Returns a socket, in TLS if `alpn` names a protocol."""
    plain = socket.create_connection(address, PATIENCE)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if alpn is None:
        return plain
    context = ssl.create_default_context(cafile=CERTIFICATES / "ca.pem")
    context.set_alpn_protocols([alpn])
    return context.wrap_socket(plain, server_hostname="localhost")


def accept_key(key):
    """Returns the `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def read_head(stream):
    """Returns the first line and the fields of a message of HTTP/1.1, and what follows."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = stream.recv(4096)
        assert piece, f"the end after {received!r}"
        received += piece
    head, rest = received.split(b"\r\n\r\n", 1)
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {}
    for line in lines:
        name, value = line.split(":", 1)
        fields[name.lower()] = value.strip()
    return first, fields, rest


class Http1:
    """A connection that is a WebSocket connection after a request of HTTP/1.1."""

    def __init__(self, address, secure, extensions=None, early=b""):
        self.socket = connect(address, "http/1.1" if secure else None)
        key = base64.b64encode(os.urandom(16))
        lines = [b"GET / HTTP/1.1", b"Host: localhost", b"Upgrade: websocket",
                 b"Connection: keep-alive, Upgrade", b"Sec-WebSocket-Version: 13",
                 b"Sec-WebSocket-Key: " + key]
        if extensions:
            lines.append(b"Sec-WebSocket-Extensions: " + extensions.encode())
        self.socket.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + early)
        line, self.fields, self.rest = read_head(self.socket)
        status = int(line.split()[1])
        if status != 101:
            self.close()
            raise Refused(status, self.fields, self.rest)
        accept = accept_key(key).decode()
        assert self.fields["sec-websocket-accept"] == accept, self.fields
        assert self.fields["upgrade"].lower() == "websocket", self.fields
        assert self.fields["connection"].lower() == "upgrade", self.fields

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """Returns the next bytes, none at the end."""
        rest, self.rest = self.rest, b""
        return rest or self.socket.recv(1 << 18)

    def told(self, code):
        """Does nothing: no guest tells of the end."""

    def is_clean(self):
        """True if the end was in order. That of TLS needs its own word."""
        return True

    def close(self):
        self.socket.close()


class Http2:
    """A stream of HTTP/2 that is a WebSocket connection: RFC 8441."""

    def __init__(self, address, secure, extensions=None):
        from h2.config import H2Configuration
        from h2.connection import H2Connection

        self.socket = connect(address, "h2" if secure else None)
        if secure:
            assert self.socket.selected_alpn_protocol() == "h2"
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(1 << 24)
        self.flush()
        self.queue, self.ended, self.reset, self.fields = b"", False, None, None
        while not self.h2.remote_settings.enable_connect_protocol:
            self.pump()
        self.stream = self.h2.get_next_available_stream_id()
        fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
                  (":path", "/"), (":authority", "localhost"),
                  ("sec-websocket-version", "13")]
        if extensions:
            fields.append(("sec-websocket-extensions", extensions))
        self.h2.send_headers(self.stream, fields)
        self.h2.increment_flow_control_window(1 << 24, self.stream)
        self.flush()
        while self.fields is None:
            self.pump()
        status = int(self.fields[":status"])
        if status != 200:
            self.close()
            raise Refused(status, self.fields)

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def pump(self):
        """Receives something."""
        from h2 import events

        data = self.socket.recv(1 << 18)
        if not data:
            self.ended = True
            if self.fields is None:
                raise EOFError("the connection ended before the answer")
            return
        for event in self.h2.receive_data(data):
            if isinstance(event, events.ResponseReceived):
                self.fields = dict(event.headers)
            elif isinstance(event, events.DataReceived):
                self.queue += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length,
                                                  event.stream_id)
            elif isinstance(event, events.StreamEnded):
                self.ended = True
            elif isinstance(event, events.StreamReset):
                self.ended, self.reset = True, event.error_code
            elif isinstance(event, events.ConnectionTerminated):
                self.ended, self.reset = True, event.error_code
        self.flush()

    def send(self, data):
        while data:
            if self.reset is not None or self.ended:
                raise BrokenPipeError("the server has ended the stream")
            room = min(self.h2.local_flow_control_window(self.stream),
                       self.h2.max_outbound_frame_size)
            if room == 0:
                self.pump()
                continue
            self.h2.send_data(self.stream, data[:room])
            self.flush()
            data = data[room:]

    def receive(self):
        while not self.queue and not self.ended:
            self.pump()
        queue, self.queue = self.queue, b""
        return queue

    def told(self, code):
        """Does nothing: no guest tells of the end."""

    def is_clean(self):
        """True if the stream has ended, and was not reset before."""
        return self.reset in (None, 0)

    def close(self):
        self.socket.close()
