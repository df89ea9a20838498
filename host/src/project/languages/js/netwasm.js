// Handlers of netwasm's events. netwasm.d.ts documents all of it.

export { NetworkError } from './base.js';
export { connect, Connection, listen } from './connections.js';
export { DatagramSocket, listenDatagram } from './datagrams.js';
export { onShutdown } from './host.js';
export { Request, Response, serve } from './http.js';
export { Counter, Gauge, Histogram } from './metrics.js';
export { lookup } from './names.js';
export * as shared from './shared.js';
export { sleep } from './timers.js';
