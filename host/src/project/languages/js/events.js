// The exports of a component: handlers of the host's events.

export { connectHandler, tcpHandler } from './connections.js';
export { udpHandler } from './datagrams.js';
export { lifecycle } from './host.js';
export { httpHandler, responseHandler } from './http.js';
export { resolveHandler } from './names.js';
export { timerHandler } from './timers.js';
