"""Starlette served by uvicorn."""

import contextlib
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute


async def home(request):
    return PlainTextResponse("home")


async def add(request):
    return JSONResponse({"sum": sum(await request.json())})


async def many(request):
    async def pieces():
        for _ in range(1000):
            yield b"x" * 1000

    return StreamingResponse(pieces())


async def echo(socket):
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


@contextlib.asynccontextmanager
async def lifespan(app):
    print("started", flush=True)
    yield
    print("stopped", flush=True)


app = Starlette(
    routes=[
        Route("/", home),
        Route("/sum", add, methods=["POST"]),
        Route("/many", many),
        WebSocketRoute("/echo", echo),
    ],
    lifespan=lifespan,
)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="info")
