// The servers of WebSocket that users of Bun write: what guests/ws-echo and
// guests/chat-web do.
//
//     bun bun.js websocket | packed-websocket | topics

const echo = {
  message(socket, message) {
    socket.send(message);
  },
};

// Each message by itself, with what all connections share.
const packed = {
  perMessageDeflate: { compress: "shared", decompress: "shared" },
  message(socket, message) {
    socket.send(message, true);
  },
};

const ROOM = "room lobby";
const NAME = "somebody";

function plain(text) {
  return text.trim().replace(/\p{Cc}/gu, "").slice(0, 1000);
}

const chat = {
  open(socket) {
    socket.subscribe(ROOM);
    socket.send(`* you are ${NAME}, of ${server.subscriberCount(ROOM)} here`);
    socket.publish(ROOM, `* ${NAME} came`);
  },
  message(socket, text) {
    const line = plain(text);
    if (line) server.publish(ROOM, `${NAME}: ${line}`);
  },
};

const services = { websocket: echo, "packed-websocket": packed, topics: chat };

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    if (!server.upgrade(request)) return new Response("a WebSocket is wanted", { status: 426 });
  },
  websocket: services[process.argv[2]],
});
console.log(`listening ws://127.0.0.1:${server.port}`);
