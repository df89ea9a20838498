"""Checks that servers behave behind the gateway as they do without it."""

import asyncio
import hashlib
import http.client
import json
import pathlib
import random
import socket
import subprocess
import sys
import threading

from proxies import Nginx, Process, free_port, gateway
from wire import connect, read_response

SERVERS = pathlib.Path(__file__).resolve().parent / "servers"
CHECKS = []

# Fields that the proxy or the connection decides.
LEFT_OUT = {"date", "connection", "keep-alive", "transfer-encoding", "x-content-type-options",
            "x-powered-by"}
TOLD = {"via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "te", "connection"}
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def check(function):
    CHECKS.append(function)
    return function


def fetch(connection, method, path, headers=(), body=None):
    """Sends a request, and returns the status, the header and the body."""
    connection.request(method, path, body, dict(headers), encode_chunked=True)
    answer = connection.getresponse()
    content = answer.read()
    fields = sorted((name.lower(), value) for name, value in answer.getheaders()
                    if name.lower() not in LEFT_OUT and value != "netwasm")
    return answer.status, fields, content


def alike(direct, through, requests):
    """Sends requests to a server and through the gateway, on one connection each."""
    one, two = (http.client.HTTPConnection(*it, timeout=30) for it in (direct, through))
    for method, path, headers, make_body in requests:
        seen = []
        for connection in (one, two):
            status, fields, content = fetch(connection, method, path, headers, make_body())
            if path.startswith("/told") and content.startswith(b"["):
                told = json.loads(content)
                told[2] = [it for it in told[2] if it[0] not in TOLD]
                port = str(direct[1] if connection is one else through[1])
                content = json.dumps(told).replace(f":{port}", "")
                fields = [it for it in fields if it[0] != "content-length"]
            seen.append((status, fields, content))
        assert seen[0] == seen[1], f"{method} {path}:\n  {seen[0]!r:.600}\n  {seen[1]!r:.600}"
    one.close()
    two.close()


def nothing():
    return None


def pieces(size, seed=1):
    """A body that is sent in chunks."""
    return lambda: iter(random.Random(seed).randbytes(min(50_000, size - at))
                        for at in range(0, size, 50_000))


def requests_of_site():
    told = {"X-A": "1", "Accept": "text/html, */*;q=0.5", "Cookie": "a=b; c=d", "X-Empty": ""}
    chunked = {"Transfer-Encoding": "chunked"}
    return [
        ("GET", "/told?x=%20y&z=%C3%A9", told, nothing),
        ("DELETE", "/told", told, nothing),
        ("POST", "/told", told, lambda: b"body"),
        ("GET", "/bytes?n=1", {}, nothing),
        ("HEAD", "/bytes?n=1000", {}, nothing),
        ("GET", "/bytes?n=3000000", {}, nothing),
        ("GET", "/stream?n=3000000", {}, nothing),
        ("GET", "/bytes?n=0", {}, nothing),
        ("POST", "/sum", {}, lambda: b""),
        ("POST", "/sum", {}, lambda: random.Random(2).randbytes(2_000_000)),
        ("POST", "/sum", chunked, pieces(2_000_000)),
        ("GET", "/status/204", {}, nothing),
        ("GET", "/status/304", {}, nothing),
        ("GET", "/status/404", {}, nothing),
        ("GET", "/status/503", {}, nothing),
        ("GET", "/cookies", {}, nothing),
        ("GET", "/slow", {}, nothing),
        ("GET", "/none", {}, nothing),
    ]


def by_curl(address, protocol):
    """Fetches and posts by curl."""
    curl = ["curl", "--silent", "--show-error", "--fail", "--max-time", "60", protocol]
    url = f"http://127.0.0.1:{address[1]}"
    body = random.Random(3).randbytes(1_500_000)
    got = subprocess.run([*curl, f"{url}/stream?n=2000000"], capture_output=True, check=True)
    assert len(got.stdout) == 2_000_000
    for framing in ([], ["--header", "Transfer-Encoding: chunked"]):
        # HTTP/2 has no such field.
        if framing and protocol != "--http1.1":
            continue
        got = subprocess.run([*curl, *framing, "--data-binary", "@-", f"{url}/sum"],
                             input=body, capture_output=True, check=True)
        answer = json.loads(got.stdout)
        assert answer == {"length": len(body), "sha": hashlib.sha256(body).hexdigest()}, answer


def by_httpx(address, modern):
    """Many requests at once by httpx, in one connection with HTTP/2."""
    import httpx

    async def ask(client, number):
        body = random.Random(number).randbytes(20_000)
        answer = await client.post("/sum", content=body)
        assert answer.json()["sha"] == hashlib.sha256(body).hexdigest()
        answer = await client.get(f"/bytes?n={number}")
        assert len(answer.content) == number and answer.status_code == 200
        return answer.http_version

    async def ask_all():
        url = f"http://127.0.0.1:{address[1]}"
        async with httpx.AsyncClient(base_url=url, http1=not modern, http2=modern, timeout=60) as it:
            return set(await asyncio.gather(*(ask(it, number) for number in range(1, 60))))

    assert asyncio.run(ask_all()) == {"HTTP/2" if modern else "HTTP/1.1"}


def site(program, port):
    """All that is checked of a site."""
    with gateway(program, f"127.0.0.1:{port}", "--max-body", "8MiB") as proxy:
        alike(("127.0.0.1", port), proxy.address, requests_of_site())
        for protocol in ("--http1.1", "--http2-prior-knowledge"):
            by_curl(proxy.address, protocol)
        for modern in (False, True):
            by_httpx(proxy.address, modern)
        failed = [line for line in proxy.log if "no response" in line or "incomplete" in line]
        assert not failed, failed


def chat(address):
    """A chat by WebSocket, with pings, large messages and a close. Returns its code."""
    import websockets.sync.client as client

    with socket.create_connection(address) as peer:
        with client.connect("ws://example.org/socket", sock=peer, subprotocols=["chat"],
                            max_size=None) as it:
            assert it.subprotocol == "chat"
            it.send("hello")
            assert it.recv(30) == "HELLO"
            assert it.ping().wait(30)
            large = random.Random(4).randbytes(900_000)
            it.send(large)
            assert it.recv(30) == large
            it.close(4001, "bye")
            return it.close_code


@check
def aiohttp(program):
    """aiohttp, with WebSocket"""
    port = free_port()
    with Process([sys.executable, SERVERS / "of_aiohttp.py", port]) as server:
        server.await_port(port)
        site(program, port)
        with gateway(program, f"127.0.0.1:{port}") as proxy:
            assert chat(("127.0.0.1", port)) == chat(proxy.address)


@check
def uvicorn(program):
    """uvicorn, with WebSocket"""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--app-dir", SERVERS, "--port", port,
               "--lifespan", "off", "--log-level", "warning", "of_uvicorn:site"]
    with Process(command) as server:
        server.await_port(port)
        site(program, port)
        with gateway(program, f"127.0.0.1:{port}") as proxy:
            assert chat(("127.0.0.1", port)) == chat(proxy.address)


