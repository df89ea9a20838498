#!/usr/bin/env bash
# Express 5.3.0 with compression 1.8.2, @fastify/compress 9.2.0 with @fastify/static 10.1.11 and
# fastify 5.12.8, @hapi/hapi 21.4.10 with @hapi/inert 7.1.2 (npm); Tornado 6.6.1, aiohttp 3.14.5,
# Starlette 1.10.0 with uvicorn 0.54.0 (PyPI): static files, compressed by the framework.
#
# Question: which bytes does a client get that asks for a part (Range) and takes gzip?
# Guess: bytes of the file, not compressed, in all of them. RFC 9110 (14.1.2) counts the bytes
# of a coded representation in its coded form, which nobody knows here before all is
# compressed; so whoever compresses on the way out leaves a 206 alone.
# Seen: fastify and Starlette do that, and hapi ignores Range and sends the whole file. But
# with Express, Tornado and aiohttp the 206 has `Content-Encoding: gzip`: they cut the part out
# of the file and compress it by itself, below a Content-Range that counts bytes of the file.
# Why it matters: a client that counts what it received, to ask for what comes next, asks
# from the wrong place, and one that joins parts of coded bytes has no gzip file. Clients
# that send `Accept-Encoding: identity` with Range, as browsers do, are spared.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install tornado==6.6.1 aiohttp==3.14.5 \
    starlette==1.10.0 uvicorn==0.54.0
npm init -y >/dev/null
npm install --silent --no-fund --no-audit express@5.3.0 compression@1.8.2 fastify@5.12.8 \
    @fastify/compress@9.2.0 @fastify/static@10.1.11 @hapi/hapi@21.4.10 @hapi/inert@7.1.2
mkdir files
seq 10000 19999 >files/file.txt
cat >serve.js <<'JAVASCRIPT'
const http = require('node:http');

const root = `${__dirname}/files`;

// Each makes a server of the files that compresses.
const makers = {
  express: async () => {
    const express = require('express');
    const app = express().use(require('compression')()).use(express.static(root));
    return http.createServer(app);
  },
  fastify: async () => {
    const app = require('fastify')();
    await app.register(require('@fastify/compress'));
    await app.register(require('@fastify/static'), { root });
    await app.ready();
    return app.server;
  },
  hapi: async () => {
    const app = require('@hapi/hapi').server();
    await app.register(require('@hapi/inert'));
    app.route({ method: 'GET', path: '/{path*}', handler: { directory: { path: root } } });
    await app.initialize();
    return app.listener;
  },
};

makers[process.argv[2]]().then((server) => {
  server.listen(0, '127.0.0.1', () => console.log(server.address().port));
});
process.stdin.on('end', () => process.exit()).resume();
JAVASCRIPT
cat >serve.py <<'PYTHON'
import asyncio
import os
import socket
import sys
import threading


def by_starlette(listening):
    import uvicorn
    from starlette.middleware.gzip import GZipMiddleware
    from starlette.staticfiles import StaticFiles

    app = GZipMiddleware(StaticFiles(directory="files"))
    uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off")).run([listening])


def by_aiohttp(listening):
    from aiohttp import web

    async def give(request):
        response = web.FileResponse("files/file.txt")
        response.enable_compression()
        return response

    app = web.Application()
    app.router.add_get("/file.txt", give)
    web.run_app(app, sock=listening, print=None)


def by_tornado(listening):
    from tornado.httpserver import HTTPServer
    from tornado.web import Application, StaticFileHandler

    async def main():
        listening.setblocking(False)
        files = ("/(.*)", StaticFileHandler, {"path": os.path.abspath("files")})
        HTTPServer(Application([files], compress_response=True)).add_sockets([listening])
        await asyncio.Event().wait()

    asyncio.run(main())


def end_with_parent():
    sys.stdin.read()
    os._exit(0)


listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
threading.Thread(target=end_with_parent, daemon=True).start()
globals()["by_" + sys.argv[1]](listening)
PYTHON
cat >ask.py <<'PYTHON'
import contextlib
import gzip
import http.client
import pathlib
import subprocess

FILE = pathlib.Path("files/file.txt").read_bytes()
PART = slice(20000, 40000)
RANGE = f"bytes={PART.start}-{PART.stop - 1}"
IN_PYTHON = ("starlette", "aiohttp", "tornado")


@contextlib.contextmanager
def serve(name):
    run = ["venv/bin/python", "serve.py"] if name in IN_PYTHON else ["node", "serve.js"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server = subprocess.Popen([*run, name], **pipes)
    yield int(server.stdout.readline())
    server.stdin.close()
    server.wait(30)


def get(port, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/file.txt", headers={"Accept-Encoding": "gzip"} | headers)
    response = connection.getresponse()
    body = response.read()
    coding = response.getheader("Content-Encoding", "identity")
    plain = gzip.decompress(body) if coding == "gzip" else body
    kind = {FILE: "the file", FILE[PART]: "the part"}.get(plain, "something else")
    place = response.getheader("Content-Range", "no range")
    return f"{response.status} {coding}, {place}: {kind}"


for name in ("express", "tornado", "aiohttp", "starlette", "fastify", "hapi"):
    with serve(name) as port:
        print(f"{name}: {get(port, {})}", flush=True)
        print(f"  a part: {get(port, {'Range': RANGE})}", flush=True)
PYTHON
timeout -v 120 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
express: 200 gzip, no range: the file
  a part: 206 gzip, bytes 20000-39999/60000: the part
tornado: 200 gzip, no range: the file
  a part: 206 gzip, bytes 20000-39999/60000: the part
aiohttp: 200 gzip, no range: the file
  a part: 206 gzip, bytes 20000-39999/60000: the part
starlette: 200 gzip, no range: the file
  a part: 206 identity, bytes 20000-39999/60000: the part
fastify: 200 gzip, no range: the file
  a part: 206 identity, bytes 20000-39999/60000: the part
hapi: 200 gzip, no range: the file
  a part: 200 gzip, no range: the file
SEEN
