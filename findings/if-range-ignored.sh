#!/usr/bin/env bash
# Tornado 6.6.1, whitenoise 6.12.0, aiohttp 3.14.5 and Starlette 1.10.0 with uvicorn 0.54.0
# (PyPI); sirv 3.0.2, serve-handler 6.1.8, koa-range 0.3.0 with koa 3.3.0 and koa-send 5.0.1,
# hono 4.13.19 with @hono/node-server 2.1.9, send 1.2.1 (npm): servers of static files.
#
# Question: what does a client get that goes on with a download, by `Range` and `If-Range`,
# after the file has changed on the server?
# Guess: the new file, whole, with a 200. If-Range is there for just this (RFC 9110, 13.1.5:
# a server must ignore Range if the validator does not match), and whoever serves a part
# tells a validator with it.
# Seen: send, Starlette and, for a date, aiohttp do that. Tornado, whitenoise, sirv,
# serve-handler, koa-range and hono serve the part of the new file, without a look at
# If-Range, and so does aiohttp where the validator is an ETag, which it sends itself.
# Why it matters: a download that was cut off and goes on after a deployment is half of one
# file and half of another, at the right length and without an error. Only a new name for
# each version of a file avoids that.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install tornado==6.6.1 whitenoise==6.12.0 \
    aiohttp==3.14.5 starlette==1.10.0 uvicorn==0.54.0
npm init -y >/dev/null
npm install --silent --no-fund --no-audit sirv@3.0.2 serve-handler@6.1.8 koa@3.3.0 \
    koa-range@0.3.0 koa-send@5.0.1 hono@4.13.19 @hono/node-server@2.1.9 send@1.2.1
mkdir old new
printf 'o%.0s' {1..1000} >old/file.txt
printf 'n%.0s' {1..1000} >new/file.txt
touch -d '2026-01-01 12:00:00 UTC' old/file.txt
touch -d '2026-02-01 12:00:00 UTC' new/file.txt
cat >serve.js <<'JAVASCRIPT'
const http = require('node:http');
const { getRequestListener } = require('@hono/node-server');
const { serveStatic } = require('@hono/node-server/serve-static');
const { Hono } = require('hono');
const { etag } = require('hono/etag');
const Koa = require('koa');
const range = require('koa-range');
const sendByKoa = require('koa-send');
const send = require('send');
const serveHandler = require('serve-handler');
const sirv = require('sirv');

// Each makes a listener that serves the files of a folder.
const makers = {
  send: (root) => (request, response) => send(request, request.url, { root }).pipe(response),
  sirv: (root) => sirv(root),
  'serve-handler': (root) => (request, response) =>
    serveHandler(request, response, { public: root, etag: true }),
  'koa-range': (root) => {
    const koa = new Koa().use(range);
    return koa.use((context) => sendByKoa(context, context.path, { root })).callback();
  },
  hono: (root) => {
    const hono = new Hono().use(etag());
    return getRequestListener(hono.use('*', serveStatic({ root: `./${root}` })).fetch);
  },
};

const [, , name, root] = process.argv;
const server = http.createServer(makers[name](root));
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit()).resume();
JAVASCRIPT
cat >serve.py <<'PYTHON'
import asyncio
import os
import socket
import sys
import threading


def by_whitenoise(root, listening):
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

    from whitenoise import WhiteNoise

    class Quiet(WSGIRequestHandler):
        def log_message(self, *args):
            pass

    server = WSGIServer(("127.0.0.1", 0), Quiet, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    server.server_name, server.server_port = listening.getsockname()
    server.setup_environ()
    server.set_app(WhiteNoise(lambda environ, start: start("404 Not Found", []), root=root))
    server.serve_forever()


def by_starlette(root, listening):
    import uvicorn
    from starlette.staticfiles import StaticFiles

    files = StaticFiles(directory=root)
    uvicorn.Server(uvicorn.Config(files, log_level="critical")).run([listening])


def by_aiohttp(root, listening):
    from aiohttp import web

    app = web.Application()
    app.router.add_static("/", root)
    web.run_app(app, sock=listening, print=None)


def by_tornado(root, listening):
    from tornado.httpserver import HTTPServer
    from tornado.web import Application, StaticFileHandler

    async def main():
        listening.setblocking(False)
        app = Application([("/(.*)", StaticFileHandler, {"path": root})])
        HTTPServer(app).add_sockets([listening])
        await asyncio.Event().wait()

    asyncio.run(main())


def end_with_parent():
    sys.stdin.read()
    os._exit(0)


name, root = sys.argv[1:]
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
threading.Thread(target=end_with_parent, daemon=True).start()
globals()["by_" + name](os.path.abspath(root), listening)
PYTHON
cat >ask.py <<'PYTHON'
import contextlib
import http.client
import subprocess

HALF = 500
TRIES = [
    ("send", "Last-Modified"),
    ("sirv", "Last-Modified"),
    ("serve-handler", "ETag"),
    ("koa-range", "Last-Modified"),
    ("hono", "ETag"),
    ("starlette", "ETag"),
    ("aiohttp", "Last-Modified"),
    ("aiohttp", "ETag"),
    ("tornado", "ETag"),
    ("whitenoise", "ETag"),
]
IN_PYTHON = ("starlette", "aiohttp", "tornado", "whitenoise")


@contextlib.contextmanager
def serve(name, root):
    """Runs a server of the files in root, and gives its port."""
    run = ["venv/bin/python", "serve.py"] if name in IN_PYTHON else ["node", "serve.js"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server = subprocess.Popen([*run, name, root], **pipes)
    yield int(server.stdout.readline())
    server.stdin.close()
    server.wait(30)


def get(port, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/file.txt", headers=headers)
    response = connection.getresponse()
    return response, response.read()


for name, field in TRIES:
    with serve(name, "old") as port:
        response, body = get(port, {})
    rest = {"Range": f"bytes={HALF}-", "If-Range": response.getheader(field)}
    with serve(name, "new") as port:
        response, more = get(port, rest)
    whole = more if response.status == 200 else body[:HALF] + more
    letters = " and ".join(f"{whole.count(x)} {x.decode()}" for x in (b"o", b"n"))
    print(f"{name}, {field}: {response.status}, the client has {letters}", flush=True)
PYTHON
timeout -v 120 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
send, Last-Modified: 200, the client has 0 o and 1000 n
sirv, Last-Modified: 206, the client has 500 o and 500 n
serve-handler, ETag: 206, the client has 500 o and 500 n
koa-range, Last-Modified: 206, the client has 500 o and 500 n
hono, ETag: 206, the client has 500 o and 500 n
starlette, ETag: 200, the client has 0 o and 1000 n
aiohttp, Last-Modified: 200, the client has 0 o and 1000 n
aiohttp, ETag: 206, the client has 500 o and 500 n
tornado, ETag: 206, the client has 500 o and 500 n
whitenoise, ETag: 206, the client has 500 o and 500 n
SEEN
