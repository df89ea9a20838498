"""Views of what a server and a client got, in a form in which proxies can be
compared: without what is a proxy's own to choose."""

from case import MARK

# Fields that are compared apart, or that each proxy writes as it likes.
FRAMING = {"content-length", "transfer-encoding"}
OF_REQUEST = FRAMING | {"host", "via", "connection", "x-forwarded-for", "x-forwarded-host",
                        "x-forwarded-proto"}
OF_RESPONSE = FRAMING | {"connection", "keep-alive", "date", "server", "x-content-type-options"}


def fields(message, left_out):
    found = {}
    for name, value in message.fields:
        if name not in left_out:
            found.setdefault(name, []).append(value)
    return found


def of_server(requests):
    """A view of the requests that came to the server."""
    if not requests:
        return {"requests": 0}
    request = requests[0]
    method, target, version = request.start.split(b" ")
    view = {
        "requests": len(requests),
        "method": method,
        "target": target,
        "version": version,
        "host": request.all("host"),
        # Fields that the peer is to take for those of its connection.
        "options": sorted(set(request.members("connection")) - {"close", "keep-alive"}),
        "framing": request.framing,
        "length": request.all("content-length"),
        "coding": request.all("transfer-encoding"),
        "body": request.body,
        "trailers": request.trailers,
        "whole": request.whole,
    }
    for name, values in fields(request, OF_REQUEST).items():
        view[f"field {name}"] = values
    return view


def of_client(run):
    """A view of what the client got."""
    view = {"interim": [it.status for it in run.interim], "after": run.after}
    response = run.response
    if response is None:
        return {**view, "status": None}
    if response.status != 101 and not response.all(MARK.lower()):
        # The words are the proxy's.
        return {**view, "status": response.status, "origin": "proxy"}
    view |= {
        "status": response.status,
        "origin": "server",
        "reason": response.start.split(b" ", 2)[2:],
        "framing": response.framing,
        "length": response.all("content-length"),
        "coding": response.all("transfer-encoding"),
        "options": sorted(set(response.members("connection")) - {"close", "keep-alive"}),
        "body": response.body,
        "trailers": response.trailers,
        "whole": response.whole,
        "date": len(response.all("date")),
        "server": response.all("server"),
    }
    for name, values in fields(response, OF_RESPONSE).items():
        view[f"field {name}"] = values
    return view


def differences(ours, theirs):
    """Places in which two views differ, with both values.

    Of messages that one side never got, only that is told: the rest follows.
    """
    found = []
    for side in ("server", "client"):
        one, two = ours[side], theirs[side]
        first = "requests" if side == "server" else "status"
        for kind in (first, "origin"):
            if one.get(kind) != two.get(kind):
                found.append((f"{side} {kind}", one.get(kind), two.get(kind)))
                break
        else:
            for place in {**one, **two}:
                if one.get(place) != two.get(place):
                    found.append((f"{side} {place}", one.get(place), two.get(place)))
    return found
