#!/usr/bin/env bash
# Builds the handler, starts it on a free port, and asks it. `netwasm` is on
# PATH, or where the variable NETWASM says. Takes more flags for `netwasm run`.
set -euo pipefail
cd "$(dirname "$0")"
coproc SERVER { exec "${NETWASM:-netwasm}" run . --udp 127.0.0.1:0 "$@"; }
trap 'kill "$SERVER_PID" 2>/dev/null || true' EXIT
read -r _ url <&"${SERVER[0]}"
exec 3<>"/dev/udp/127.0.0.1/${url##*:}"
echo 'hello' >&3
answer=$(timeout 10 dd bs=1500 count=1 status=none <&3)
expected=HELLO
[[ $answer == "$expected" ]] || {
    echo "the answer is $answer, not $expected" >&2
    exit 1
}
echo "the answer is $answer"
