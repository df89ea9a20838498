// Connections.

import {
  cancel as cancelConnect,
  connect as beginConnect,
  connectUpstream,
} from 'netwasm:net/connector@0.2.0';
import { File } from 'netwasm:net/files@0.2.0';
import { log } from 'netwasm:net/log@0.2.0';
import * as transports from 'netwasm:net/transports@0.2.0';

import { information, ipWire } from './addresses.js';
import { bytes, checked, Inbox, nanoseconds, NetworkError, report, token } from './base.js';

// Unread bytes beyond which a connection that is read by `await` is paused.
const UNREAD = 64 << 10;
const DISPOSE = Symbol.dispose ?? Symbol.for('dispose');

const live = new Map();

export class Connection {
  #id;
  #handler;
  #info;
  // Data to be read by `await`, if the handler is no object of callbacks.
  #inbox;
  #unread = 0;
  #stopped = false;
  #room;
  #upgrade;
  #lost = false;

  constructor(id, handler) {
    this.#id = id;
    this.#handler = handler;
    if (typeof handler !== 'object') this.#inbox = new Inbox();
  }

  write(data) {
    if (transports.write(this.#id, bytes(data)) === 0n) return this.#full();
  }

  writev(list) {
    if (transports.writelines(this.#id, list.map(bytes)) === 0n) return this.#full();
  }

  // Returns a promise of room. `drain` tells of it, too.
  #full() {
    if (!this.#room) {
      let resolve;
      const promise = new Promise((done) => (resolve = done));
      this.#room = { promise, resolve };
    }
    return this.#room.promise;
  }

  async read() {
    if (!this.#inbox) throw new TypeError('the callback `data` gets what is received');
    const chunk = await this.#inbox.take();
    if (chunk) this.#unread -= chunk.length;
    if (this.#stopped && this.#unread < UNREAD) {
      this.#stopped = false;
      transports.resumeReading(this.#id);
    }
    return chunk;
  }

  async *[Symbol.asyncIterator]() {
    for (let chunk; (chunk = await this.read()); ) yield chunk;
  }

  async *lines({ limit = 64 << 10 } = {}) {
    const text = new TextDecoder();
    let rest = '';
    for await (const chunk of this) {
      const lines = (rest + text.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop();
      for (const line of lines) yield line.endsWith('\r') ? line.slice(0, -1) : line;
      if (rest.length > limit) throw new RangeError(`a line is longer than ${limit}`);
    }
    rest += text.decode();
    if (rest) yield rest;
  }

  end() {
    checked(() => transports.writeEof(this.#id));
  }

  close() {
    transports.close(this.#id);
  }

  abort() {
    transports.abort(this.#id);
  }

  get closing() {
    return this.#lost || transports.isClosing(this.#id);
  }

  pause() {
    transports.pauseReading(this.#id);
  }

  resume() {
    transports.resumeReading(this.#id);
  }

  get buffered() {
    return Number(transports.getWriteBufferSize(this.#id));
  }

  setWriteBufferLimits(high, low = high >> 2) {
    transports.setWriteBufferLimits(this.#id, BigInt(high), BigInt(low));
  }

  setIdleTimeout(delay) {
    transports.setIdleTimeout(this.#id, nanoseconds(delay));
  }

  sendFile(path, { offset = 0, length } = {}) {
    const file = checked(() => File.open(path));
    const part = length == null ? undefined : BigInt(length);
    const sent = checked(() => transports.sendFile(this.#id, file, BigInt(offset), part));
    file[DISPOSE]?.();
    const room = transports.room(this.#id) === 0n ? this.#full() : Promise.resolve();
    return room.then(() => Number(sent));
  }

  relay(to) {
    checked(() => transports.relay(this.#id, to.#id));
  }

  startTls(options = {}) {
    const role = options.server ? { tag: 'server' } : { tag: 'client', val: tlsOptions(options) };
    checked(() => transports.startTls(this.#id, role, bytes(options.received ?? '')));
    const done = new Promise((resolve, reject) => (this.#upgrade = { resolve, reject }));
    // A handler that does not wait for it hears of a failure as the connection is lost.
    done.catch(() => {});
    return done;
  }

  #information() {
    return (this.#info ??= information(transports.info(this.#id)));
  }

  get peer() {
    return this.#information().peer;
  }

  get local() {
    return this.#information().local;
  }

  get tls() {
    return this.#information().tls ?? null;
  }

  // Events: the module's own, and no part of the interface.

  static events = {
    open(conn, number) {
      live.set(number, conn);
      const handler = conn.#handler;
      if (conn.#inbox === undefined) return void handler.open?.(conn);
      if (!handler) return;
      const failed = (error) => {
        // A peer that has gone is no fault of the handler.
        if (!conn.#lost || !(error instanceof NetworkError)) report('the handler of a connection', error);
        conn.abort();
      };
      Promise.resolve(handler(conn)).then(() => conn.close(), failed);
    },

    data(conn, data) {
      if (!conn.#inbox) return void conn.#handler.data?.(conn, data);
      conn.#unread += data.length;
      conn.#inbox.put(data);
      if (conn.#unread >= UNREAD && !conn.#stopped) {
        conn.#stopped = true;
        transports.pauseReading(conn.#id);
      }
    },

    // Data sent after the peer's end needs an open connection.
    end(conn) {
      if (conn.#inbox) {
        conn.#inbox.finish();
        return true;
      }
      return Boolean(conn.#handler.end?.(conn));
    },

    drain(conn) {
      conn.#room?.resolve();
      conn.#room = undefined;
      conn.#handler?.drain?.(conn);
    },

    tls(conn) {
      conn.#info = undefined;
      conn.#upgrade?.resolve();
      conn.#upgrade = undefined;
    },

    lost(conn, reason) {
      const error = reason && new NetworkError(reason);
      conn.#lost = true;
      conn.#room?.resolve();
      conn.#upgrade?.reject(error ?? new Error('the connection was closed'));
      if (conn.#inbox) conn.#inbox.finish(error);
      else conn.#handler.close?.(conn, error);
    },
  };
}

const { events } = Connection;
delete Connection.events;

let server;

export function listen(handler) {
  server = handler;
}

function tlsOptions({ serverName, alpn = [] }) {
  return { serverName, alpn };
}

const connecting = new Map();

export function connect(to, options = {}) {
  const { tls, timeout, localAddress, handler, signal } = options;
  const number = token();
  if (to.upstream && (tls || localAddress)) {
    throw new TypeError('the options of a group of servers are those of --upstream');
  }
  const wire = {
    tls: tls ? tlsOptions(tls === true ? {} : tls) : undefined,
    timeout: nanoseconds(timeout),
    localAddress: localAddress ? ipWire(localAddress) : undefined,
  };
  const endpoint = to.path ? { tag: 'unix', val: to.path } : { tag: 'name', val: [to.hostname, to.port] };
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    checked(() => {
      if (to.upstream) connectUpstream(BigInt(number), to.upstream, wire.timeout);
      else beginConnect(BigInt(number), endpoint, wire);
    });
    connecting.set(number, { resolve, reject, handler });
    signal?.addEventListener('abort', () => {
      if (!connecting.delete(number)) return;
      cancelConnect(BigInt(number));
      reject(signal.reason);
    });
  });
}

// Runs an event of a connection. One that throws loses the connection.
function run(what, conn, ...args) {
  if (!conn) return undefined;
  try {
    return events[what](conn, ...args);
  } catch (error) {
    report(`\`${what}\` of a connection`, error);
    conn.abort();
    return undefined;
  }
}

export const tcpHandler = {
  connectionMade(id) {
    const number = token();
    if (!server) {
      log('error', 'no handler: call `listen` of netwasm');
      transports.abort(id);
    } else {
      run('open', new Connection(id, server), number);
    }
    return BigInt(number);
  },
  dataReceived(number, data) {
    run('data', live.get(Number(number)), data);
  },
  eofReceived(number) {
    return run('end', live.get(Number(number))) ?? false;
  },
  writable(number) {
    run('drain', live.get(Number(number)));
  },
  tlsStarted(number) {
    run('tls', live.get(Number(number)));
  },
  connectionLost(number, reason) {
    const conn = live.get(Number(number));
    live.delete(Number(number));
    run('lost', conn, reason);
  },
};

export const connectHandler = {
  connected(number, { tag, val }) {
    const pending = connecting.get(Number(number));
    connecting.delete(Number(number));
    if (tag === 'err') {
      pending?.reject(new NetworkError(val));
    } else if (!pending) {
      transports.abort(val);
    } else {
      const conn = new Connection(val, typeof pending.handler === 'object' ? pending.handler : undefined);
      run('open', conn, Number(number));
      pending.resolve(conn);
    }
  },
};
