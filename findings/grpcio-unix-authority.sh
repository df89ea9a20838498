#!/usr/bin/env bash
# grpcio 1.85.3 and grpclib 0.4.9 (PyPI), @grpc/grpc-js 1.14.7 (npm); the servers are Node.js'
# http2 and granian 2.8.9 (PyPI), which has hyper and the h2 crate within.
#
# Question: which `:authority` does a gRPC client send over a Unix socket, and do servers for
# HTTP/2 take it?
# Guess: "localhost", as curl and HTTP libraries send for want of a name, and all take it.
# Seen: grpc-js sends that, grpclib the address that it would dial without a path. grpcio sends
# the socket's path without its first slash, each other slash as %2F. A host may have such
# signs (RFC 3986, 3.2.2), but the h2 crate resets the stream with PROTOCOL_ERROR, which the
# program sees as INTERNAL. With a path of one name, relative, or with the channel option
# `grpc.default_authority`, the call arrives.
# Why it matters: servers that are built on this crate seem broken on Unix sockets to clients
# that are built on gRPC's C core, and to no others; tests over TCP pass, and so do tests in
# the socket's own directory.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install grpcio==1.85.3 grpclib==0.4.9 \
    protobuf==7.36.2 granian==2.8.9
npm init -y >/dev/null
npm install --silent --no-fund --no-audit @grpc/grpc-js@1.14.7
cat >serve.js <<'JAVASCRIPT'
// Tells each request's authority, and answers with 404.
const server = require('node:http2').createServer();
server.on('stream', (stream, { ':authority': authority }) => {
  console.log(authority);
  stream.respond({ ':status': 404 }, { endStream: true });
});
server.listen('node.sock', () => console.log('listening'));
process.stdin.on('end', () => process.exit()).resume();
JAVASCRIPT
cat >client.js <<'JAVASCRIPT'
const grpc = require('@grpc/grpc-js');

const client = new grpc.Client(`unix:${process.argv[2]}`, grpc.credentials.createInsecure());
const same = (bytes) => bytes;
client.makeUnaryRequest('/a/b', same, same, Buffer.alloc(0), () => process.exit());
JAVASCRIPT
cat >app.py <<'PYTHON'
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body"})
PYTHON
cat >ask.py <<'PYTHON'
import asyncio
import contextlib
import os
import pathlib
import signal
import subprocess
import urllib.parse

import grpc
from google.protobuf.empty_pb2 import Empty
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.exceptions import GRPCError

PATH = str(pathlib.Path("node.sock").absolute())
ENCODED = urllib.parse.quote(PATH, safe="").removeprefix("%2F")
GRANIAN = pathlib.Path("granian.sock").absolute()
LOCALHOST = [("grpc.default_authority", "localhost")]


def by_grpcio(path, options=None):
    with grpc.insecure_channel(f"unix:{path}", options=options) as channel:
        try:
            channel.unary_unary("/a/b")(b"", timeout=30, wait_for_ready=True)
        except grpc.RpcError as error:
            return error.code().name


def by_grpclib(path):
    async def call():
        async with Channel(path=path) as channel:
            with contextlib.suppress(GRPCError):
                await UnaryUnaryMethod(channel, "/a/b", Empty, Empty)(Empty(), timeout=30)

    asyncio.run(call())


def by_grpc_js(path):
    subprocess.run(["node", "client.js", path], check=True, timeout=30)


pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
server = subprocess.Popen(["node", "serve.js"], **pipes)
server.stdout.readline()
for by in (by_grpc_js, by_grpclib, by_grpcio):
    by(PATH)
    authority = server.stdout.readline().strip()
    told = "the path, encoded" if authority == ENCODED else authority
    print(f"{by.__name__[3:]} sends: {told}", flush=True)
server.stdin.close()
server.wait(30)

run = ["venv/bin/granian", "--interface", "asginl", "--http", "2", "--uds", GRANIAN.name]
# It has a process for its worker, too, which ends with the group.
server = subprocess.Popen([*run, "--no-log", "app:app"], start_new_session=True)
try:
    print("to granian, 404 is UNIMPLEMENTED:")
    print("  absolute path:", by_grpcio(GRANIAN))
    print("  relative path:", by_grpcio(GRANIAN.name))
    print("  absolute path, option:", by_grpcio(GRANIAN, LOCALHOST))
finally:
    os.killpg(server.pid, signal.SIGKILL)
    server.wait(30)
PYTHON
timeout -v 120 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
grpc_js sends: localhost
grpclib sends: 127.0.0.1:50051
grpcio sends: the path, encoded
to granian, 404 is UNIMPLEMENTED:
  absolute path: INTERNAL
  relative path: UNIMPLEMENTED
  absolute path, option: UNIMPLEMENTED
SEEN
