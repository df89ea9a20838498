#!/usr/bin/env bash
# aiohttp 3.14.5 (PyPI), FileResponse.
#
# Guess: a Range header that a server does not serve is ignored, with a 200 (RFC
# 9110, section 14.2: a server may ignore Range, and must where the unit is
# unknown to it).
# Seen: 416 for two ranges that both lie within the file, and for another unit.
# A client that asks for two parts gets neither of them, nor the file.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install aiohttp==3.14.5
printf 0123456789 >"$dir/ten"
timeout -v 120 "$dir/venv/bin/python" - "$dir/ten" <<'PYTHON' | tee "$dir/seen"
import asyncio
import sys

import aiohttp
from aiohttp import web


async def main():
    async def ten(request):
        return web.FileResponse(sys.argv[1])

    app = web.Application()
    app.router.add_get("/", ten)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = "http://127.0.0.1:%d/" % runner.addresses[0][1]
    async with aiohttp.ClientSession() as client:
        for value in ("bytes=0-0", "bytes=0-0,4-4", "lines=0-0"):
            async with client.get(url, headers={"Range": value}) as response:
                print(value, "->", response.status)
    await runner.cleanup()


asyncio.run(main())
PYTHON
diff "$dir/seen" - <<'SEEN'
bytes=0-0 -> 206
bytes=0-0,4-4 -> 416
lines=0-0 -> 416
SEEN
