"""Lets Python's own asyncio, socket, select and ssl run in a component.

What is C in CPython and talks to the system is Python here and talks to the
host; all that is Python in CPython stays as it is.

    a script, asyncio, packages
        |                         |                |              |
    socket.py, selectors.py    ssl.py          signal.py      os.sendfile
        |            |            |                |              |
    _socket        select       _ssl            _signal           |
    sockets.py     polling.py   tls.py          signals.py   sending_files.py
    addresses.py   waiting.py   certificates.py    |              |
        |            |            |                |              |
        +------------+------ host.py: netwasm:net/sockets, tls-engine

Beside that: `descriptors.py` (`os.close()` and its like, of a socket's number),
`loop.py`, `inline.py`, `locks.py` and `packages.py` (the assumption that there are
threads), `library.py` (parts of the standard library that want something else),
the other `tls_*.py` (what `tls.py` gives as `_ssl`),
`tls_protocol.py` and `transfers.py` (fewer copies in asyncio's TLS, fewer turns for
a file),
`modules.py` (imports without a file system), `heap.py` (the places of objects in
memory), `program.py` (runs a script as the command `python` does), `install.py`
(puts all of it in its place while a component is built, so that it starts with
everything imported).
"""
