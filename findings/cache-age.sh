#!/usr/bin/env bash
# CacheControl 0.14.4 with requests 2.34.2, requests-cache 1.3.3 (PyPI), undici 7.30.2 and
# http-cache-semantics 4.3.0 (npm).
#
# Question: is a response with `Cache-Control: max-age=60` and `Age: 61` taken from the
# cache when it is asked for again?
# Guess: no, by none of them. Age says how long it lay in caches on its way, and RFC 9111
# (4.2.3) has every cache begin to count there: this one is stale as it comes.
# Seen: undici and http-cache-semantics ask again. CacheControl and requests-cache do not
# look at Age, and give the response for its whole minute from when they had it.
# Why it matters: behind a proxy that caches, such a client has content up to twice as old
# as its server allows, and more behind one that keeps it longer. On a developer's machine
# there is no Age and nothing shows.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install --only-binary :all: \
    CacheControl==0.14.4 requests==2.34.2 requests-cache==1.3.3
npm init -y >/dev/null
npm install --silent --no-fund --no-audit undici@7.30.2 http-cache-semantics@4.3.0
cat >client.js <<'JAVASCRIPT'
const Policy = require('http-cache-semantics');
const { Agent, fetch, interceptors } = require('undici');

async function main(url) {
  const dispatcher = new Agent().compose(interceptors.cache());
  let last;
  for (let count = 0; count < 2; count += 1) {
    last = await fetch(url, { dispatcher });
    console.log('undici:', await last.text());
  }
  const request = { method: 'GET', url: '/', headers: {} };
  const response = { status: 200, headers: Object.fromEntries(last.headers) };
  const fresh = new Policy(request, response).satisfiesWithoutRevalidation(request);
  console.log('http-cache-semantics:', fresh ? 'fresh' : 'stale');
}

main(process.argv[2]);
JAVASCRIPT
cat >ask.py <<'PYTHON'
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from cachecontrol import CacheControl
from requests_cache import CachedSession


class Handler(BaseHTTPRequestHandler):
    """Answers /0 without Age, and /61 with that one; numbers the answers."""

    protocol_version = "HTTP/1.1"
    count = 0

    def do_GET(self):
        Handler.count += 1
        body = b"answer %d" % Handler.count
        self.send_response(200)
        self.send_header("Cache-Control", "max-age=60")
        if self.path != "/0":
            self.send_header("Age", self.path[1:])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
for age in (0, 61):
    url = f"http://127.0.0.1:{server.server_port}/{age}"
    print("Age", age, flush=True)
    for name, session in {
        "CacheControl": CacheControl(requests.Session()),
        "requests-cache": CachedSession(backend="memory", cache_control=True),
    }.items():
        Handler.count = 0
        for _ in range(2):
            print(f"{name}:", session.get(url, timeout=30).text, flush=True)
    Handler.count = 0
    subprocess.run(["node", "client.js", url], check=True, timeout=60)
PYTHON
timeout -v 120 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
Age 0
CacheControl: answer 1
CacheControl: answer 1
requests-cache: answer 1
requests-cache: answer 1
undici: answer 1
undici: answer 1
http-cache-semantics: fresh
Age 61
CacheControl: answer 1
CacheControl: answer 1
requests-cache: answer 1
requests-cache: answer 1
undici: answer 1
undici: answer 2
http-cache-semantics: stale
SEEN
