// Parts that the other modules share: errors, bytes, tokens, and queues.

import { log } from 'netwasm:net/log@0.2.0';

export const encoder = new TextEncoder();
export const decoder = new TextDecoder();
export const MILLISECOND = 1_000_000;

const CODES = {
  'access-denied': 'EACCES',
  'invalid-state': 'ENOTCONN',
  'invalid-argument': 'EINVAL',
  'not-supported': 'ENOTSUP',
  'limit-exceeded': 'EMFILE',
  timeout: 'ETIMEDOUT',
  'connection-refused': 'ECONNREFUSED',
  'connection-reset': 'ECONNRESET',
  'connection-aborted': 'ECONNABORTED',
  'connection-broken': 'EPIPE',
  'remote-unreachable': 'EHOSTUNREACH',
  'address-not-bindable': 'EADDRNOTAVAIL',
  'name-unresolvable': 'ENOTFOUND',
  'no-address': 'ENODATA',
  'resolver-failure': 'ESERVFAIL',
  'not-found': 'ENOENT',
  tls: 'ETLS',
  'tls-truncated': 'ETLS',
};

export class NetworkError extends Error {
  constructor({ code, during, text }) {
    super(text);
    this.name = 'NetworkError';
    this.kind = code;
    this.code = CODES[code] ?? 'EIO';
    this.during = during;
  }
}

// Calls the host, whose errors come as the payload of another one.
export function checked(call) {
  try {
    return call();
  } catch (error) {
    throw error?.payload?.code ? new NetworkError(error.payload) : error;
  }
}

function describe(error) {
  return error instanceof Error ? `${error}\n${error.stack ?? ''}` : String(error);
}

export function report(what, error) {
  for (const line of `${what} failed: ${describe(error)}`.trimEnd().split('\n')) log('error', line);
}

export function bytes(data) {
  if (data instanceof Uint8Array) return data;
  if (typeof data === 'string') return encoder.encode(data);
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw new TypeError('the data is neither a string nor bytes');
}

let tokens = 0;
export const token = () => (tokens += 1);

export const nanoseconds = (milliseconds) =>
  milliseconds == null ? undefined : BigInt(Math.round(milliseconds * MILLISECOND));

// Queues of what is read by `await`.

export class Inbox {
  items = [];
  waiting = [];
  done = false;
  error;

  put(item) {
    const next = this.waiting.shift();
    if (next) next.resolve(item);
    else this.items.push(item);
  }

  finish(error) {
    if (this.done) return;
    this.done = true;
    this.error = error;
    for (const { resolve, reject } of this.waiting.splice(0)) error ? reject(error) : resolve(null);
  }

  take() {
    if (this.items.length) return Promise.resolve(this.items.shift());
    if (this.error) return Promise.reject(this.error);
    if (this.done) return Promise.resolve(null);
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }
}
