// WebSocket connections: the module `netwasm/websocket`, for components of the kind
// `websocket`.

import * as topics from 'netwasm:net/topics@0.2.0';
import { cancel as cancelConnect, connect as beginConnect } from 'netwasm:net/websocket-client@0.2.0';
import * as websockets from 'netwasm:net/websockets@0.2.0';

import { information } from './addresses.js';
import { bytes, checked, Inbox, nanoseconds, NetworkError, report, token } from './base.js';
import { fieldsOf, headersOf, keep, Request, Response, responseWire, withoutSite } from './http.js';

// Unread bytes beyond which nothing more is received.
const UNREAD = 64 << 10;

const live = new Map();

// Sends a message by the one of two functions that suits it.
const by = (message, text, binary) =>
  typeof message === 'string' ? text(message) : binary(bytes(message));

const sizeOf = (message) => (typeof message === 'string' ? message.length : message.byteLength);

export class WebSocket {
  #id;
  #inbox = new Inbox();
  #unread = 0;
  #stopped = false;
  #room;
  #closed;
  #closing;

  constructor(id, { request = null, protocol = '', headers } = {}) {
    this.#id = id;
    this.request = request;
    this.protocol = protocol;
    this.headers = headers ?? new Headers();
  }

  send(message) {
    const room = by(
      message,
      (text) => websockets.sendText(this.#id, text),
      (data) => websockets.sendBinary(this.#id, data),
    );
    if (room !== 0n) return undefined;
    if (!this.#room) {
      let resolve;
      const promise = new Promise((done) => (resolve = done));
      this.#room = { promise, resolve };
    }
    return this.#room.promise;
  }

  // Returns the next message; `null` at the end.
  async receive() {
    const message = await this.#inbox.take();
    if (message !== null) this.#unread -= sizeOf(message) + 1;
    if (this.#stopped && this.#unread < UNREAD) {
      this.#stopped = false;
      websockets.resumeReading(this.#id);
    }
    return message;
  }

  async *[Symbol.asyncIterator]() {
    for (let message; (message = await this.receive()) !== null; ) yield message;
  }

  // Returns a promise of how the connection ends.
  close(code = 1000, reason = '') {
    if (!this.closing) checked(() => websockets.close(this.#id, code, reason));
    return this.#ended();
  }

  #ended() {
    if (this.#closed) return Promise.resolve(this.#closed);
    if (!this.#closing) {
      let resolve;
      const promise = new Promise((done) => (resolve = done));
      this.#closing = { promise, resolve };
    }
    return this.#closing.promise;
  }

  get closing() {
    return this.#closed !== undefined || websockets.isClosing(this.#id);
  }

  get closed() {
    return this.#closed ?? null;
  }

  get buffered() {
    return Number(websockets.buffered(this.#id));
  }

  get peer() {
    return information(websockets.info(this.#id)).peer;
  }

  get tls() {
    return information(websockets.info(this.#id)).tls ?? null;
  }

  subscribe(topic) {
    checked(() => topics.subscribe(this.#id, topic));
  }

  unsubscribe(topic) {
    topics.unsubscribe(this.#id, topic);
  }

  // Sends to all subscribers but this one.
  publish(topic, message) {
    return publish(topic, message, this.#id);
  }

  // Events: the module's own, and no part of the interface.

  static events = {
    begin(socket, number, handler) {
      live.set(number, socket);
      if (!handler) return;
      const close = (code) => socket.closing || websockets.close(socket.#id, code, '');
      const failed = (error) => {
        report('the handler of a WebSocket connection', error);
        close(1011);
      };
      // Not before the host has the answer that opens it.
      Promise.resolve()
        .then(() => handler(socket))
        .then(() => close(1000), failed);
    },

    message(socket, message) {
      socket.#unread += sizeOf(message) + 1;
      socket.#inbox.put(message);
      if (socket.#unread >= UNREAD && !socket.#stopped) {
        socket.#stopped = true;
        websockets.pauseReading(socket.#id);
      }
    },

    drained(socket) {
      socket.#room?.resolve();
      socket.#room = undefined;
    },

    ended(socket, code, reason) {
      socket.#closed = { code, reason };
      socket.#room?.resolve();
      socket.#closing?.resolve(socket.#closed);
      socket.#inbox.finish();
    },
  };
}

const { events } = WebSocket;
delete WebSocket.events;

let served;

export function serve(handler, { open } = {}) {
  served = { handler, open };
  // Without a site, other requests are asked to change to WebSocket.
  withoutSite(() => new Response('there are only WebSocket connections here', {
    status: 426,
    headers: { 'sec-websocket-version': '13' },
  }));
}

export function publish(topic, message, except) {
  const count = by(
    message,
    (text) => topics.publishText(topic, text, except),
    (data) => topics.publishBinary(topic, data, except),
  );
  return Number(count);
}

export const subscribers = (topic) => Number(topics.subscribers(topic));

// The answer of a server that opens no connection.
export class Refusal extends Error {
  constructor({ status, headers }) {
    super(`the server answers with ${status}`);
    this.name = 'Refusal';
    this.status = status;
    this.headers = headersOf(headers);
  }
}

const connecting = new Map();

export function connect(url, options = {}) {
  const { protocols = [], headers = [], tls, compress = false, timeout, signal } = options;
  const number = token();
  const wire = {
    protocols: typeof protocols === 'string' ? [protocols] : [...protocols],
    headers: fieldsOf(headers),
    tls: tls ? { ...tls, alpn: [] } : undefined,
    compress,
    timeout: nanoseconds(timeout),
  };
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    checked(() => beginConnect(BigInt(number), String(url), wire));
    const abort = () => {
      if (!connecting.delete(number)) return;
      cancelConnect(BigInt(number));
      reject(signal.reason);
    };
    // The signal may outlive many connections.
    const last = (settle) => (value) => {
      signal?.removeEventListener('abort', abort);
      settle(value);
    };
    connecting.set(number, { resolve: last(resolve), reject: last(reject) });
    signal?.addEventListener('abort', abort, { once: true });
  });
}

const refuse = (response) => ({ tag: 'refuse', val: responseWire(response) });

export const websocketHandler = {
  open(id, target, source) {
    const request = new Request('GET', target, source);
    try {
      if (!served) return refuse(new Response('there are no WebSocket connections here', { status: 404 }));
      const decided = served.open?.(request) ?? {};
      if (decided instanceof Response) return refuse(decided);
      if (typeof decided.then === 'function') throw new TypeError('`open` must not be async');
      const { protocol, headers = [] } = decided;
      keep(request);
      const number = token();
      const headersWire = fieldsOf(headers);
      events.begin(new WebSocket(id, { request, protocol }), number, served.handler);
      return { tag: 'accept', val: { token: BigInt(number), protocol, headers: headersWire } };
    } catch (error) {
      report('`open` of a WebSocket connection', error);
      return refuse(new Response('Internal Server Error\n', { status: 500 }));
    }
  },
  textReceived(number, text) {
    run('message', number, text);
  },
  binaryReceived(number, data) {
    run('message', number, data);
  },
  drained(number) {
    run('drained', number);
  },
  closed(number, code, reason) {
    run('ended', number, code, reason);
    live.delete(Number(number));
  },
};

// Runs an event of a connection.
function run(what, number, ...args) {
  const socket = live.get(Number(number));
  if (socket) events[what](socket, ...args);
}

export const websocketConnectHandler = {
  connected(number, { tag, val }) {
    const pending = connecting.get(Number(number));
    connecting.delete(Number(number));
    if (tag === 'err') {
      pending?.reject(val.tag === 'refused' ? new Refusal(val.val) : new NetworkError(val.val));
    } else if (!pending) {
      websockets.close(val.connection, 1000, '');
    } else {
      const socket = new WebSocket(val.connection, {
        protocol: val.protocol ?? '',
        headers: headersOf(val.headers),
      });
      events.begin(socket, Number(number));
      pending.resolve(socket);
    }
  },
};
