"""The servers that CPython's tests of asyncio run in threads, as a program of its own for
native Python:

    python3 suite_peers.py CERTIFICATE FOLDER

It says their addresses in one line of JSON: "tcp" and "unix" answer as a WSGI server does,
"tcp-tls" and "unix-tls" do so over TLS, "udp" sends datagrams back.
"""

import json
import os
import socket
import socketserver
import ssl
import sys
import threading
import wsgiref.simple_server

certificate, folder = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)


def app(environ, start_response):
    start_response("200 OK", [("Content-type", "text/plain")])
    if environ["PATH_INFO"] == "/loop":
        return sent_back(environ["wsgi.input"], int(environ["CONTENT_LENGTH"]))
    return [b"Test message"]


def sent_back(body, size):
    while size:
        data = body.read(min(size, 0x10000))
        yield data
        size -= len(data)


class Handler(wsgiref.simple_server.WSGIRequestHandler):
    timeout = 10

    def setup(self):
        if self.server.secure:
            self.request = context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self):
        super().finish()
        if self.server.secure:
            self.request.close()

    def address_string(self):
        return "a client"

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True

    def __init__(self, address, secure=False):
        self.secure = secure
        super().__init__(address, Handler)
        self.set_app(app)

    def handle_error(self, *_):
        """Clients leave as they like."""


class UnixServer(Server):
    address_family = socket.AF_UNIX

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", 80
        self.setup_environ()

    def get_request(self):
        request, _ = super().get_request()
        return request, ("127.0.0.1", 0)


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        data, receiver = self.request
        receiver.sendto(data, self.client_address)


def path(name):
    whole = os.path.join(folder, name)
    if os.path.exists(whole):
        os.unlink(whole)
    return whole


servers = {
    "tcp": Server(("127.0.0.1", 0)),
    "tcp-tls": Server(("127.0.0.1", 0), secure=True),
    "unix": UnixServer(path("peer")),
    "unix-tls": UnixServer(path("peer-tls"), secure=True),
    "udp": socketserver.UDPServer(("127.0.0.1", 0), Echo),
}
for server in servers.values():
    threading.Thread(target=server.serve_forever).start()
print(json.dumps({name: server.server_address for name, server in servers.items()}), flush=True)
