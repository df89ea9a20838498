"""Looks names up, all at once, while a clock goes on.

    python3 look_up.py [NAME]...
"""

import asyncio
import socket
import sys


async def look_up(name):
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return f"{name}: {error.strerror}"
    addresses = dict.fromkeys(address[0] for *_, address in found)
    return f"{name}: {' '.join(addresses)}"


async def main():
    names = sys.argv[1:] or ["localhost"]
    for line in await asyncio.gather(*map(look_up, names)):
        print(line)


asyncio.run(main())
