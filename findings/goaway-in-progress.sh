#!/usr/bin/env bash
# httpx 0.28.1 with h2 4.4.1, grpclib 0.4.9, grpcio 1.85.3, pycurl 7.49.0 (PyPI), undici
# 7.30.2 and @grpc/grpc-js 1.14.7 (npm); the server is Node.js' http2.
#
# Question: what becomes of a response in progress when the server says that it will end?
# Guess: it arrives whole. A graceful shutdown begins with a GOAWAY of NO_ERROR and the
# highest stream id there is, 2^31-1, which by RFC 9113 (6.8) says no more than that new
# streams should go elsewhere; what is open goes on.
# Seen: grpcio, grpc-js and libcurl read on. httpx (by a LocalProtocolError or a
# RemoteProtocolError) and undici fail the request at once, grpclib the call, though the
# rest comes 0.2 s later on the same connection.
# Why it matters: servers and proxies do this at every restart, and some after a number of
# requests. Whatever is slow or streams then fails, after its effects, at such clients
# alone. A proxy in front of them should let streams end before it sends GOAWAY.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install httpx==0.28.1 h2==4.4.1 grpclib==0.4.9 \
    grpcio==1.85.3 pycurl==7.49.0
npm init -y >/dev/null
npm install --silent --no-fund --no-audit undici@7.30.2 @grpc/grpc-js@1.14.7
cat >serve.js <<'JAVASCRIPT'
// Answers in two halves, for gRPC of one message, and sends GOAWAY between them if told to.
const server = require('node:http2').createServer();
server.on('stream', (stream, { 'content-type': type }) => {
  const head = { ':status': 200, 'content-type': type ?? 'text/plain' };
  stream.respond(head, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.write(type ? '\0\0\0\0\x06one' : 'one');
  setTimeout(() => process.argv[2] === 'GOAWAY' && stream.session.goaway(0, 2 ** 31 - 1), 100);
  setTimeout(() => stream.end('two'), 300);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit()).resume();
JAVASCRIPT
cat >client.js <<'JAVASCRIPT'
const grpc = require('@grpc/grpc-js');
const { Client } = require('undici');

async function main(port) {
  const plain = new Client(`http://127.0.0.1:${port}`, { allowH2: true, useH2c: true });
  const text = plain.request({ path: '/', method: 'GET' }).then(({ body }) => body.text());
  console.log('undici ->', await text.catch(({ message }) => message));
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  const same = (bytes) => bytes;
  client.makeUnaryRequest('/a/b', same, same, Buffer.alloc(0), (error, message) => {
    console.log('grpc-js ->', error ? error.message : String(message));
    process.exit();
  });
}

main(process.argv[2]);
JAVASCRIPT
cat >ask.py <<'PYTHON'
import asyncio
import io
import subprocess

import grpc
import httpx
import pycurl
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import StreamTerminatedError


class Bytes(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message, message_type):
        return message

    def decode(self, data, message_type):
        return data


def by_httpx(port):
    with httpx.Client(http1=False, http2=True, timeout=30) as client:
        return client.get(f"http://127.0.0.1:{port}/").content


def by_libcurl(port):
    got = io.BytesIO()
    client = pycurl.Curl()
    client.setopt(pycurl.URL, f"http://127.0.0.1:{port}/")
    client.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE)
    client.setopt(pycurl.WRITEDATA, got)
    client.perform()
    return got.getvalue()


def by_grpcio(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return channel.unary_unary("/a/b")(b"", timeout=30)


def by_grpclib(port):
    async def call():
        async with Channel("127.0.0.1", port, codec=Bytes()) as channel:
            return await UnaryUnaryMethod(channel, "/a/b", bytes, bytes)(b"", timeout=30)

    return asyncio.run(call())


pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
for kind in ("nothing", "GOAWAY"):
    server = subprocess.Popen(["node", "serve.js", kind], **pipes)
    port = int(server.stdout.readline())
    print("between the halves:", kind, flush=True)
    subprocess.run(["node", "client.js", str(port)], check=True)
    for by in (by_httpx, by_libcurl, by_grpcio, by_grpclib):
        try:
            told = by(port).decode()
        except (httpx.ProtocolError, StreamTerminatedError):
            told = "it fails"
        print(by.__name__[3:], "->", told, flush=True)
    server.stdin.close()
    server.wait(30)
PYTHON
timeout -v 120 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
between the halves: nothing
undici -> onetwo
grpc-js -> onetwo
httpx -> onetwo
libcurl -> onetwo
grpcio -> onetwo
grpclib -> onetwo
between the halves: GOAWAY
undici -> HTTP/2: "GOAWAY" frame received with code 0
grpc-js -> onetwo
httpx -> it fails
libcurl -> onetwo
grpcio -> onetwo
grpclib -> it fails
SEEN
