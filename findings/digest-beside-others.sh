#!/usr/bin/env bash
# requests 2.34.2, httpx 0.28.1, aiohttp 3.14.5, httplib2 0.32.1, pycurl 7.49.0 (PyPI),
# digest-fetch 3.1.1, urllib 4.9.2 (npm): clients that log in by Digest.
#
# Question: does a client log in by Digest with MD5, which each of them knows, if the server
# offers something else beside it?
# Guess: yes. RFC 9110 (11.6.1) has several challenges come in one field or in more, and by
# RFC 7616 (3.3) a client leaves out a challenge whose algorithm it does not know, and uses
# another one: so new algorithms were to come in.
# Seen: libcurl does. After Basic in a field of its own, aiohttp and digest-fetch stay at 401;
# after Basic in the same field, httpx and urllib, too. With SHA-512-256 as a second challenge,
# httpx (KeyError) and aiohttp (ClientError) fail if it comes first, requests (401) and httplib2
# (TypeError) if it comes last: these mix the parameters of all challenges. And of
# `qop="auth-int, auth"` requests and urllib do not take the second.
# Why it matters: cameras and other devices offer Digest and Basic, and what these clients need
# is there each time. All log in where Basic comes last, in a field of its own, and `qop` is
# auth alone. One algorithm more, in whichever order, locks out two of the seven.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install requests==2.34.2 httpx==0.28.1 \
    aiohttp==3.14.5 httplib2==0.32.1 pycurl==7.49.0
npm init -y >/dev/null
npm install --silent --no-fund --no-audit digest-fetch@3.1.1 urllib@4.9.2
cat >ask.mjs <<'JAVASCRIPT'
const [name, url] = process.argv.slice(2);
const clients = {
  'digest-fetch': async () => {
    const { default: DigestClient } = await import('digest-fetch');
    return (await new DigestClient('user', 'secret').fetch(url)).status;
  },
  urllib: async () => {
    const { request } = await import('urllib');
    return (await request(url, { digestAuth: 'user:secret' })).status;
  },
};
try {
  console.log(await clients[name]());
} catch (error) {
  console.log(error.constructor.name);
}
process.exit();
JAVASCRIPT
cat >ask.py <<'PYTHON'
import asyncio
import hashlib
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import aiohttp
import httplib2
import httpx
import pycurl
import requests
from requests.auth import HTTPDigestAuth

BASIC = 'Basic realm="r"'
MD5 = 'Digest realm="r", nonce="n", algorithm=MD5, qop="auth"'
NEW = MD5.replace("MD5", "SHA-512-256")
OFFERS = {
    "alone": [MD5],
    "before-Basic": [MD5, BASIC],
    "after-Basic": [BASIC, MD5],
    "joined-to-Basic": [f"{BASIC}, {MD5}"],
    "before-SHA-512-256": [MD5, NEW],
    "after-SHA-512-256": [NEW, MD5],
    "list-of-qop": [MD5.replace('"auth"', '"auth-int, auth"')],
}
HASHES = {"MD5": "md5", "SHA-512-256": "sha512_256"}


def right(credentials, path):
    pairs = re.findall(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s,]+))', credentials)
    told = {name: quoted or plain for name, quoted, plain in pairs}

    def digest(*parts):
        kind = HASHES[told.get("algorithm", "MD5")]
        return hashlib.new(kind, ":".join(parts).encode()).hexdigest()

    middle = [told[name] for name in ("nonce", "nc", "cnonce", "qop")]
    entity = [digest("")] if told["qop"] == "auth-int" else []
    ends = digest("user", "r", "secret"), digest("GET", path, *entity)
    return told["response"] == digest(ends[0], *middle, ends[1])


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        credentials = self.headers.get("Authorization", "")
        allowed = credentials.startswith("Digest ") and right(credentials, self.path)
        self.send_response(200 if allowed else 401)
        for challenge in [] if allowed else OFFERS[self.path[1:]]:
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def by_requests(url):
    return requests.get(url, auth=HTTPDigestAuth("user", "secret"), timeout=20).status_code


def by_httpx(url):
    return httpx.get(url, auth=httpx.DigestAuth("user", "secret"), timeout=20).status_code


def by_aiohttp(url):
    async def ask():
        log_in = aiohttp.DigestAuthMiddleware("user", "secret")
        async with aiohttp.ClientSession(middlewares=(log_in,)) as session:
            async with session.get(url) as response:
                return response.status
    return asyncio.run(ask())


def by_httplib2(url):
    client = httplib2.Http(timeout=20)
    client.add_credentials("user", "secret")
    return client.request(url)[0].status


def by_pycurl(url):
    curl = pycurl.Curl()
    for option, value in ((curl.URL, url), (curl.HTTPAUTH, curl.HTTPAUTH_DIGEST),
                          (curl.USERPWD, "user:secret"), (curl.WRITEDATA, BytesIO())):
        curl.setopt(option, value)
    curl.perform()
    return curl.getinfo(curl.RESPONSE_CODE)


def by_node(name):
    return lambda url: subprocess.run(
        ["node", "--no-warnings", "ask.mjs", name, url], check=True, capture_output=True, text=True,
        timeout=30).stdout.strip()


clients = {
    "requests": by_requests, "httplib2": by_httplib2, "pycurl": by_pycurl, "httpx": by_httpx,
    "aiohttp": by_aiohttp, "digest-fetch": by_node("digest-fetch"), "urllib": by_node("urllib"),
}
server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
for offer in OFFERS:
    print(f"Digest with MD5, {offer}")
    for name, client in clients.items():
        try:
            status = client(f"http://127.0.0.1:{server.server_port}/{offer}")
        except Exception as error:
            status = type(error).__name__
        print(f"  {name}: {status}", flush=True)
PYTHON
timeout -v 200 venv/bin/python ask.py 2>log | tee seen
diff seen - <<'SEEN'
Digest with MD5, alone
  requests: 200
  httplib2: 200
  pycurl: 200
  httpx: 200
  aiohttp: 200
  digest-fetch: 200
  urllib: 200
Digest with MD5, before-Basic
  requests: 200
  httplib2: 200
  pycurl: 200
  httpx: 200
  aiohttp: 200
  digest-fetch: 200
  urllib: 200
Digest with MD5, after-Basic
  requests: 200
  httplib2: 200
  pycurl: 200
  httpx: 200
  aiohttp: 401
  digest-fetch: 401
  urllib: 200
Digest with MD5, joined-to-Basic
  requests: 200
  httplib2: 200
  pycurl: 200
  httpx: 401
  aiohttp: 401
  digest-fetch: 401
  urllib: 401
Digest with MD5, before-SHA-512-256
  requests: 401
  httplib2: TypeError
  pycurl: 200
  httpx: 200
  aiohttp: 200
  digest-fetch: 200
  urllib: 200
Digest with MD5, after-SHA-512-256
  requests: 200
  httplib2: 200
  pycurl: 200
  httpx: KeyError
  aiohttp: ClientError
  digest-fetch: 200
  urllib: 200
Digest with MD5, list-of-qop
  requests: 401
  httplib2: 200
  pycurl: 200
  httpx: 200
  aiohttp: 200
  digest-fetch: 200
  urllib: 401
SEEN
