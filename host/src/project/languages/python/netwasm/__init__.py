"""Handlers of netwasm's events, in the words of asyncio.

A component of a handler registers one thing when it is built:

    create_server(Echo)                 # class Echo(asyncio.Protocol)
    start_server(client)                # async def client(reader, writer)
    create_datagram_endpoint(Echo)      # class Echo(asyncio.DatagramProtocol)
    serve(site)                         # def or async def site(request)

The host owns the sockets, so that these take no addresses: `netwasm run` does.
The event loop (`asyncio.get_running_loop()`) is `loop`. It runs between events:
tasks, futures, timers, `asyncio.sleep`, `asyncio.timeout`, queues, and
`asyncio.open_connection` work as they do anywhere. Nothing may block.

`netwasm.websocket`, for components of the kind `websocket`, takes WebSocket
connections and opens them.

`shared` has rate limits, counters and values that all instances of the service
share; `metrics` are counts of the handler's own. `asyncio.open_connection("@NAME", 0)`
connects to a server of the group that `--upstream` names.
"""

from asyncio import DatagramProtocol, Protocol

from . import metrics, shared
from ._addresses import Address
from ._datagrams import DatagramTransport, create_datagram_endpoint
from ._errors import TLSError
from ._http import HTTPException, Request, Response, serve
from ._log import LogHandler
from ._loop import Loop, loop
from ._streams import TLS, Transport, create_server, start_server

__all__ = [
    "TLS",
    "Address",
    "DatagramProtocol",
    "DatagramTransport",
    "HTTPException",
    "LogHandler",
    "Loop",
    "Protocol",
    "Request",
    "Response",
    "TLSError",
    "Transport",
    "create_datagram_endpoint",
    "create_server",
    "loop",
    "metrics",
    "serve",
    "shared",
    "start_server",
]
