"""Answers HTTP requests: a page, one with a parameter, and notes as JSON."""

import json

from netwasm import HTTPException, Request, Response, serve, shared

HOUR = 3600


async def site(request: Request) -> Response | str:
    match request.method, request.path.split("/")[1:]:
        case "GET" | "HEAD", [""]:
            return Response.html("<h1>Home</h1>")
        case "GET" | "HEAD", ["hello", name]:
            return f"Hello, {name}!\n"
        case "POST", ["notes"]:
            return add(request.json())
        case "GET" | "HEAD", ["notes", number]:
            return read(number)
    return Response("Not found\n", 404)


def add(note: dict) -> Response:
    """Keeps a note where all instances see it, and tells where it is."""
    number = shared.add("notes")
    shared.set(f"note/{number}", json.dumps(note), HOUR)
    return Response.json(note, 201, {"location": f"/notes/{number}"})


def read(number: str) -> Response:
    note = shared.get(f"note/{number}")
    if note is None:
        raise HTTPException(404, f"there is no note {number}")
    return Response(note.data, content_type="application/json")


serve(site)
