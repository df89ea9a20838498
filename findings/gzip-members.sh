#!/usr/bin/env bash
# httpx 0.28.1, httplib2 0.32.1, pycurl 7.49.0, requests 2.34.2 with urllib3 2.8.0, and
# aiohttp 3.14.5 (all PyPI).
#
# Question: does a client of HTTP decode a gzip body of two members?
# Guess: yes. RFC 1952 (2.2) has a gzip file be a series of members, gunzip reads them
# all, and bgzip or `cat a.gz b.gz` write such files.
# Seen: requests and aiohttp give all; httpx and httplib2 give the first member as if
# it were the whole, with no error; libcurl, as the wheel of pycurl has it, fails.
# Why it matters: a server that sends `page.gz` beside `page`, as found on its disk,
# gives some of its clients a shorter page, and no length that they check shows it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install --only-binary :all: \
    httpx==0.28.1 httplib2==0.32.1 pycurl==7.49.0 requests==2.34.2 urllib3==2.8.0 \
    aiohttp==3.14.5
timeout -v 120 "$dir/venv/bin/python" - <<'PYTHON' | tee "$dir/seen"
import asyncio
import gzip
import io
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import aiohttp
import httplib2
import httpx
import pycurl
import requests

BODY = gzip.compress(b"first, ") + gzip.compress(b"second")
assert gzip.decompress(BODY) == b"first, second"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *arguments):
        pass


async def with_aiohttp(url):
    async with aiohttp.ClientSession() as client, client.get(url) as response:
        return await response.read()


def with_pycurl(url):
    got = io.BytesIO()
    client = pycurl.Curl()
    client.setopt(pycurl.URL, url)
    client.setopt(pycurl.ACCEPT_ENCODING, "gzip")
    client.setopt(pycurl.WRITEDATA, got)
    try:
        client.perform()
    except pycurl.error:
        return "an error"
    return got.getvalue()


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = "http://127.0.0.1:%d/" % server.server_port
print("requests:", requests.get(url).content)
print("aiohttp:", asyncio.run(with_aiohttp(url)))
print("httpx:", httpx.get(url).content)
print("httplib2:", httplib2.Http().request(url)[1])
print("pycurl:", with_pycurl(url))
server.shutdown()
PYTHON
diff "$dir/seen" - <<'SEEN'
requests: b'first, second'
aiohttp: b'first, second'
httpx: b'first, '
httplib2: b'first, '
pycurl: an error
SEEN
