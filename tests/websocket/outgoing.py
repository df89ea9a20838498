"""Servers of WebSocket that a guest connects to, over HTTP/1.1, with TLS and without. They
carry bytes, of frames that are right or wrong."""

import socket
import ssl

from harness import CERTIFICATES
from volume import Failed, expect
from wires import PATIENCE, Refused, accept_key, read_head


class Dialler:
    """A connection to a guest of netwasm, `ws-probe`, that connects to a listener here,
    and sends all back that it gets."""

    def __init__(self, server, secure):
        from websockets.sync.client import connect

        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE)
        port = self.listener.getsockname()[1]
        self.url = f"wss://localhost:{port}/" if secure else f"ws://127.0.0.1:{port}/"
        self.context = None
        if secure:
            self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.context.load_cert_chain(CERTIFICATES / "cert.pem", CERTIFICATES / "key.pem")
        self.connect = lambda: connect(server.url, compression=None, max_size=None)
        self.control = self.connect()

    def open(self, extensions=None):
        """Lets the guest connect. Returns the connection once it is open, with what is
        answered of its offer of extensions."""
        self.control.send(f"echo {self.url}")
        return Accepted(self, self.listener.accept()[0], extensions)

    def renew(self):
        """Leaves a guest that has not said how its connection has ended."""
        self.control.close()
        self.control = self.connect()

    def close(self):
        self.control.close()
        self.listener.close()


class Accepted:
    """A connection that a guest has opened."""

    def __init__(self, dialler, accepted, extensions):
        self.dialler, self.has_told = dialler, False
        accepted.settimeout(PATIENCE)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if dialler.context:
            accepted = dialler.context.wrap_socket(accepted, server_side=True)
        self.socket = accepted
        line, fields, self.rest = read_head(accepted)
        assert line == "GET / HTTP/1.1", line
        for name, value in [("upgrade", "websocket"), ("connection", "Upgrade"),
                            ("sec-websocket-version", "13")]:
            assert fields[name] == value, fields
        assert (extensions is None) or fields["sec-websocket-extensions"], fields
        lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket",
                 b"Connection: Upgrade",
                 b"Sec-WebSocket-Accept: " + accept_key(fields["sec-websocket-key"].encode())]
        self.fields = {}
        if extensions:
            lines.append(b"Sec-WebSocket-Extensions: " + extensions.encode())
            self.fields["sec-websocket-extensions"] = extensions
        self.send(b"\r\n".join(lines) + b"\r\n\r\n")
        said = dialler.control.recv(PATIENCE)
        if said != "opened":
            self.has_told = True
            self.close()
            raise Refused(101, self.fields, said.encode())

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """Returns the next bytes, none at the end."""
        rest, self.rest = self.rest, b""
        return rest or self.socket.recv(1 << 18)

    def told(self, code):
        """Checks how the guest's connection has ended; 1005 is an end without a code."""
        said = self.dialler.control.recv(PATIENCE).split()
        self.has_told = True
        expect(said[:3], ["server", "closed", str(code or 1005)])

    def is_clean(self):
        """True if the end was in order."""
        return True

    def close(self):
        self.socket.close()
        if self.has_told:
            return
        try:
            while not self.dialler.control.recv(20).startswith("server closed"):
                pass
        except (TimeoutError, OSError, EOFError) as fault:
            self.dialler.renew()
            raise Failed("the guest does not hear of the end") from fault


# Answers that a server may give to netwasm's offer, for the cases of 13.
ANSWERS = ["; ".join(["permessage-deflate", *parameters]) for parameters in [
    [],
    ["server_no_context_takeover"],
    ["server_max_window_bits=9"],
    ["server_max_window_bits=15"],
    ["server_no_context_takeover", "server_max_window_bits=9"],
    ["server_no_context_takeover", "server_max_window_bits=15"],
    ["server_no_context_takeover", "client_no_context_takeover", "server_max_window_bits=9",
     "client_max_window_bits=9"],
    ["client_no_context_takeover"],
    ["client_max_window_bits=9"],
    ["client_max_window_bits=12", "server_max_window_bits=12"],
    # netwasm has no window of that size, and so does not compress.
    ["client_max_window_bits=8"],
]]

# Answers that open nothing: 16.
WRONG_ANSWERS = ["permessage-deflate; unknown", "x-webkit-deflate-frame",
                 "permessage-deflate; server_max_window_bits",
                 "permessage-deflate; server_max_window_bits=16",
                 "permessage-deflate; client_max_window_bits",
                 "permessage-deflate; client_no_context_takeover=1",
                 "permessage-deflate, permessage-deflate"]


def refuses(dialler, answer):
    """Runs a case of 16."""
    try:
        dialler.open(answer).close()
    except Refused as refused:
        if "an extension that was not offered" in str(refused):
            return "OK"
        raise
    raise Failed(f"{answer} opens a connection")
