#!/usr/bin/env bash
# http-proxy-3 1.23.3, express-http-proxy 2.1.2 with express 5.3.0, httpxy 0.5.6, Hono 4.13.19
# with @hono/node-server 2.1.9, @fastify/http-proxy 11.6.3 with fastify 5.12.8, h3 2.0.8 (npm):
# reverse proxies.
#
# Question: what does a client get whose proxy loses its server in the middle of a response?
# Guess: the same half, and the end of the connection, so that it sees at once that the rest is
# missing. A proxy has to tell so (RFC 9112, 8), and pipes of streams hand errors on.
# Seen: httpxy, fastify's, Hono's and h3's do so. http-proxy-3 and express-http-proxy forget the
# client: nothing more comes, and the connection stays open, whether the server closed or reset
# its own, and whether chunks or a length frame the body. An `error` event tells of the reset
# alone, and at http-proxy-3 alone.
# Why it matters: a server that restarts leaves clients waiting for a time limit of their own,
# and the proxy with a socket for each. With http-proxy-3, a program can take the server's
# response from `proxyRes`, and destroy the client's when that one is `aborted`.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit http-proxy-3@1.23.3 express-http-proxy@2.1.2 \
    express@5.3.0 httpxy@0.5.6 @fastify/http-proxy@11.6.3 fastify@5.12.8 hono@4.13.19 \
    @hono/node-server@2.1.9 h3@2.0.8
cat >ask.js <<'JAVASCRIPT'
const http = require('node:http');
const net = require('node:net');

const STATUS = 'HTTP/1.1 200 OK\r\n';
const CHUNKS = `${STATUS}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n`;
const LENGTH = `${STATUS}Content-Length: 8\r\n\r\nhalf`;
const later = (act) => () => setTimeout(act, 200);
const WAYS = {
  'chunks, closed': (peer) => peer.write(CHUNKS, later(() => peer.end())),
  'chunks, reset': (peer) => peer.write(CHUNKS, later(() => peer.resetAndDestroy())),
  'length, closed': (peer) => peer.write(LENGTH, later(() => peer.end())),
};
const errors = [];

const proxies = {
  'http-proxy-3': (target) => {
    const proxy = require('http-proxy-3').createProxyServer({ target });
    proxy.on('error', (error) => errors.push(error.code));
    return http.createServer((request, response) => proxy.web(request, response));
  },
  'express-http-proxy': (target) => {
    const proxyErrorHandler = (error, response, next) => {
      errors.push(error.code);
      next(error);
    };
    const proxy = require('express-http-proxy')(target, { proxyErrorHandler });
    return http.createServer(require('express')().use(proxy));
  },
  httpxy: async (target) => {
    const { createProxyServer } = await import('httpxy');
    const proxy = createProxyServer({ target });
    return http.createServer((request, response) => proxy.web(request, response).catch(() => {}));
  },
  '@fastify/http-proxy': async (upstream) => {
    const app = require('fastify')();
    await app.register(require('@fastify/http-proxy'), { upstream });
    await app.ready();
    return app.server;
  },
  hono: (target) => {
    const { getRequestListener } = require('@hono/node-server');
    const { Hono } = require('hono');
    const { proxy } = require('hono/proxy');
    const app = new Hono().get('/', () => proxy(`${target}/`));
    return http.createServer(getRequestListener(app.fetch));
  },
  h3: async (target) => {
    const { H3, proxyRequest, toNodeHandler } = await import('h3');
    const app = new H3().get('/', (event) => proxyRequest(event, `${target}/`));
    return http.createServer(toNodeHandler(app));
  },
};

const listen = (server) => new Promise((resolve) => {
  server.listen(0, '127.0.0.1', () => resolve(server.address().port));
});

// What a client has received when its connection ends, or after 4 s.
const ask = (port) => new Promise((resolve) => {
  const client = net.connect(port, '127.0.0.1');
  let received = '';
  const finish = (end) => {
    client.destroy();
    const whole = received.endsWith('0\r\n\r\n') ? 'whole' : 'half';
    resolve(`${received.includes('half') ? whole : 'no'} body, ${end}`);
  };
  const limit = setTimeout(() => finish('and the connection is still open'), 4000);
  const close = () => {
    clearTimeout(limit);
    finish('and the connection is closed');
  };
  client.on('data', (data) => {
    received += data;
  });
  client.once('end', close).once('error', close);
  client.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
});

(async () => {
  for (const [way, answer] of Object.entries(WAYS)) {
    console.log(way);
    for (const [name, make] of Object.entries(proxies)) {
      const server = net.createServer((peer) => {
        peer.on('error', () => {}).once('data', () => answer(peer));
      });
      const proxy = await make(`http://127.0.0.1:${await listen(server)}`);
      errors.length = 0;
      const seen = await ask(await listen(proxy));
      console.log(`  ${name}: ${[seen, ...errors].join(', ')}`);
    }
  }
  process.exit();
})();
JAVASCRIPT
timeout -v 200 node ask.js 2>log | tee seen
diff seen - <<'SEEN'
chunks, closed
  http-proxy-3: half body, and the connection is still open
  express-http-proxy: half body, and the connection is still open
  httpxy: half body, and the connection is closed
  @fastify/http-proxy: half body, and the connection is closed
  hono: half body, and the connection is closed
  h3: half body, and the connection is closed
chunks, reset
  http-proxy-3: half body, and the connection is still open, ECONNRESET
  express-http-proxy: half body, and the connection is still open
  httpxy: half body, and the connection is closed
  @fastify/http-proxy: half body, and the connection is closed
  hono: half body, and the connection is closed
  h3: half body, and the connection is closed
length, closed
  http-proxy-3: half body, and the connection is still open
  express-http-proxy: half body, and the connection is still open
  httpxy: half body, and the connection is closed
  @fastify/http-proxy: half body, and the connection is closed
  hono: half body, and the connection is closed
  h3: half body, and the connection is closed
SEEN
