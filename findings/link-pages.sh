#!/usr/bin/env bash
# got 14.6.6, parse-link-header 2.0.0, http-link-header 1.1.4 and li 1.3.0 (npm); requests
# 2.34.2, httpx 0.28.1, aiohttp 3.14.5 (PyPI): readers of the Link field.
#
# Question: do they find the next page of a list, whatever else the field says?
# Guess: yes. RFC 8288 (3) lets a target be any URI, which may have commas and semicolons, a
# quoted title have any text, `rel` have two words or be written `REL`; and whole libraries
# are there to read this field.
# Seen: http-link-header alone does. After a semicolon in the target requests and httpx have
# the URL before it; a semicolon or an equals sign in a title hides the link from them. They
# and aiohttp have one relation named "next last". got, whose `paginate` goes by this field,
# throws at a semicolon or comma, in target as in title. After a title in angle brackets
# aiohttp has another URL. All but one want `rel` in small letters; li, no space before `;`.
# Why it matters: a loop that ends where there is no next link takes the first page for all
# of the list. A server should encode `,` and `;` in such targets, give a relation a link of
# its own, and leave titles out.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install requests==2.34.2 httpx==0.28.1 aiohttp==3.14.5
npm init -y >/dev/null
npm install --silent --no-fund --no-audit got@14.6.6 parse-link-header@2.0.0 \
    http-link-header@1.1.4 li@1.3.0
cat >client.js <<'JAVASCRIPT'
const linkHeader = require('http-link-header');
const li = require('li');
const parseLinkHeader = require('parse-link-header');

async function paginate(url) {
  const { default: got } = await import('got');
  const transform = (response) => [response.url];
  try {
    return (await got.paginate.all(url, { pagination: { transform, requestLimit: 2 } }))[1];
  } catch {
    return 'an error';
  }
}

(async () => {
  const url = process.argv[2];
  const field = (await fetch(url)).headers.get('link');
  console.log(JSON.stringify({
    got: await paginate(url),
    'parse-link-header': parseLinkHeader(field)?.next?.url,
    'http-link-header': linkHeader.parse(field).rel('next')[0]?.uri,
    li: li.parse(field).next,
  }));
})();
JAVASCRIPT
cat >ask.py <<'PYTHON'
import asyncio
import http.server
import json
import subprocess
import threading
import urllib.parse

import aiohttp
import httpx
import requests

READERS = ("requests", "httpx", "aiohttp", "got", "parse-link-header", "http-link-header", "li")
FIELDS = [
    '</a?page=2>; rel="next"',
    '</a;b?page=2>; rel="next"',
    '</a,b?page=2>; rel="next"',
    '</a?page=2>; title="one; two"; rel="next"',
    '</a?page=2>; title="one, two"; rel="next"',
    '</a?page=2>; title="a = b"; rel="next"',
    '</a?page=2>; title="<two>"; rel="next"',
    '</a?page=2>; rel="next last"',
    '</a?page=2>; REL="next"',
    '</a?page=2> ; rel="next"',
]


class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        if self.path.startswith("/pages/"):
            self.send_header("Link", FIELDS[int(self.path.split("/")[2])])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


async def by_aiohttp(url):
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return str(response.links.get("next", {}).get("url", "")) or None


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
threading.Thread(target=server.serve_forever, daemon=True).start()
for number, field in enumerate(FIELDS):
    url = f"http://127.0.0.1:{server.server_port}/pages/{number}"
    script = subprocess.run(["node", "client.js", url], check=True, stdout=subprocess.PIPE)
    seen = {
        "requests": requests.get(url).links.get("next", {}).get("url"),
        "httpx": httpx.get(url).links.get("next", {}).get("url"),
        "aiohttp": asyncio.run(by_aiohttp(url)),
        **json.loads(script.stdout),
    }
    wanted = urllib.parse.urljoin(url, field[1:field.index(">")])
    right, wrong = [], []
    for name in READERS:
        target = seen.get(name)
        if target and urllib.parse.urljoin(url, target) == wanted:
            right.append(name)
        else:
            kind = "another URL" if target and target.startswith(("/", "http")) else target
            wrong.append(f"{name}: {kind or 'none'}")
    print("Link:", field)
    print("  right:", *right)
    print("  wrong:", ", ".join(wrong) or "none", flush=True)
PYTHON
timeout -v 200 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
Link: </a?page=2>; rel="next"
  right: requests httpx aiohttp got parse-link-header http-link-header li
  wrong: none
Link: </a;b?page=2>; rel="next"
  right: aiohttp parse-link-header http-link-header li
  wrong: requests: another URL, httpx: another URL, got: an error
Link: </a,b?page=2>; rel="next"
  right: requests httpx aiohttp parse-link-header http-link-header li
  wrong: got: an error
Link: </a?page=2>; title="one; two"; rel="next"
  right: aiohttp parse-link-header http-link-header li
  wrong: requests: none, httpx: none, got: an error
Link: </a?page=2>; title="one, two"; rel="next"
  right: requests httpx aiohttp parse-link-header http-link-header li
  wrong: got: an error
Link: </a?page=2>; title="a = b"; rel="next"
  right: aiohttp got parse-link-header http-link-header li
  wrong: requests: none, httpx: none
Link: </a?page=2>; title="<two>"; rel="next"
  right: requests httpx got parse-link-header http-link-header li
  wrong: aiohttp: another URL
Link: </a?page=2>; rel="next last"
  right: parse-link-header http-link-header li
  wrong: requests: none, httpx: none, aiohttp: none, got: none
Link: </a?page=2>; REL="next"
  right: http-link-header
  wrong: requests: none, httpx: none, aiohttp: none, got: none, parse-link-header: none, li: none
Link: </a?page=2> ; rel="next"
  right: requests httpx aiohttp got parse-link-header http-link-header
  wrong: li: none
SEEN
