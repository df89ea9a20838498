/**
 * Handlers of netwasm's events in JavaScript and TypeScript.
 *
 * A component calls one of `listen`, `listenDatagram` and `serve` when it is
 * loaded. The host owns the sockets, so that these take no addresses: `netwasm
 * run` does. Promises, `async` and timers work as they do anywhere, and nothing
 * may block. Every time is in milliseconds.
 */
declare module 'netwasm' {
  /** What can be sent: text goes as UTF-8. */
  export type Data = string | Uint8Array | ArrayBuffer | ArrayBufferView;

  export interface Address {
    readonly hostname: string;
    readonly port: number;
  }

  /** One end of a connection: an address, or the path of a Unix socket. */
  export type End = Address | { readonly path?: string };

  export interface TlsInfo {
    /** `TLSv1.3` or `TLSv1.2`. */
    readonly version: string;
    readonly cipher: string;
    readonly alpn?: string;
    readonly serverName?: string;
    /** DER: the peer's own first, then those that sign it. */
    readonly peerCertificates: Uint8Array[];
  }

  /** An error of the host. */
  export class NetworkError extends Error {
    /** The word of node: `ECONNREFUSED`, `ENOTFOUND`, `ETIMEDOUT`. */
    readonly code: string;
    /** The word of the host: `connection-refused`, `name-unresolvable`. */
    readonly kind: string;
    /** The operation that failed: `connect`, `resolve`, `receive`. */
    readonly during: string;
  }

  /** A connection: TCP, TLS, or a Unix socket. */
  export class Connection implements AsyncIterable<Uint8Array> {
    /**
     * Sends bytes. Returns a promise if there is no room for more: it resolves
     * when there is, or when the connection is lost. `await` suits either.
     */
    write(data: Data): Promise<void> | undefined;
    /** Sends several pieces by one call. */
    writev(list: Data[]): Promise<void> | undefined;
    /**
     * Returns what arrived next; `null` at the end. For connections whose handler
     * is a function, and those of `connect`.
     */
    read(): Promise<Uint8Array | null>;
    [Symbol.asyncIterator](): AsyncIterator<Uint8Array>;
    /** Reads lines as text, without their ends. */
    lines(options?: { limit?: number }): AsyncGenerator<string, void>;
    /** Ends the sending side once all is sent; the other side stays open. */
    end(): void;
    /** Closes once all is sent. */
    close(): void;
    /** Ends at once, by a reset. */
    abort(): void;
    readonly closing: boolean;
    pause(): void;
    resume(): void;
    /** The number of bytes that wait to be sent. */
    readonly buffered: number;
    /** There is room while fewer than `high` bytes wait, and again at `low`. */
    setWriteBufferLimits(high: number, low?: number): void;
    /** Loses the connection when nothing has moved for so long. */
    setIdleTimeout(milliseconds: number | null): void;
    /**
     * Sends a file of `--dir` by sendfile(2), after what was written before.
     * Resolves to its length once there is room for more.
     */
    sendFile(path: string, part?: { offset?: number; length?: number }): Promise<number>;
    /** Copies all that arrives here to another connection, inside the host. */
    relay(to: Connection): void;
    /** Continues in TLS. `received` is what came after the last plain byte. */
    startTls(options?: TlsOptions & { server?: boolean; received?: Data }): Promise<void>;
    readonly peer: End;
    readonly local: End;
    /** The TLS session, if there is one. */
    readonly tls: TlsInfo | null;
    /** Whatever a handler keeps of the connection. */
    data?: any;
  }

  /** Callbacks of connections. One that throws loses its connection. */
  export interface ConnectionHandler {
    open?(conn: Connection): void;
    data?(conn: Connection, data: Uint8Array): void;
    /** The peer ended its sending side. Return true to keep sending. */
    end?(conn: Connection): boolean | void;
    /** There is room again, after `write` returned a promise. */
    drain?(conn: Connection): void;
    /** It is lost; without an error if either side closed it. */
    close?(conn: Connection, error?: NetworkError): void;
  }

  /**
   * Handles the connections of `--tcp` and `--tls`: by callbacks, or by a
   * function for each. When its promise resolves, the connection is closed;
   * when it rejects, it is aborted.
   */
  export function listen(handler: ConnectionHandler | ((conn: Connection) => unknown)): void;

  export interface TlsOptions {
    /** The name of the server's certificate, unless it is that of the endpoint. */
    serverName?: string;
    alpn?: string[];
  }

  export interface ConnectOptions {
    tls?: boolean | TlsOptions;
    /** For resolving, connecting and TLS together: 30 s unless set. */
    timeout?: number;
    localAddress?: string;
    signal?: AbortSignal;
    /** Callbacks, if the connection is not to be read by `await`. */
    handler?: ConnectionHandler;
  }

