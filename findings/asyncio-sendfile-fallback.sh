#!/usr/bin/env bash
# CPython 3.13.5 (Debian 13's python3.13 3.13.5-2+deb13u5), asyncio.
#
# Guess: loop.sendfile sends the bytes of the file, also where the kernel cannot,
# as for a file in memory: it then reads and writes (its `fallback`).
# Seen: a peer that reads slowly gets the right number of bytes, of which many are
# wrong. The fallback reads each piece into one and the same buffer, and since
# 3.12 a transport keeps a view of what it could not send at once, where it made
# a copy before. No error is raised on either side. 3.11 sends the right bytes.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
pool=http://deb.debian.org/debian/pool/main
for deb in p/python3.13/python3.13-minimal_3.13.5-2+deb13u5 \
    p/python3.13/libpython3.13-minimal_3.13.5-2+deb13u5 \
    p/python3.13/libpython3.13-stdlib_3.13.5-2+deb13u5 \
    g/glibc/libc6_2.41-12+deb13u5 z/zlib/zlib1g_1.3.dfsg+really1.3.1-1+deb13u1 \
    e/expat/libexpat1_2.9.0-1~deb13u1; do
    curl -sSf -o "$dir/deb" "$pool/${deb}_amd64.deb"
    dpkg-deb -x "$dir/deb" "$dir/root"
done
cat >"$dir/slow.py" <<'PYTHON'
import asyncio
import io
import platform
import socket

WORDS = 1 << 20
DATA = b"".join(number.to_bytes(8, "big") for number in range(WORDS))


async def serve(reader, writer):
    global transport
    transport = writer.transport
    await asyncio.get_running_loop().sendfile(transport, file)
    writer.close()


def reads_next():
    """True from where the transport asks for more until the next piece is written to it."""
    low, _ = transport.get_write_buffer_limits()
    return 0 < transport.get_write_buffer_size() <= low and file.tell() < len(DATA)


async def main():
    global file
    file = io.BytesIO(DATA)
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    # So that what waits shrinks by steps smaller than the lower limit.
    server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        peer.setblocking(False)
        await loop.sock_connect(peer, server.sockets[0].getsockname())
        got = bytearray()
        while data := await loop.sock_recv(peer, 5000):
            got += data
            while reads_next():
                await asyncio.sleep(0.001)
    words = (got[at : at + 8] for at in range(0, len(got), 8))
    right = (DATA[at : at + 8] for at in range(0, len(DATA), 8))
    wrong = sum(one != other for one, other in zip(words, right))
    print(platform.python_version(), "sent all bytes:", len(got) == len(DATA))
    print("many are wrong:", wrong > WORDS // 1000)


asyncio.run(main())
PYTHON
libraries=$dir/root/usr/lib/x86_64-linux-gnu
PYTHONHOME=$dir/root/usr timeout -v 120 "$libraries/ld-linux-x86-64.so.2" \
    --library-path "$libraries" "$dir/root/usr/bin/python3.13" "$dir/slow.py" | tee "$dir/seen"
diff "$dir/seen" - <<'SEEN'
3.13.5 sent all bytes: True
many are wrong: True
SEEN
