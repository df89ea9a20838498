// HTTP: what is needed of the classes of fetch.

import * as http from 'netwasm:net/http@0.2.0';

import { information } from './addresses.js';
import { bytes, decoder, encoder, report, token } from './base.js';
import { addTimer } from './timers.js';

// Turns of the queue of promises after which a request is answered later.
const TURNS = 100;

// Errors of bodies of requests that are not JSON: the fault of the client.
const malformed = new WeakSet();

class Body {
  async bytes() {
    return this._bytes;
  }

  async arrayBuffer() {
    const data = this._bytes;
    return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
  }

  async text() {
    return decoder.decode(this._bytes);
  }

  async json() {
    return JSON.parse(await this.text());
  }
}

export function headersOf(fields) {
  const headers = new Headers();
  for (const [name, value] of fields) headers.append(name, latin(value));
  return headers;
}

const latin = (value) => String.fromCharCode(...value);

export class Request extends Body {
  #source;
  #headers;
  #body;
  #url;
  #info;

  constructor(method, target, source) {
    super();
    this.method = method;
    this.target = target;
    this.#source = source;
  }

  get url() {
    return (this.#url ??= `${this.#source.scheme()}://${this.#source.authority() ?? 'localhost'}${this.target}`);
  }

  get headers() {
    return (this.#headers ??= headersOf(this.#source.headers()));
  }

  get _bytes() {
    return (this.#body ??= this.#source.body());
  }

  async json() {
    const text = await this.text();
    try {
      return JSON.parse(text);
    } catch (error) {
      malformed.add(error);
      throw error;
    }
  }

  #information() {
    return (this.#info ??= information(this.#source.info()));
  }

  get peer() {
    return this.#information().peer;
  }

  get tls() {
    return this.#information().tls ?? null;
  }

  // Reads what a handler that goes on later may ask for.
  static keep(request) {
    request.url, request.headers, request._bytes, request.#information();
    request.#source = undefined;
  }
}

export const { keep } = Request;
delete Request.keep;

export class Response extends Body {
  #body;
  #path;

  constructor(body, { status = 200, statusText = '', headers } = {}) {
    super();
    this.status = status;
    this.statusText = statusText;
    this.headers = new Headers(headers);
    if (body instanceof URLSearchParams) {
      this.#default('application/x-www-form-urlencoded;charset=UTF-8');
      body = String(body);
    }
    if (typeof body === 'string') this.#default('text/plain;charset=UTF-8');
    this.#body = body == null ? new Uint8Array() : bytes(body);
  }

  static json(value, init) {
    const response = new Response(encoder.encode(JSON.stringify(value)), init);
    response.#default('application/json');
    return response;
  }

  static redirect(url, status = 302) {
    return new Response(null, { status, headers: { location: String(url) } });
  }

  static file(path, init) {
    const response = new Response(null, init);
    response.#path = path;
    return response;
  }

  #default(type) {
    if (!this.headers.has('content-type')) this.headers.set('content-type', type);
  }

  get ok() {
    return this.status >= 200 && this.status < 300;
  }

  get _bytes() {
    return this.#body;
  }

  static wire(response) {
    let body = { tag: 'empty' };
    if (response.#path !== undefined) body = { tag: 'path', val: response.#path };
    else if (response.#body.length) body = { tag: 'bytes', val: response.#body };
    return { status: response.status, headers: fieldsOf(response.headers), body, trailers: [] };
  }
}

export const { wire: responseWire } = Response;
delete Response.wire;

export const fieldsOf = (headers) =>
  [...new Headers(headers)].map(([name, value]) => [name, latinBytes(value)]);

const latinBytes = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));

let site;
let fallback;
const deferred = new Set();

export function serve(handler) {
  site = handler;
}

// Answers requests while there is no other handler.
export function withoutSite(handler) {
  fallback = handler;
}

function answer(response) {
  if (!(response instanceof Response)) throw new TypeError(`the handler returned no Response, but ${response}`);
  return responseWire(response);
}

function failure(error) {
  if (malformed.has(error)) {
    return responseWire(new Response(`the body is not JSON: ${error.message}\n`, { status: 400 }));
  }
  report('the handler of a request', error);
  return responseWire(new Response('Internal Server Error\n', { status: 500 }));
}

function respond(number, response) {
  if (!deferred.has(number)) return;
  try {
    http.respond(BigInt(number), response);
    deferred.delete(number);
  } catch (error) {
    // The event that defers the request is still going on, or its client left.
    if (error?.payload?.code !== 'invalid-state') throw error;
    addTimer(() => deferred.delete(number) && tryTo(() => http.respond(BigInt(number), response)), 0, [], false);
  }
}

function tryTo(call) {
  try {
    call();
  } catch {
    // The client has left.
  }
}

// Answers at once if promises alone lead to the response, and otherwise later.
async function later(request, promise) {
  let response;
  const settled = promise.then(answer).catch(failure).then((it) => (response = it));
  for (let turn = 0; turn < TURNS && !response; turn += 1) await null;
  if (response) return { tag: 'respond', val: response };
  keep(request);
  const number = token();
  deferred.add(number);
  settled.then((it) => respond(number, it));
  return { tag: 'defer', val: BigInt(number) };
}

export const httpHandler = {
  handle(method, target, source) {
    const name = method.tag === 'other' ? method.val : method.tag.toUpperCase();
    const request = new Request(name, target, source);
    try {
      const answering = site ?? fallback;
      if (!answering) throw new TypeError('no handler: call `serve` of netwasm');
      const result = answering(request);
      if (typeof result?.then === 'function') return later(request, result);
      return { tag: 'respond', val: answer(result) };
    } catch (error) {
      return { tag: 'respond', val: failure(error) };
    }
  },
};

export const responseHandler = {
  writable() {},
  abandoned(number) {
    deferred.delete(Number(number));
  },
};

Object.assign(globalThis, { Request, Response });
