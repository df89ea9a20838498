"""HTTP: requests and responses."""

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote

from componentize_py_types import Err
from wit_world.imports import http
from wit_world.imports.http import (
    Answer,
    Answer_Defer,
    Answer_Respond,
    Body_Bytes,
    Body_Empty,
    Body_Path,
    Method,
    Method_Other,
)

from ._loop import loop
from ._streams import extra


class Headers(Mapping):
    """Headers by name, in any case. `[...]` is the first value of a name."""

    def __init__(self, fields: Iterable[tuple[str, bytes]]) -> None:
        self.fields = [(name, value.decode("latin-1")) for name, value in fields]

    def __getitem__(self, name: str) -> str:
        for value in self.get_all(name):
            return value
        raise KeyError(name)

    def get_all(self, name: str) -> list[str]:
        wanted = name.lower()
        return [value for it, value in self.fields if it.lower() == wanted]

    def __iter__(self):
        return iter(dict.fromkeys(name.lower() for name, _ in self.fields))

    def __len__(self) -> int:
        return len(list(iter(self)))


class HTTPException(Exception):
    """Raised by a handler: the request is answered by this status, and a line of text."""

    def __init__(
        self, status: int, detail: str = "",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> None:
        self.status = status
        self.detail = detail or HTTPStatus(status).phrase
        self.headers = headers
        super().__init__(f"{status} {self.detail}")

    def _response(self) -> "Response":
        return Response(self.detail + "\n", self.status, self.headers)


class _BadBody(HTTPException, ValueError):
    """A body that cannot be read as what the handler wants."""


class Request:
    """A request. What is asked for first after an `await` was kept before it."""

    def __init__(self, method: str, target: str, source: http.Request) -> None:
        self.method = method
        self.target = target
        self._source: http.Request | None = source

    @cached_property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(self.target.partition("?")[0])

    @cached_property
    def query(self) -> dict[str, str]:
        """The parameters of the query, decoded; the last one of each name."""
        return {name: values[-1] for name, values in self.query_all.items()}

    @cached_property
    def query_all(self) -> dict[str, list[str]]:
        query = self.target.partition("?")[2]
        return parse_qs(query, keep_blank_values=True)

    @cached_property
    def headers(self) -> Headers:
        return Headers(self._source.headers())

    @cached_property
    def body(self) -> bytes:
        return self._source.body()

    @cached_property
    def scheme(self) -> str:
        return self._source.scheme()

    @cached_property
    def host(self) -> str | None:
        """The host and port that were asked for."""
        return self._source.authority()

    @cached_property
    def _info(self) -> dict[str, Any]:
        return extra(self._source.info())

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns `peername`, `sockname`, or a part of the TLS session."""
        return self._info.get(name, default)

    def text(self) -> str:
        """The body as text. One that is not UTF-8 is a `ValueError`, which answers 400
        unless the handler catches it."""
        try:
            return self.body.decode()
        except UnicodeDecodeError as error:
            raise _BadBody(400, f"the body is not UTF-8: {error}") from error

    def json(self) -> Any:
        """The body as JSON, whatever its type. One that is not JSON is a `ValueError`,
        which answers 400 unless the handler catches it."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise _BadBody(400, f"the body is not JSON: {error}") from error

    def _keep(self) -> None:
        """Reads what a handler that goes on later may ask for."""
        for name in ("headers", "body", "scheme", "host", "_info"):
            getattr(self, name)
        self._source = None


class Response:
    """A response. A `str` as its body is text in UTF-8."""

    def __init__(
        self, body: str | bytes = b"", status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        *, content_type: str | None = None, path: str | None = None,
    ) -> None:
        if isinstance(body, str):
            content_type = content_type or "text/plain; charset=utf-8"
            body = body.encode()
        self.status = status
        self.body = body
        self.headers = list(headers.items() if isinstance(headers, Mapping) else headers)
        if content_type is not None:
            self.headers.append(("content-type", content_type))
        self.path = path

    @classmethod
    def html(
        cls, text: str, status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> "Response":
        return cls(text, status, headers, content_type="text/html; charset=utf-8")

    @classmethod
    def json(
        cls, value: Any, status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> "Response":
        return cls(json.dumps(value), status, headers, content_type="application/json")

    @classmethod
    def redirect(cls, location: str, status: int = 303) -> "Response":
        return cls(b"", status, {"location": location})

    @classmethod
    def file(cls, path: str, *, content_type: str | None = None) -> "Response":
        """A file of `--dir`, by sendfile(2): with types, conditions and ranges."""
        return cls(path=path, content_type=content_type)

    def _wire(self) -> http.Response:
        if self.path is not None:
            body = Body_Path(self.path)
        elif self.body:
            body = Body_Bytes(bytes(self.body))
        else:
            body = Body_Empty()
        fields = [(name, value.encode("latin-1")) for name, value in self.headers]
        return http.Response(status=self.status, headers=fields, body=body, trailers=[])


Handler = Callable[[Request], "Response | str | bytes | Awaitable[Response | str | bytes]"]

_handler: Handler | None = None

_deferred: dict[int, asyncio.Task] = {}


def serve(handler: Handler) -> Handler:
    """Answers requests (`--http`, `--https`) by a function or a coroutine
    function. It returns a `Response`, a `str`, `bytes`, or what JSON has. An
    `HTTPException` that it raises is a response, too."""
    global _handler
    _handler = handler
    return handler


def _response(result: Any) -> http.Response:
    if isinstance(result, dict | list):
        result = Response.json(result)
    elif isinstance(result, str | bytes):
        result = Response(result)
    elif not isinstance(result, Response):
        raise TypeError(f"the handler returned no response, but {result!r}")
    return result._wire()


def _failure(error: BaseException) -> http.Response:
    if isinstance(error, HTTPException):
        return error._response()._wire()
    loop.failed("the handler of a request failed", error)
    return Response("Internal Server Error\n", 500)._wire()


def _outcome(task: asyncio.Task) -> http.Response:
    if task.cancelled():
        return Response("Service Unavailable\n", 503)._wire()
    error = task.exception()
    try:
        return _failure(error) if error is not None else _response(task.result())
    except Exception as error:
        return _failure(error)


async def _awaited(awaitable: Awaitable) -> Any:
    return await awaitable


def _method(method: Method) -> str:
    if type(method) is Method_Other:
        return method.value
    return type(method).__name__.removeprefix("Method_").upper()


class HttpHandler:
    """The event of a request."""

    def handle(self, method: Method, target: str, source: http.Request) -> Answer:
        request = Request(_method(method), target, source)
        try:
            if _handler is None:
                raise RuntimeError("no handler: call netwasm.serve")
            result = _handler(request)
            if not inspect.isawaitable(result):
                answer = Answer_Respond(_response(result))
                loop.settle()
                return answer
        except Exception as error:
            answer = Answer_Respond(_failure(error))
            loop.settle()
            return answer
        task = asyncio.Task(_awaited(result), loop=loop, eager_start=True)
        loop.settle()
        if task.done():
            return Answer_Respond(_outcome(task))
        request._keep()
        token = loop.token()
        _deferred[token] = task
        task.add_done_callback(lambda task: _respond(token, task))
        return Answer_Defer(token)


def _respond(token: int, task: asyncio.Task) -> None:
    if _deferred.pop(token, None) is None:
        return
    try:
        http.respond(token, _outcome(task))
    except Err:
        pass  # The client has left, or was told that it took too long.


class ResponseHandler:
    def writable(self, token: int) -> None:
        pass  # No body is streamed.

    def abandoned(self, token: int) -> None:
        if (task := _deferred.pop(token, None)) is not None:
            task.cancel()
        loop.settle()
