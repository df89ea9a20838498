#!/usr/bin/env bash
# requests-cache 1.3.3, beside CacheControl 0.14.4, both with requests 2.34.2 (PyPI).
#
# Question: is a response with `max-age=60` that is 61 seconds old as it arrives, by its
# Date and its Age, taken from the cache when it is asked for again?
# Guess: no. RFC 9111 (4.2.3) counts the time that a response has spent in caches on its
# way, so that this one is stale from the first; `cache_control=True` asks for HTTP's rules.
# Seen: CacheControl asks the server again. requests-cache gives out what it has: it looks
# at neither field, and its minute begins when the response comes.
# Why it matters: behind a proxy or CDN that caches, a client holds content for up to twice
# as long as the server allows. On a developer's machine there is no such proxy.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install --only-binary :all: \
    requests-cache==1.3.3 CacheControl==0.14.4 requests==2.34.2
timeout -v 120 "$dir/venv/bin/python" - <<'PYTHON' | tee "$dir/seen"
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from cachecontrol import CacheControl
from requests_cache import CachedSession


class Handler(BaseHTTPRequestHandler):
    """Answers /0 with a new response, /61 with an old one; counts the requests."""

    count = 0

    def do_GET(self):
        Handler.count += 1
        age = int(self.path[1:])
        self.send_response_only(200)
        self.send_header("Date", formatdate(time.time() - age, usegmt=True))
        if age:
            self.send_header("Age", str(age))
        self.send_header("Cache-Control", "max-age=60")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
for name, session in {
    "CacheControl": CacheControl(requests.Session()),
    "requests-cache": CachedSession(backend="memory", cache_control=True),
}.items():
    for age in (0, 61):
        Handler.count = 0
        for _ in range(2):
            session.get(f"http://127.0.0.1:{server.server_port}/{age}", timeout=30)
        print(f"{name}: {age} s old, requests: {Handler.count}", flush=True)
PYTHON
diff "$dir/seen" - <<'SEEN'
CacheControl: 0 s old, requests: 1
CacheControl: 61 s old, requests: 2
requests-cache: 0 s old, requests: 1
requests-cache: 61 s old, requests: 1
SEEN
