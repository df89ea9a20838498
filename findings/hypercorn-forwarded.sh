#!/usr/bin/env bash
# hypercorn 0.18.0 (PyPI), ProxyFixMiddleware in its mode "modern".
#
# Question: which client does an application see behind a proxy that sends `Forwarded`?
# Guess: the address alone, without quotes, brackets and port, whether the proxy writes
# `for` or `For`: RFC 7239 (4 and 6) has names without regard to case, and demands quotes
# around every IPv6 address and every port, so a reader meets them every day.
# Seen: quotes, brackets and port stay in the host that the scope names (and in Host,
# where the proxy gave one with a port), and an element with `For=` and `Proto=` is
# passed over, so that the proxy itself is the client and the scheme is http.
# Why it matters: a proxy that serves IPv6 gives the application a text that is no
# address, and limits or logs by address go wrong, while IPv4 in tests looks well.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install hypercorn==0.18.0
"$dir/venv/bin/python" - <<'PYTHON' | tee "$dir/seen"
import asyncio

from hypercorn.middleware import ProxyFixMiddleware


async def app(scope, receive, send):
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    print("  ->", scope["scheme"], scope["client"], hosts)


async def main():
    behind = ProxyFixMiddleware(app, mode="modern", trusted_hops=1)
    for value in (
        b"for=192.0.2.1;proto=https",
        b'for="[2001:db8::1]:4711";proto=https',
        b'for=192.0.2.1;host="a.example:8080"',
        b"For=192.0.2.1;Proto=https",
    ):
        print(value.decode())
        scope = {
            "type": "http",
            "scheme": "http",
            "client": ("10.0.0.1", 50000),
            "headers": [(b"host", b"inner"), (b"forwarded", value)],
        }
        await behind(scope, None, None)


asyncio.run(main())
PYTHON
diff "$dir/seen" - <<'SEEN'
for=192.0.2.1;proto=https
  -> https ('192.0.2.1', 0) [b'inner']
for="[2001:db8::1]:4711";proto=https
  -> https ('"[2001:db8::1]:4711"', 0) [b'inner']
for=192.0.2.1;host="a.example:8080"
  -> http ('192.0.2.1', 0) [b'"a.example:8080"']
For=192.0.2.1;Proto=https
  -> http ('10.0.0.1', 50000) [b'inner']
SEEN