@check
def node(program):
    """Node.js, with trailers, Expect, early answers and an upgrade"""
    port = free_port()
    with Process(["node", SERVERS / "of_node.mjs", port]) as server:
        server.await_port(port)
        site(program, port)
        with gateway(program, f"127.0.0.1:{port}") as proxy:
            wire = connect(proxy.address)
            wire.send(b"GET /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n")
            _, answer = read_response(wire, "GET")
            assert (answer.body, answer.trailers) == (b"body", [("x-sum", b"1")]), answer.trailers
            wire.send(b"POST /sum HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                      b"3\r\nabc\r\n0\r\nX-Sum: 2\r\n\r\n")
            _, answer = read_response(wire, "POST")
            assert answer.all("x-trailers") == [b'{"x-sum":"2"}'], answer.fields
            for path, interim, status in ((b"/sum", 1, 200), (b"/told", 0, 417)):
                wire.send(b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
                          b"Expect: 100-continue\r\n\r\n" % path)
                if interim:
                    assert wire.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
                    wire.send(b"abc")
                before, answer = read_response(wire, "POST")
                assert (len(before), answer.status) == (0, status)
            wire.close()
            wire = connect(proxy.address)
            wire.send(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\nabc")
            _, answer = read_response(wire, "POST")
            assert (answer.status, answer.body) == (413, b"too much")
            wire.close()
            wire = connect(proxy.address)
            wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
            _, answer = read_response(wire, "GET")
            assert answer.status == 101
            data = random.Random(5).randbytes(3_000_000)
            threading.Thread(target=wire.send, args=(data,), daemon=True).start()
            assert wire.take(len(data)) == data
            wire.close()


@check
def nginx(program):
    """nginx, with ranges, conditions and compression"""
    folder = pathlib.Path(__file__).resolve().parent
    extra = f"""
        gzip on; gzip_proxied any; gzip_types *; gzip_min_length 1;
        location /files/ {{ alias {folder}/; autoindex on; }}
        location /told {{ return 200 "$request_uri $http_x_a $http_cookie"; }}
        location /moved {{ return 301 http://$http_host/there; }}"""
    with Nginx(free_port(), extra) as server:
        with gateway(program, f"127.0.0.1:{server.address[1]}") as proxy:
            of = lambda headers, path="/files/wire.py": ("GET", path, headers, nothing)
            alike(server.address, proxy.address, [
                of({"Host": "h"}), of({"Host": "h", "Accept-Encoding": "gzip"}),
                of({"Host": "h", "Range": "bytes=0-9"}),
                of({"Host": "h", "Range": "bytes=-3"}),
                of({"Host": "h", "Range": "bytes=99999999-"}),
                of({"Host": "h", "If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}),
                of({"Host": "h"}, "/files/"), of({"Host": "h"}, "/files/none"), of({"Host": "h"}, "/moved"),
                of({"Host": "h", "X-A": "1", "Cookie": "c"}, "/told?x=1"),
                ("HEAD", "/files/wire.py", {"Host": "h"}, nothing),
                ("DELETE", "/files/wire.py", {"Host": "h"}, nothing),
                ("POST", "/files/wire.py", {"Host": "h"}, lambda: b"x"),
                # nginx ends its connection after this one, without a word.
                of({"Host": "h", "If-Match": '"no"'})])
