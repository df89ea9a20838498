"""WebSocket connections: whole messages, in the words of the package `websockets`.
For components of the kind `websocket`.

    from netwasm import websocket

    @websocket.serve
    async def chat(socket):
        socket.subscribe("room")
        async for message in socket:
            socket.publish("room", message)

The host does frames, compression, pings, and the fan-out of topics, which reaches
all instances of the service. Requests for no connection go to `netwasm.serve`, if
that is called. `connect` opens connections to other servers (`--allow-connect`).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from componentize_py_types import Err, Ok
from wit_world.exports.websocket_connect_handler import Failure_Refused
from wit_world.exports.websocket_handler import Acceptance, Opening_Accept, Opening_Refuse
from wit_world.imports import http, topics, websocket_client, websockets
from wit_world.imports.websocket_client import WebsocketOptions
from wit_world.imports.websockets import WebsocketId

from . import _http
from ._errors import checked, exception
from ._http import Headers, Request, Response
from ._loop import loop
from ._streams import TLS, extra

# Unread bytes beyond which nothing more is received.
UNREAD = 64 << 10

Message = str | bytes


class ConnectionClosed(Exception):
    """The connection has ended: 1000 is a normal end, 1006 one without a word."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the connection is closed: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class InvalidStatus(Exception):
    """A server's answer that opens no connection."""

    def __init__(self, status: int, headers: Headers) -> None:
        super().__init__(f"the server answers with {status}")
        self.status = status
        self.headers = headers


@dataclass(frozen=True)
class Accept:
    """A decision to take a connection."""

    subprotocol: str | None = None
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()


class WebSocket:
    """A connection, to a client or to a server. `request` has opened it; for one of
    `connect`, it is None, and `response_headers` are those of the server's answer."""

    def __init__(
        self, connection: WebsocketId, token: int, *, request: Request | None = None,
        subprotocol: str | None = None, response_headers: Headers | None = None,
    ) -> None:
        self.request = request
        self.subprotocol = subprotocol
        self.response_headers = response_headers
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self._id = connection
        self._token = token
        self._unread: deque[Message] = deque()
        self._bytes = 0
        self._paused = False
        # True while the host owes word of room.
        self._full = False
        self._closing = False
        self._readers: list[asyncio.Future] = []
        self._writers: list[asyncio.Future] = []
        _live[token] = self

    async def recv(self) -> Message:
        """Returns the next message, or raises `ConnectionClosed`."""
        while not self._unread:
            if self.close_code is not None:
                raise self._closed()
            await self._wait(self._readers)
        message = self._unread.popleft()
        self._bytes -= len(message) + 1
        if self._paused and self._bytes < UNREAD:
            self._paused = False
            websockets.resume_reading(self._id)
        return message

    def __aiter__(self) -> "WebSocket":
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.recv()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    async def send(self, message: Message | bytearray | memoryview) -> None:
        """Sends a `str` as text, and anything else as bytes. Waits first if the peer
        did not keep up with what was sent before."""
        while self._full and self.close_code is None:
            await self._wait(self._writers)
        self.send_nowait(message)

    def send_nowait(self, message: Message | bytearray | memoryview) -> bool:
        """Sends without waiting. Returns False if the peer does not keep up."""
        if self._closing or self.close_code is not None:
            raise self._closed()
        if isinstance(message, str):
            room = websockets.send_text(self._id, message)
        else:
            room = websockets.send_binary(self._id, bytes(message))
        self._full = room == 0
        return not self._full

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes once all is sent, and waits until the peer has agreed or has left."""
        self._close(code, reason)
        while self.close_code is None:
            await self._wait(self._readers)

    async def __aenter__(self) -> "WebSocket":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def closing(self) -> bool:
        return self.close_code is not None or websockets.is_closing(self._id)

    @property
    def buffered(self) -> int:
        """Bytes that wait to be sent."""
        return websockets.buffered(self._id)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns `peername`, `sockname`, or a part of the TLS session."""
        return extra(websockets.info(self._id)).get(name, default)

    def subscribe(self, topic: str) -> None:
        """Gets what is published to a topic, until the connection ends."""
        checked(topics.subscribe, self._id, topic)

    def unsubscribe(self, topic: str) -> None:
        topics.unsubscribe(self._id, topic)

    def publish(self, topic: str, message: Message) -> int:
        """Sends to all subscribers of a topic but this one. Returns how many there
        are."""
        return _publish(topic, message, self._id)

    # Parts of the above, and events.

    def _closed(self) -> ConnectionClosed:
        return ConnectionClosed(self.close_code or 1000, self.close_reason or "")

    def _close(self, code: int, reason: str) -> None:
        if not self.closing:
            checked(websockets.close, self._id, code, reason)
        self._closing = True
        _wake(self._writers)

    async def _wait(self, waiting: list[asyncio.Future]) -> None:
        future = loop.create_future()
        waiting.append(future)
        try:
            await future
        finally:
            if future in waiting:
                waiting.remove(future)

    def _received(self, message: Message) -> None:
        self._unread.append(message)
        self._bytes += len(message) + 1
        if self._bytes >= UNREAD and not self._paused:
            self._paused = True
            websockets.pause_reading(self._id)
        _wake(self._readers)

    def _drained(self) -> None:
        self._full = False
        _wake(self._writers)

    def _ended(self, code: int, reason: str) -> None:
        self.close_code, self.close_reason = code, reason
        _wake(self._readers)
        _wake(self._writers)


def _wake(waiting: list[asyncio.Future]) -> None:
    woken, waiting[:] = list(waiting), []
    for future in woken:
        if not future.done():
            future.set_result(None)


