#!/usr/bin/env bash
# httpx 0.28.1 with httpcore 1.0.9 and socksio 1.0.0, beside requests 2.34.2 with PySocks
# 1.7.1, aiohttp-socks 0.12.0 with aiohttp 3.14.5, pycurl 7.49.0 (PyPI), and undici 7.30.2 and
# socks 2.8.11 (npm): clients of a SOCKS5 proxy.
#
# Question: does a client read a proxy's reply that comes in two segments, one for the first
# four bytes and one for address and port?
# Guess: yes. SOCKS5 runs over TCP, which keeps no borders, and how long the reply is can be
# known from its fourth byte alone (RFC 1928, 6).
# Seen: all but httpx do. It takes what one read brings for the whole reply and raises
# ProtocolError, "Malformed reply". The class is socksio's: it is none of httpx's, so that
# neither `except httpx.ProxyError` nor `except httpx.HTTPError` catches it.
# Why it matters: a proxy that writes head and address apart, as is natural where the address
# has three forms, fails with these clients alone, and only if its writes are not joined.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install httpx==0.28.1 httpcore==1.0.9 \
    socksio==1.0.0 requests==2.34.2 PySocks==1.7.1 aiohttp-socks==0.12.0 aiohttp==3.14.5 \
    pycurl==7.49.0
npm init -y >/dev/null
npm install --silent --no-fund --no-audit socks@2.8.11 undici@7.30.2
cat >by_socks.js <<'JAVASCRIPT'
const { SocksClient } = require('socks');

const proxy = { host: '127.0.0.1', port: Number(process.argv[2]), type: 5 };
const destination = { host: '192.0.2.1', port: 80 };
SocksClient.createConnection({ proxy, destination, command: 'connect' }).then(({ socket }) => {
  socket.on('data', (bytes) => console.log(String(bytes).split('\r\n\r\n')[1]));
  socket.write('GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n');
});
JAVASCRIPT
cat >by_undici.js <<'JAVASCRIPT'
const { ProxyAgent, request } = require('undici');

const dispatcher = new ProxyAgent(`socks5://127.0.0.1:${process.argv[2]}`);
request('http://192.0.2.1/', { dispatcher }).then(async ({ body }) => {
  console.log(await body.text());
  process.exit();
});
JAVASCRIPT
cat >ask.py <<'PYTHON'
import asyncio
import io
import socket
import subprocess
import threading
import time

import aiohttp
import httpx
import pycurl
import requests
import socksio
from aiohttp_socks import ProxyConnector

URL = "http://192.0.2.1/"
REPLY = b"\x05\x00\x00\x01" + b"\x7f\x00\x00\x01" + b"\x00\x50"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
ADDRESS = {1: lambda read: read(4), 3: lambda read: read(read(1)[0]), 4: lambda read: read(16)}


def serve(client, pieces):
    """Is a proxy that replies in pieces, and the server behind it, too."""
    with client, client.makefile("rb") as reader:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        methods = reader.read(2)[1]
        reader.read(methods)
        client.sendall(b"\x05\x00")
        kind = reader.read(4)[3]
        ADDRESS[kind](reader.read)
        reader.read(2)
        try:
            client.sendall(pieces[0])
            for piece in pieces[1:]:
                time.sleep(0.5)
                client.sendall(piece)
            while reader.readline().strip():
                pass
            client.sendall(RESPONSE)
        except ConnectionError:
            pass  # The client did not like the first piece.


def run_proxy(pieces):
    """Serves one client, and gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: serve(listener.accept()[0], pieces), daemon=True).start()
    return listener.getsockname()[1]


def by_httpx(port):
    with httpx.Client(proxy=f"socks5://127.0.0.1:{port}", timeout=30) as client:
        return client.get(URL).text


def by_requests(port):
    proxies = {"http": f"socks5://127.0.0.1:{port}"}
    return requests.get(URL, proxies=proxies, timeout=30).text


def by_aiohttp_socks(port):
    async def get():
        connector = ProxyConnector.from_url(f"socks5://127.0.0.1:{port}")
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.get(URL) as response:
                return await response.text()

    return asyncio.run(asyncio.wait_for(get(), 30))


def by_libcurl(port):
    got = io.BytesIO()
    client = pycurl.Curl()
    client.setopt(pycurl.URL, URL)
    client.setopt(pycurl.PROXY, f"socks5://127.0.0.1:{port}")
    client.setopt(pycurl.WRITEDATA, got)
    client.setopt(pycurl.TIMEOUT, 30)
    client.perform()
    return got.getvalue().decode()


def by_node(script, port):
    run = ["node", "--no-warnings", script, str(port)]
    return subprocess.check_output(run, text=True, timeout=30).strip()


def by_undici(port):
    return by_node("by_undici.js", port)


def by_socks(port):
    return by_node("by_socks.js", port)


for pieces in ([REPLY], [REPLY[:4], REPLY[4:]]):
    print("pieces:", len(pieces))
    for by in (by_httpx, by_requests, by_aiohttp_socks, by_libcurl, by_undici, by_socks):
        try:
            told = by(run_proxy(pieces))
        except httpx.HTTPError:
            told = "an error of httpx"
        except socksio.ProtocolError as error:
            told = f"an error of socksio, {error}"
        print(f"  {by.__name__[3:]}: {told}", flush=True)
PYTHON
timeout -v 120 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
pieces: 1
  httpx: ok
  requests: ok
  aiohttp_socks: ok
  libcurl: ok
  undici: ok
  socks: ok
pieces: 2
  httpx: an error of socksio, Malformed reply
  requests: ok
  aiohttp_socks: ok
  libcurl: ok
  undici: ok
  socks: ok
SEEN
