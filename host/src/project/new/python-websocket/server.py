"""A room where people talk over WebSocket: what one says, all hear."""

from netwasm import Request, Response, serve, websocket

PAGE = """<!DOCTYPE html>
<title>Room</title>
<form><input autofocus> <button>Say</button></form>
<pre></pre>
<script>
  const socket = new WebSocket(location.href.replace(/^http/, 'ws'));
  socket.onmessage = ({ data }) => document.querySelector('pre').append(data, '\\n');
  document.forms[0].onsubmit = (event) => {
    event.preventDefault();
    socket.send(event.target[0].value);
    event.target.reset();
  };
</script>
"""


async def talk(socket: websocket.WebSocket) -> None:
    # Each connection has an instance of its own. The topic reaches all of them.
    socket.subscribe("room")
    await socket.send(f"welcome, {websocket.subscribers('room')} are here")
    async for message in socket:
        websocket.publish("room", message)


def page(request: Request) -> Response:
    return Response.html(PAGE)


websocket.serve(talk)
serve(page)  # requests that open no WebSocket connection
