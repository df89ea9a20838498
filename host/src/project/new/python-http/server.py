"""Answers HTTP requests: a page, and one with a parameter."""

from urllib.parse import unquote

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

# Bytes of a blocking write at most.
WRITE = 4096


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path = request.path_with_query() or "/"
        if path == "/":
            answer(response_out, 200, "text/html", b"<h1>Home</h1>")
        elif path.startswith("/hello/"):
            name = unquote(path.removeprefix("/hello/"))
            answer(response_out, 200, "text/plain", f"Hello, {name}!\n".encode())
        else:
            answer(response_out, 404, "text/plain", b"Not found\n")


def answer(out: ResponseOutparam, status: int, kind: str, content: bytes) -> None:
    length = str(len(content)).encode()
    fields = [("content-type", kind.encode()), ("content-length", length)]
    response = OutgoingResponse(Fields.from_list(fields))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(out, Ok(response))
    with body.write() as stream:
        for begin in range(0, len(content), WRITE):
            stream.blocking_write_and_flush(content[begin : begin + WRITE])
    OutgoingBody.finish(body, None)
