"""Gets the head of a page by TLS, and says whom it spoke with.

    python3 https_client.py [URL]
"""

import asyncio
import ssl
import sys
import urllib.parse


async def main():
    url = urllib.parse.urlsplit(sys.argv[1] if len(sys.argv) > 1 else "https://www.python.org/")
    reader, writer = await asyncio.open_connection(
        url.hostname, url.port or 443, ssl=ssl.create_default_context()
    )
    tls = writer.get_extra_info("ssl_object")
    names = [value for kind, value in tls.getpeercert()["subjectAltName"] if kind == "DNS"]
    print(f"{tls.version()} with {names[0]}")
    writer.write(
        f"HEAD {url.path or '/'} HTTP/1.1\r\n"
        f"Host: {url.hostname}\r\n"
        "Connection: close\r\n\r\n".encode("latin-1")
    )
    while line := (await reader.readline()).decode("latin-1").rstrip():
        print(line)
    writer.close()


asyncio.run(main())