  /**
   * Opens a connection (`--allow-connect`), or one to a server of the group that
   * `--upstream` names: of the options, that has `timeout`, `signal` and `handler`.
   */
  export function connect(
    to: { hostname: string; port: number } | { path: string } | { upstream: string },
    options?: ConnectOptions,
  ): Promise<Connection>;

  /** Resolves a name to addresses (`--allow-resolve`, `--allow-connect`). */
  export function lookup(name: string): Promise<string[]>;

  /** A socket of `--udp`. */
  export class DatagramSocket implements AsyncIterable<[Uint8Array, Address]> {
    /** Sends to a peer who has sent something, or whom `--allow-udp` allows. */
    send(data: Data, to: Address): void;
    [Symbol.asyncIterator](): AsyncIterator<[Uint8Array, Address]>;
    close(): void;
    readonly local: Address | undefined;
  }

  export interface DatagramHandler {
    open?(socket: DatagramSocket): void;
    message?(socket: DatagramSocket, data: Uint8Array, peer: Address): void;
    /** An earlier datagram could not be delivered. */
    error?(socket: DatagramSocket, error: NetworkError, peer?: Address): void;
    close?(socket: DatagramSocket, error?: NetworkError): void;
  }

  /** Handles the datagrams of `--udp`. */
  export function listenDatagram(
    handler: DatagramHandler | ((socket: DatagramSocket) => unknown),
  ): void;

  /** A request, like that of fetch. */
  export class Request {
    readonly method: string;
    readonly url: string;
    /** The path and query as the client sent them. */
    readonly target: string;
    readonly headers: Headers;
    bytes(): Promise<Uint8Array>;
    arrayBuffer(): Promise<ArrayBuffer>;
    text(): Promise<string>;
    /** Rejects if the body is not JSON. A handler that lets that pass answers 400. */
    json(): Promise<any>;
    readonly peer: End;
    readonly tls: TlsInfo | null;
  }

  export interface ResponseInit {
    status?: number;
    statusText?: string;
    headers?: Headers | Record<string, string> | [string, string][];
  }

  /** A response, like that of fetch. */
  export class Response {
    constructor(body?: Data | URLSearchParams | null, init?: ResponseInit);
    static json(value: unknown, init?: ResponseInit): Response;
    static redirect(url: string | URL, status?: number): Response;
    /** A file of `--dir` by sendfile(2): with types, conditions and ranges. */
    static file(path: string, init?: ResponseInit): Response;
    readonly status: number;
    readonly statusText: string;
    readonly ok: boolean;
    readonly headers: Headers;
    bytes(): Promise<Uint8Array>;
    arrayBuffer(): Promise<ArrayBuffer>;
    text(): Promise<string>;
    json(): Promise<any>;
  }

  /** Answers the requests of `--http` and `--https`. */
  export function serve(handler: (request: Request) => Response | Promise<Response>): void;

  /**
   * State that all instances of the service share, on all threads: rate limits, and
   * small values that expire. So neither needs `--isolation worker`. It survives a
   * reload, and ends with the host's process; `--max-shared` bounds it. Keys are 256
   * bytes at most. A value without a `ttl` stays.
   */
  export namespace shared {
    /** A value, and the number that each change of it makes another one. */
    interface Value {
      readonly data: Uint8Array;
      readonly version: bigint;
      text(): string;
    }

    /**
     * Takes tokens from the bucket of a key, or none if there are too few. It is full
     * at first, holds `burst`, and gains `rate` a second. `wait` is the time until as
     * many are there as were asked for.
     */
    function take(
      key: Data,
      limit: { rate: number; burst: number; count?: number },
    ): { taken: boolean; left: number; wait: number };
    function get(key: Data): Value | null;
    /** Sets a value of 64 KiB at most, and returns its version. */
    function set(key: Data, data: Data, ttl?: number): bigint;
    /**
     * Sets a value if the one that is there has this version; with `null`, if there
     * is none. Returns the new version; `null` if another instance was faster.
     */
    function compareAndSwap(
      key: Data,
      version: bigint | null,
      data: Data,
      ttl?: number,
    ): bigint | null;
    /**
     * Adds to a counter, and returns the sum. A new one begins at 0 and expires after
     * `ttl`; that of one that is there stays, unless the number is negative.
     */
    function add(key: Data, more?: number | bigint, ttl?: number): number;
    /** Lets a value expire after `ttl` from now. Returns false if there is none. */
    function touch(key: Data, ttl?: number): boolean;
    /** Removes a value; with a version, if it has that one. Returns true if it did. */
    function remove(key: Data, version?: bigint): boolean;
  }

