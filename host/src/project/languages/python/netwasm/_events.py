"""The exports of a component: handlers of the host's events."""

import gc

from wit_world import exports

from . import _datagrams, _http, _streams
from ._loop import loop


class _TimerHandler:
    def woken(self) -> None:
        loop.woken()


class _ResolveHandler:
    def resolved(self, token: int, answer) -> None:
        loop.resolved(token, answer)


class _Lifecycle:
    def shutting_down(self, deadline: int | None) -> None:
        loop.shutting_down(deadline)


_ALL = {
    "TcpHandler": _streams.TcpHandler,
    "UdpHandler": _datagrams.UdpHandler,
    "HttpHandler": _http.HttpHandler,
    "ResponseHandler": _http.ResponseHandler,
    "ConnectHandler": _streams.ConnectHandler,
    "TimerHandler": _TimerHandler,
    "ResolveHandler": _ResolveHandler,
    "Lifecycle": _Lifecycle,
}


def handlers() -> dict[str, type]:
    """Returns the classes that the world of this component exports."""
    made = dict(_ALL)
    if hasattr(exports, "WebsocketHandler"):
        from . import websocket

        made["WebsocketHandler"] = websocket.WebsocketHandler
        made["WebsocketConnectHandler"] = websocket.WebsocketConnectHandler
    # All that there is now lies in pages that all instances share, until one writes
    # to them, as the collector does.
    gc.collect()
    gc.freeze()
    return {name: handler for name, handler in made.items() if hasattr(exports, name)}
