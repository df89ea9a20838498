#!/usr/bin/env bash
# httpx 0.28.1 with httpcore 1.0.9 and h2 4.4.1, primp 2.0.1, niquests 3.21.2, pycurl 7.49.0
# (PyPI); got 14.6.6, undici 7.30.2, axios 1.21.1 (npm). The server is Node.js' http2.
#
# Question: does a client that uploads 1 MiB over HTTP/2 get the 413 of a server that answers
# at once, whole, and then ends the stream with NO_ERROR, without reading the upload?
# Guess: yes. RFC 9113 (8.1) describes just this way to have a client stop sending, and says
# that it must not drop the response for it.
# Seen: niquests, libcurl, undici and axios give the 413 with its body. primp and got fail, by
# an error of the connection. httpx has the whole answer but goes on waiting for room to send,
# and raises ReadTimeout when its time limit is over. All give the answer to an upload that
# fits into the window at the start, 64 KiB.
# Why it matters: a limit of size, or a missing login, looks like a server that is down, and
# programs try again with all of the upload. A server gets through to such clients only if it
# reads what they send, and drops it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install 'httpx[http2]==0.28.1' httpcore==1.0.9 \
    h2==4.4.1 primp==2.0.1 niquests==3.21.2 pycurl==7.49.0
npm init -y >/dev/null
npm install --silent --no-fund --no-audit got@14.6.6 undici@7.30.2 axios@1.21.1
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
cat >serve.js <<'JAVASCRIPT'
const fs = require('node:fs');
const http2 = require('node:http2');

const files = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem') };
const server = http2.createSecureServer(files);
server.on('stream', (stream) => {
  stream.on('error', () => {});
  stream.respond({ ':status': 413 });
  stream.end('too large');
  stream.once('finish', () => stream.close(http2.constants.NGHTTP2_NO_ERROR));
});
server.on('sessionError', () => {});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit()).resume();
JAVASCRIPT
cat >client.js <<'JAVASCRIPT'
const axios = require('axios');
const { Agent, request } = require('undici');

const [, , name, url, size] = process.argv;
const body = Buffer.alloc(Number(size));
const quiet = { rejectUnauthorized: false };
const clients = {
  got: async () => {
    const { default: got } = await import('got');
    const rest = { https: quiet, throwHttpErrors: false, retry: { limit: 0 } };
    const response = await got.post(url, { body, http2: true, ...rest });
    return `${response.statusCode} ${response.body}`;
  },
  undici: async () => {
    const dispatcher = new Agent({ allowH2: true, connect: quiet });
    const response = await request(url, { method: 'POST', body, dispatcher });
    return `${response.statusCode} ${await response.body.text()}`;
  },
  axios: async () => {
    const rest = { http2Options: quiet, validateStatus: null };
    const response = await axios.post(url, body, { httpVersion: 2, ...rest });
    return `${response.status} ${response.data}`;
  },
};
clients[name]().catch((error) => error.code).then((seen) => {
  console.log(seen);
  process.exit();
});
JAVASCRIPT
cat >ask.py <<'PYTHON'
import atexit
import io
import logging
import os
import subprocess
import warnings

import httpx
import niquests
import primp
import pycurl

logging.disable()
warnings.simplefilter("ignore")
LIMIT = 5


def by_httpx(body):
    with httpx.Client(http2=True, verify=False, timeout=LIMIT) as client:
        response = client.post(url, content=body)
        return f"{response.status_code} {response.text}"


def by_niquests(body):
    with niquests.Session() as session:
        response = session.post(url, data=body, verify=False)
        assert response.raw.version == 20
        return f"{response.status_code} {response.text}"


def by_primp(body):
    response = primp.Client(verify=False).post(url, content=body)
    return f"{response.status_code} {response.text}"


def by_libcurl(body):
    told = io.BytesIO()
    curl = pycurl.Curl()
    curl.setopt(curl.URL, url)
    curl.setopt(curl.SSL_VERIFYPEER, 0)
    curl.setopt(curl.POST, 1)
    curl.setopt(curl.POSTFIELDSIZE, len(body))
    curl.setopt(curl.READDATA, io.BytesIO(body))
    curl.setopt(curl.WRITEDATA, told)
    curl.perform()
    return f"{curl.getinfo(curl.RESPONSE_CODE)} {told.getvalue().decode()}"


def by_node(name, body):
    run = ["node", "client.js", name, url, str(len(body))]
    return subprocess.check_output(run, text=True).strip()


os.environ["NO_PROXY"] = "localhost"
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
server = subprocess.Popen(["node", "serve.js"], **pipes)
atexit.register(server.terminate)
url = f"https://localhost:{int(server.stdout.readline())}/"
for size in (10_000, 1 << 20):
    body = bytes(size)
    print(f"{size} bytes", flush=True)
    for ask in (by_httpx, by_primp, by_niquests, by_libcurl):
        try:
            seen = ask(body)
        except (httpx.HTTPError, primp.PrimpError) as error:
            seen = type(error).__name__
        print(f"  {ask.__name__[3:]}: {seen}", flush=True)
    for name in ("got", "undici", "axios"):
        print(f"  {name}: {by_node(name, body)}", flush=True)
PYTHON
timeout -v 200 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
10000 bytes
  httpx: 413 too large
  primp: 413 too large
  niquests: 413 too large
  libcurl: 413 too large
  got: 413 too large
  undici: 413 too large
  axios: 413 too large
1048576 bytes
  httpx: ReadTimeout
  primp: RequestError
  niquests: 413 too large
  libcurl: 413 too large
  got: ECONNRESET
  undici: 413 too large
  axios: 413 too large
SEEN
