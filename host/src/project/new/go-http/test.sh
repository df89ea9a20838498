#!/usr/bin/env bash
# Builds the handler, starts it on a free port, and asks it. `netwasm` is on
# PATH, or where the variable NETWASM says. Takes more flags for `netwasm run`.
set -euo pipefail
cd "$(dirname "$0")"
coproc SERVER { exec "${NETWASM:-netwasm}" run . --http 127.0.0.1:0 "$@"; }
trap 'kill "$SERVER_PID" 2>/dev/null || true' EXIT
read -r _ url <&"${SERVER[0]}"
exec 3<>"/dev/tcp/127.0.0.1/${url##*:}"
printf 'GET /hello/you HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
while read -r -t 10 line <&3; do answer=$line; done
expected='Hello, you!'
[[ $answer == "$expected" ]] || {
    echo "the answer is $answer, not $expected" >&2
    exit 1
}
echo "the answer is $answer"
