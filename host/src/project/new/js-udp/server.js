// Sends each datagram back.

import { listenDatagram } from 'netwasm';

listenDatagram({
  message(socket, data, peer) {
    socket.send(data, peer);
  },
});
