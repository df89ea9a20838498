#!/usr/bin/env bash
# Starlette 1.10.0 (PyPI), FileResponse, under uvicorn 0.54.0.
#
# Guess: of several ranges those beyond the end of the file are left out and the
# others are sent (RFC 9110, section 14.1.2: a set is satisfiable if one of its
# ranges is), and an unknown unit is ignored.
# Seen: one range beyond the end makes the whole set a 416; an unknown unit is a
# 400. Ranges that overlap are joined to one, and come as a plain 206.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install starlette==1.10.0 uvicorn==0.54.0
printf 0123456789 >"$dir/ten"
"$dir/venv/bin/python" - "$dir/ten" <<'PYTHON' | tee "$dir/seen"
import http.client
import socket
import sys
import threading
import time

import uvicorn
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route


async def ten(request):
    return FileResponse(sys.argv[1])


listener = socket.create_server(("127.0.0.1", 0))
config = uvicorn.Config(Starlette(routes=[Route("/", ten)]), log_level="error")
server = uvicorn.Server(config)
thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
thread.start()
end = time.monotonic() + 60
while not server.started:
    if time.monotonic() > end or not thread.is_alive():
        sys.exit("uvicorn has not started within a minute.")
    time.sleep(0.01)
for value in ("bytes=0-3,20-25", "lines=0-0", "bytes=0-3,2-5"):
    client = http.client.HTTPConnection(*listener.getsockname(), timeout=30)
    client.request("GET", "/", headers={"Range": value})
    response = client.getresponse()
    print(value, "->", response.status, response.headers["content-range"])
    client.close()
server.should_exit = True
thread.join(30)
PYTHON
diff "$dir/seen" - <<'SEEN'
bytes=0-3,20-25 -> 416 bytes */10
lines=0-0 -> 400 None
bytes=0-3,2-5 -> 206 bytes 0-5/10
SEEN
