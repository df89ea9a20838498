// A room where people talk over WebSocket: what one says, all hear.

import { Response, serve } from 'netwasm';
import { publish, serve as serveWebSocket, subscribers, type WebSocket } from 'netwasm/websocket';

const page = `<!DOCTYPE html>
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
`;

// Requests that open no WebSocket connection.
serve(() => new Response(page, { headers: { 'Content-Type': 'text/html' } }));

// Each connection has an instance of its own. The topic reaches all of them.
serveWebSocket(talk);

async function talk(socket: WebSocket): Promise<void> {
  socket.subscribe('room');
  await socket.send(`welcome, ${subscribers('room')} are here`);
  for await (const message of socket) publish('room', message);
}
