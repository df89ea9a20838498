"""Echoes by the loop's functions for plain sockets: sock_accept, sock_recv and
sock_sendall.

    python3 socket_echo_server.py [PORT]
"""

import asyncio
import socket
import sys


async def echo(connection, loop):
    with connection:
        while data := await loop.sock_recv(connection, 4096):
            await loop.sock_sendall(connection, data)


async def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8888
    loop = asyncio.get_running_loop()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    listener.setblocking(False)
    print(f"serving on {listener.getsockname()}")
    tasks = set()
    while True:
        connection, peer = await loop.sock_accept(listener)
        print(f"{peer} came")
        task = asyncio.create_task(echo(connection, loop))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
