#!/usr/bin/env bash
# CacheControl 0.14.4 and requests-cache 1.3.3 with requests 2.34.2, aiohttp-client-cache 0.15.0
# with aiohttp 3.14.5, hishel 2.0.0 with httpx 0.28.1, httplib2 0.32.1 (PyPI); got 14.6.6,
# make-fetch-happen 15.0.6, undici 7.30.2, axios-cache-interceptor 1.12.3 with axios 1.21.1
# (npm): caches of HTTP clients.
#
# Question: does a client that writes to a URL read afterwards its own write, if the response
# to an earlier GET is still fresh?
# Guess: yes. A cache must invalidate what it has for the URL of a request with an unsafe
# method when the answer is no error (RFC 9111, 4.4), and here it sees that request itself.
# Seen: hishel (with `rfc=True`), httplib2, make-fetch-happen and undici do. requests-cache and
# aiohttp-client-cache, both with `cache_control=True`, got and axios-cache-interceptor give
# out the old response for the rest of its time, after POST as after PUT. CacheControl
# asks the server after PUT, and not after POST.
# Why it matters: a form that is sent to its own URL, and shown again from there, shows the
# old state. A server that puts `max-age` on what can be written sees this in some clients
# only; `no-cache` and an ETag serve all of them.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install CacheControl==0.14.4 requests-cache==1.3.3 \
    requests==2.34.2 aiohttp-client-cache==0.15.0 aiohttp==3.14.5 'hishel[httpx]==2.0.0' \
    httpx==0.28.1 httplib2==0.32.1
npm init -y >/dev/null
npm install --silent --no-fund --no-audit got@14.6.6 make-fetch-happen@15.0.6 undici@7.30.2 \
    axios-cache-interceptor@1.12.3 axios@1.21.1
cat >by.mjs <<'JAVASCRIPT'
import axios from 'axios';
import { setupCache } from 'axios-cache-interceptor';
import got from 'got';
import fetchByNpm from 'make-fetch-happen';
import { Agent, interceptors, request } from 'undici';

const agent = new Agent().compose(interceptors.cache());
const fetch = fetchByNpm.defaults({ cachePath: 'make-fetch-happen.cache' });
const cachingAxios = setupCache(axios.create());
const cachingGot = got.extend({ cache: new Map() });

// Each sends a request and gives the text of its answer.
const clients = {
  got: async (method, url) => (await cachingGot(url, { method })).body,
  'make-fetch-happen': async (method, url) => (await fetch(url, { method })).text(),
  undici: async (method, url) =>
    (await request(url, { method, dispatcher: agent })).body.text(),
  'axios-cache-interceptor': async (method, url) =>
    (await cachingAxios.request({ method, url, responseType: 'text' })).data,
};

for (const [name, ask] of Object.entries(clients)) {
  const seen = [];
  for (const method of ['POST', 'PUT']) {
    const url = `${process.argv[2]}/${name}/${method}`;
    const before = await ask('GET', url);
    const again = await ask('GET', url);
    await ask(method, url);
    const after = await ask('GET', url);
    seen.push(`${method} ${before}${again}${after}`);
  }
  console.log(`${name}: ${seen.join(', ')}`);
}
process.exit();
JAVASCRIPT
cat >ask.py <<'PYTHON'
import asyncio
import collections
import http.server
import subprocess
import threading

import aiohttp_client_cache
import cachecontrol
import hishel
import hishel.httpx
import httplib2
import requests
import requests_cache


class Counter(http.server.BaseHTTPRequestHandler):
    """Has a number for each path, which GET tells, for ten minutes, and others raise."""

    protocol_version = "HTTP/1.1"
    numbers = collections.Counter()

    def do_GET(self):
        self.answer(str(self.numbers[self.path]).encode())

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.numbers[self.path] += 1
        self.answer(b"")

    do_POST = do_PUT

    def answer(self, body):
        self.send_response(200)
        if self.command == "GET":
            self.send_header("Cache-Control", "max-age=600")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counter)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_port}"


def tell(name, ask):
    """Tells, for each method, the number before (twice) and after a write."""
    seen = []
    for method in ("POST", "PUT"):
        url = f"{base}/{name}/{method}"
        before, again, _, after = (ask(it, url) for it in ("GET", "GET", method, "GET"))
        seen.append(f"{method} {before}{again}{after}")
    print(f"{name}: {', '.join(seen)}", flush=True)


def by_requests(session):
    return lambda method, url: session.request(method, url, timeout=30).text


async def by_aiohttp(session, method, url):
    async with session.request(method, url) as response:
        return await response.text()


tell("CacheControl", by_requests(cachecontrol.CacheControl(requests.Session())))
session = requests_cache.CachedSession(backend="memory", cache_control=True)
tell("requests-cache", by_requests(session))
with asyncio.Runner() as runner:

    async def make():
        cache = aiohttp_client_cache.CacheBackend(cache_control=True)
        return aiohttp_client_cache.CachedSession(cache=cache)

    session = runner.run(make())
    tell("aiohttp-client-cache", lambda *it: runner.run(by_aiohttp(session, *it)))
    runner.run(session.close())
storage = hishel.SqliteStorage(database_path="hishel.db")
client = hishel.httpx.CacheClient(storage=storage, rfc=True)
tell("hishel", lambda method, url: client.request(method, url).text)
cached = httplib2.Http("httplib2.cache", timeout=30)
tell("httplib2", lambda method, url: cached.request(url, method)[1].decode())
subprocess.run(["node", "by.mjs", base], check=True, timeout=60)
PYTHON
timeout -v 120 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
CacheControl: POST 000, PUT 001
requests-cache: POST 000, PUT 000
aiohttp-client-cache: POST 000, PUT 000
hishel: POST 001, PUT 001
httplib2: POST 001, PUT 001
got: POST 000, PUT 000
make-fetch-happen: POST 001, PUT 001
undici: POST 001, PUT 001
axios-cache-interceptor: POST 000, PUT 000
SEEN
