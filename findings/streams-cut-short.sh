#!/usr/bin/env bash
# Tornado 6.6.1, Sanic 25.12.1, daphne 4.2.3, uvicorn 0.54.0, hypercorn 0.18.0, granian 2.8.9,
# aiohttp 3.14.5, gunicorn 27.0.1, waitress 3.0.2, cheroot 11.1.2 (PyPI); Hono 4.13.19 with
# @hono/node-server 2.1.9, Koa 3.3.0, fastify 5.12.8, @hapi/hapi 21.4.10, h3 2.0.8 (npm).
#
# Question: how does a client see that the program failed in the middle of a streamed response?
# Guess: the connection ends without the last chunk, under all of them. RFC 9112 (8) has a
# message without it be incomplete, and a server has no other way to say so after the head.
# Seen: most do that. Tornado, Sanic and Hono's `stream` helper catch the error, log it, and
# send the last chunk: half of a body looks whole. (A Response of Hono with a stream of its
# own is cut.) daphne does nothing: the client waits, and the connection stays open.
# Why it matters: an export that fails at row 1000 is stored, and cached, as one of 1000 rows,
# with status 200 and a proper end. A count or checksum at the end of the content helps,
# or, with Hono, to let the stream fail by itself.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install tornado==6.6.1 sanic==25.12.1 daphne==4.2.3 \
    uvicorn==0.54.0 hypercorn==0.18.0 granian==2.8.9 aiohttp==3.14.5 gunicorn==27.0.1 \
    waitress==3.0.2 cheroot==11.1.2
npm init -y >/dev/null
npm install --silent --no-fund --no-audit hono@4.13.19 @hono/node-server@2.1.9 koa@3.3.0 \
    fastify@5.12.8 @hapi/hapi@21.4.10 h3@2.0.8
cat >serve.js <<'JAVASCRIPT'
const http = require('node:http');
const { Readable } = require('node:stream');

async function* half() {
  yield Buffer.from('half');
  await new Promise((resolve) => setTimeout(resolve, 100));
  throw new Error('the other half is missing');
}

function hono(answer) {
  const { Hono } = require('hono');
  const { getRequestListener } = require('@hono/node-server');
  return http.createServer(getRequestListener(new Hono().get('/', answer).fetch));
}

const makers = {
  hono_helper: () => {
    const { stream } = require('hono/streaming');
    return hono((context) => stream(context, async (body) => {
      for await (const part of half()) await body.write(part);
    }));
  },
  hono_response: () => hono(() => new Response(ReadableStream.from(half()))),
  koa: async () => {
    const { default: Koa } = await import('koa');
    return http.createServer(new Koa().use((context) => {
      context.body = Readable.from(half());
    }).callback());
  },
  fastify: async () => {
    const app = require('fastify')();
    app.get('/', (request, reply) => reply.send(Readable.from(half())));
    await app.ready();
    return app.server;
  },
  hapi: async () => {
    const app = require('@hapi/hapi').server();
    const handler = () => Readable.from(half(), { objectMode: false });
    app.route({ method: 'GET', path: '/', handler });
    await app.initialize();
    return app.listener;
  },
  h3: async () => {
    const { H3, toNodeHandler } = await import('h3');
    return http.createServer(toNodeHandler(new H3().get('/', () => ReadableStream.from(half()))));
  },
};

Promise.resolve(makers[process.argv[2]]()).then((server) => {
  server.listen(Number(process.argv[3]), '127.0.0.1');
});
JAVASCRIPT
cat >apps.py <<'PYTHON'
import asyncio


async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.sleep(0.1)
    raise OSError("the other half is missing")


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"half"
    raise OSError("the other half is missing")
PYTHON
cat >serve.py <<'PYTHON'
import asyncio
import sys


def by_tornado(port):
    from tornado.web import Application, RequestHandler

    class Half(RequestHandler):
        async def get(self):
            self.write(b"half")
            await self.flush()
            raise OSError("the other half is missing")

    async def main():
        Application([("/", Half)]).listen(port, "127.0.0.1")
        await asyncio.Event().wait()

    asyncio.run(main())


def by_sanic(port):
    from sanic import Sanic

    app = Sanic("half")

    @app.get("/")
    async def give(request):
        response = await request.respond()
        await response.send(b"half")
        raise OSError("the other half is missing")

    app.run("127.0.0.1", port, single_process=True, motd=False)


def by_aiohttp(port):
    from aiohttp import web

    async def give(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        raise OSError("the other half is missing")

    app = web.Application()
    app.router.add_get("/", give)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


def by_cheroot(port):
    from apps import wsgi
    from cheroot.wsgi import Server

    Server(("127.0.0.1", port), wsgi).start()


globals()["by_" + sys.argv[1]](int(sys.argv[2]))
PYTHON
cat >ask.py <<'PYTHON'
import atexit
import http.client
import socket
import subprocess
import time

SERVERS = {
    "tornado": "python serve.py tornado {}",
    "sanic": "python serve.py sanic {}",
    "aiohttp": "python serve.py aiohttp {}",
    "daphne": "daphne -b 127.0.0.1 -p {} apps:asgi",
    "uvicorn": "uvicorn --lifespan off --port {} apps:asgi",
    "hypercorn": "hypercorn -b 127.0.0.1:{} apps:asgi",
    "granian": "granian --interface asginl --port {} apps:asgi",
    "gunicorn": "gunicorn -b 127.0.0.1:{} apps:wsgi",
    "waitress": "waitress-serve --listen 127.0.0.1:{} apps:wsgi",
    "cheroot": "python serve.py cheroot {}",
    "hono, its helper": "serve.js hono_helper {}",
    "hono, a Response": "serve.js hono_response {}",
    "koa": "serve.js koa {}",
    "fastify": "serve.js fastify {}",
    "hapi": "serve.js hapi {}",
    "h3": "serve.js h3 {}",
}


def connect(port, server):
    for _ in range(600):
        try:
            return socket.create_connection(("127.0.0.1", port), 5)
        except ConnectionRefusedError:
            assert server.poll() is None, "the server has ended"
            time.sleep(0.1)
    raise TimeoutError


for name, command in SERVERS.items():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    run = command.format(port).split()
    run = ["node", *run] if run[0].endswith(".js") else [f"venv/bin/{run[0]}", *run[1:]]
    with open("log", "w") as log:
        server = subprocess.Popen(run, stdout=log, stderr=log)
    atexit.register(server.terminate)
    client = http.client.HTTPConnection("127.0.0.1", port)
    client.sock = connect(port, server)
    client.request("GET", "/")
    response = client.getresponse()
    assert response.getheader("Transfer-Encoding") == "chunked"
    try:
        end = f"looks whole: {response.read().decode()}"
    except http.client.IncompleteRead:
        end = "is cut"
    except TimeoutError:
        end = "has not ended after 5 s"
    print(f"{name}: the response {end}", flush=True)
    client.close()
    server.terminate()
    server.wait(30)
PYTHON
timeout -v 300 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
tornado: the response looks whole: half
sanic: the response looks whole: half
aiohttp: the response is cut
daphne: the response has not ended after 5 s
uvicorn: the response is cut
hypercorn: the response is cut
granian: the response is cut
gunicorn: the response is cut
waitress: the response is cut
cheroot: the response is cut
hono, its helper: the response looks whole: half
hono, a Response: the response is cut
koa: the response is cut
fastify: the response is cut
hapi: the response is cut
h3: the response is cut
SEEN
