#!/usr/bin/env bash
# granian 2.8.9 and hypercorn 0.18.0, with Litestar 2.25.0, Falcon 4.4.0, Django 5.2.19, Quart
# 0.22.0 and Starlette 1.10.0 (PyPI). The client is Node.js' http2.
#
# Question: does an application of ASGI see all cookies of a request over HTTP/2 that has each
# of them in a field of its own?
# Guess: yes. Browsers send them so, that those which stay the same compress well (RFC 9113,
# 8.2.3), and that section has the server join them with "; " before it hands them to a
# generic application.
# Seen: under hypercorn all five frameworks see all three. granian hands over three fields.
# Starlette and Quart join them. Litestar has the first cookie alone, Falcon the last, and
# Django one, "a", whose value is all the rest: it joins with commas, as for any other field.
# Why it matters: logins and CSRF tokens fail as soon as a second cookie is there, and only in
# browsers and over HTTP/2. Tests by HTTP/1.1, or by a client that sends one field, pass.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install granian==2.8.9 hypercorn==0.18.0 \
    litestar==2.25.0 falcon==4.4.0 django==5.2.19 quart==0.22.0 starlette==1.10.0
cat >apps.py <<'PYTHON'
import django
import falcon.asgi
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import JsonResponse
from django.urls import path
from litestar import Litestar, Request, get
from quart import Quart, request
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


@get("/")
async def by_litestar(request: Request) -> dict:
    return dict(request.cookies)


class ByFalcon:
    async def on_get(self, request, response):
        response.media = dict(request.cookies)


async def by_starlette(request):
    return JSONResponse(request.cookies)


async def by_django(request):
    return JsonResponse(request.COOKIES)


async def by_quart():
    return dict(request.cookies)


urlpatterns = [path("", by_django)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
django.setup()

starlette_app = Starlette(routes=[Route("/", by_starlette)])
quart_app = Quart(__name__)
quart_app.get("/")(by_quart)
litestar_app = Litestar([by_litestar])
falcon_app = falcon.asgi.App()
falcon_app.add_route("/", ByFalcon())
django_app = ASGIHandler()
PYTHON
cat >ask.js <<'JAVASCRIPT'
// Prints the cookies that the server tells it has got. Each is in a field of its own.
const session = require('node:http2').connect(`http://127.0.0.1:${process.argv[2]}`);
const request = session.request({ cookie: ['a=1', 'b=2', 'c=3'] });
let text = '';
request.setEncoding('utf8').on('data', (data) => {
  text += data;
});
request.on('end', () => {
  console.log(Object.entries(JSON.parse(text)).map((pair) => pair.join('=')).join(' '));
  session.close();
});
JAVASCRIPT
cat >ask.py <<'PYTHON'
import socket
import subprocess
import time

LINE = {
    "granian": "venv/bin/granian --interface asgi --http 2 --host 127.0.0.1 --port {} apps:{}",
    "hypercorn": "venv/bin/hypercorn --bind 127.0.0.1:{} apps:{}",
}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait(port, server):
    for _ in range(300):
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert server.poll() is None
            time.sleep(0.1)
    raise TimeoutError("the server does not listen")


with open("log", "w") as log:
    for server, line in LINE.items():
        for framework in ("starlette", "quart", "litestar", "falcon", "django"):
            port = free_port()
            command = line.format(port, f"{framework}_app").split()
            process = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                wait(port, process)
                told = subprocess.run(["node", "ask.js", str(port)], check=True, timeout=20,
                                      capture_output=True, text=True)
                print(f"{server}, {framework}: {told.stdout.strip()}", flush=True)
            finally:
                process.terminate()
                process.wait()
PYTHON
timeout -v 200 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
granian, starlette: a=1 b=2 c=3
granian, quart: a=1 b=2 c=3
granian, litestar: a=1
granian, falcon: c=3
granian, django: a=1,b=2,c=3
hypercorn, starlette: a=1 b=2 c=3
hypercorn, quart: a=1 b=2 c=3
hypercorn, litestar: a=1 b=2 c=3
hypercorn, falcon: a=1 b=2 c=3
hypercorn, django: a=1 b=2 c=3
SEEN