# The connections of this instance, by their tokens.
_live: dict[int, WebSocket] = {}

_connecting: dict[int, asyncio.Future] = {}

_handler: Callable[[WebSocket], Awaitable[Any]] | None = None

_open: Callable[[Request], Accept | Response | None] | None = None


def serve(
    handler: Callable[[WebSocket], Awaitable[Any]],
    *, open: Callable[[Request], Accept | Response | None] | None = None,
) -> Callable[[WebSocket], Awaitable[Any]]:
    """Takes connections (`--http`, `--https`) by a coroutine function. When it
    returns, the connection is closed with 1000; with 1011, if it raises. `open`
    decides first: by a `Response`, which refuses, by `Accept`, or by None."""
    global _handler, _open
    _handler, _open = handler, open
    if _http._handler is None:
        _http.serve(_nothing_else)
    return handler


def _nothing_else(_: Request) -> Response:
    text = "there are only WebSocket connections here\n"
    return Response(text, 426, {"sec-websocket-version": "13"})


def publish(topic: str, message: Message) -> int:
    """Sends to all subscribers of a topic, of all instances. Returns how many there
    are."""
    return _publish(topic, message, None)


def subscribers(topic: str) -> int:
    return topics.subscribers(topic)


def _publish(topic: str, message: Message, but: WebsocketId | None) -> int:
    if isinstance(message, str):
        return topics.publish_text(topic, message, but)
    return topics.publish_binary(topic, bytes(message), but)


async def connect(
    url: str, *, subprotocols: Iterable[str] = (),
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ssl: TLS | None = None, compress: bool = False, open_timeout: float | None = None,
) -> WebSocket:
    """Opens a connection to `ws://` or `wss://`. Raises `InvalidStatus` if the server
    refuses, and otherwise an `OSError`. All of it may take 30 s unless given. `ssl`
    is for `wss://`, where the certificate has another name, say. `compress` offers
    compression, unless `--websocket-compression` is off."""
    options = WebsocketOptions(
        protocols=list(subprotocols),
        headers=_fields(headers),
        tls=None if ssl is None else ssl.wire(None),
        compress=compress,
        timeout=None if open_timeout is None else max(int(open_timeout * 1e9), 0),
    )
    token, future = loop.token(), loop.create_future()
    checked(websocket_client.connect, token, url, options)
    _connecting[token] = future
    try:
        return await future
    except asyncio.CancelledError:
        # It may have opened before the task could run, and nobody has it.
        if future.done() and not future.cancelled() and future.exception() is None:
            future.result()._close(1000, "")
        raise
    finally:
        if _connecting.pop(token, None) is not None:
            websocket_client.cancel(token)


def _fields(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> list[tuple[str, bytes]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name, value.encode("latin-1")) for name, value in pairs]


async def _serve(socket: WebSocket) -> None:
    try:
        await _handler(socket)
    except ConnectionClosed:
        socket._close(1000, "")
    except Exception as error:
        loop.failed("the handler of a WebSocket connection failed", error)
        socket._close(1011, "")
    else:
        socket._close(1000, "")


# Tasks of handlers: the loop itself keeps none.
_tasks: set[asyncio.Task] = set()


class WebsocketHandler:
    """The events of connections."""

    def open(self, connection: WebsocketId, target: str, source: http.Request):
        request = Request("GET", target, source)
        try:
            if _handler is None:
                refusal = Response("there are no WebSocket connections here\n", 404)
                return Opening_Refuse(refusal._wire())
            decided = None if _open is None else _open(request)
            if isinstance(decided, Response):
                return Opening_Refuse(decided._wire())
            accept = decided or Accept()
            fields = _fields(accept.headers)
        except Exception as error:
            return Opening_Refuse(_http._failure(error))
        request._keep()
        token = loop.token()
        socket = WebSocket(
            connection, token, request=request, subprotocol=accept.subprotocol
        )
        task = asyncio.Task(_serve(socket), loop=loop)
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        # The handler's next messages go out behind the answer.
        loop.settle()
        return Opening_Accept(Acceptance(token, accept.subprotocol, fields))

    def text_received(self, token: int, text: str) -> None:
        self._tell(token, WebSocket._received, text)

    def binary_received(self, token: int, data: bytes) -> None:
        self._tell(token, WebSocket._received, data)

    def drained(self, token: int) -> None:
        self._tell(token, WebSocket._drained)

    def closed(self, token: int, code: int, reason: str) -> None:
        self._tell(token, WebSocket._ended, code, reason)
        _live.pop(token, None)

    def _tell(self, token: int, event: Callable, *args: Any) -> None:
        if (socket := _live.get(token)) is not None:
            event(socket, *args)
        loop.settle()


class WebsocketConnectHandler:
    """The results of `connect`."""

    def connected(self, token: int, outcome: Ok | Err) -> None:
        future = _connecting.pop(token, None)
        waits = future is not None and not future.done()
        if isinstance(outcome, Ok):
            opened = outcome.value
            socket = WebSocket(
                opened.connection, token, subprotocol=opened.protocol,
                response_headers=Headers(opened.headers),
            )
            if waits:
                future.set_result(socket)
            else:
                socket._close(1000, "")
        elif waits:
            future.set_exception(_not_opened(outcome.value))
        loop.settle()


def _not_opened(failure: Any) -> Exception:
    if isinstance(failure, Failure_Refused):
        refusal = failure.value
        return InvalidStatus(refusal.status, Headers(refusal.headers))
    return exception(failure.value)