  /** What describes a metric: labels are for what has few values. */
  export interface MetricOptions {
    help?: string;
    labels?: Record<string, string>;
  }

  /**
   * A number that only grows, in `/metrics` of `--admin`: all instances of the service
   * count together. `new Counter('lines')` is `netwasm_guest_lines_total` there. A
   * metric that the host refuses counts nothing, and the log says why.
   */
  export class Counter {
    constructor(name: string, options?: MetricOptions);
    add(more?: number | bigint): void;
  }

  /** A number that goes up and down; 0 at first. */
  export class Gauge {
    constructor(name: string, options?: MetricOptions);
    set(value: number): void;
    change(by: number): void;
  }

  /** Numbers of observed values, by size: 1 to 32 bounds, each larger than the one before. */
  export class Histogram {
    constructor(name: string, bounds: number[], options?: MetricOptions);
    observe(value: number): void;
  }

  export function sleep(milliseconds: number): Promise<void>;

  /** Calls back when the host shuts down, with the time that is left. */
  export function onShutdown(callback: (milliseconds: number | null) => void): void;
}

/**
 * WebSocket connections, for components of the kind `websocket`: whole messages. The
 * host does frames, compression, pings and the fan-out of topics. Other requests go to
 * `serve` of `netwasm`, if that is called.
 */
declare module 'netwasm/websocket' {
  import type { Data, End, Request, Response, TlsInfo } from 'netwasm';

  /** How a connection ended: 1000 is a normal end, 1006 one without a close frame. */
  export interface Closed {
    readonly code: number;
    readonly reason: string;
  }

  /** A connection, to a client or to a server: text comes as a string. */
  export class WebSocket implements AsyncIterable<string | Uint8Array> {
    /** The request that has opened it; `null` if this host has asked for it. */
    readonly request: Request | null;
    /** The protocol that was chosen, or ''. */
    readonly protocol: string;
    /** Headers of the server's answer, if this host has asked for the connection. */
    readonly headers: Headers;
    /**
     * Sends a message: a string as text, anything else as bytes. Returns a promise if
     * there is no room for more: it resolves when there is, or at the end.
     */
    send(message: Data): Promise<void> | undefined;
    /** Returns the next message; `null` at the end. */
    receive(): Promise<string | Uint8Array | null>;
    [Symbol.asyncIterator](): AsyncIterator<string | Uint8Array>;
    /** Closes once all is sent. Resolves when the peer has agreed, or has left. */
    close(code?: number, reason?: string): Promise<Closed>;
    readonly closing: boolean;
    /** How it has ended; `null` if it has not. */
    readonly closed: Closed | null;
    /** Bytes that wait to be sent. */
    readonly buffered: number;
    readonly peer: End;
    readonly tls: TlsInfo | null;
    /** Gets what is published to a topic, until the connection ends. */
    subscribe(topic: string): void;
    unsubscribe(topic: string): void;
    /** Sends to all subscribers of a topic but this one. Returns how many there are. */
    publish(topic: string, message: Data): number;
  }

  type Fields = Headers | Record<string, string> | [string, string][];

  /** What `open` says of a request: a response refuses it. */
  export type Opening = { protocol?: string; headers?: Fields } | Response | undefined;

  /**
   * Takes connections. One whose handler returns is closed with 1000; with 1011, if it
   * throws. `open` decides first, and is not async.
   */
  export function serve(
    handler: (socket: WebSocket) => unknown,
    options?: { open?: (request: Request) => Opening },
  ): void;

  /** Sends to all subscribers of a topic, of all instances. Returns how many there are. */
  export function publish(topic: string, message: Data): number;
  export function subscribers(topic: string): number;

  /** A server's answer that opens no connection. */
  export class Refusal extends Error {
    readonly status: number;
    readonly headers: Headers;
  }

  export interface ConnectOptions {
    /** The protocols to offer, best first. */
    protocols?: string | string[];
    headers?: Fields;
    /** For `wss:`, where the certificate has another name, say. */
    tls?: { serverName?: string; authority?: string; identity?: string };
    /** Offers compression, unless `--websocket-compression` is off. */
    compress?: boolean;
    /** Limits all of it: 30 s unless given. */
    timeout?: number;
    signal?: AbortSignal;
  }

  /**
   * Opens a connection to `ws:` or `wss:`, as `--allow-connect` lets it. Fails with a
   * `Refusal`, or a `NetworkError`.
   */
  export function connect(url: string | URL, options?: ConnectOptions): Promise<WebSocket>;
}
