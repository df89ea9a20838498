#!/usr/bin/env bash
# undici 6.29.1, beside undici 7.30.2 and ws 8.23.0 (all npm).
#
# Question: which events does a WebSocket fire when no connection comes about, and what is
# its `readyState` then?
# Guess: `error`, then `close` with code 1006, at readyState 3 (CLOSED), as the WHATWG's
# standard has it for each way in which a connection can fail. undici 7 and ws do that.
# Seen: undici 6 fires `error` only. No `close` follows, and readyState stays 0
# (CONNECTING): for a port on which nobody listens, for an answer with status 403, and for
# a server that hangs up. Nor does `close()` help: a second `error`, and readyState 2.
# Why it matters: this class is the global `WebSocket` of Node.js 22 (22.23.3 contains
# undici 6.28.1, which does the same). Programs connect again in `onclose`, as is usual in
# browsers. They do so when a connection breaks, and stop for good when the server is not
# back yet at their first attempt.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit ws@8.23.0 \
    undici-6.29.1@npm:undici@6.29.1 undici-7.30.2@npm:undici@7.30.2
cat >ask.js <<'JAVASCRIPT'
const { once } = require('node:events');
const http = require('node:http');
const net = require('node:net');
const { setTimeout: sleep } = require('node:timers/promises');

async function listen(server) {
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return server.address().port;
}

// Resolves to the events and the state after a failure, and then after `close()`.
async function watch(WebSocket, port) {
  let events = [];
  const client = new WebSocket(`ws://127.0.0.1:${port}/`);
  const failed = new Promise((resolve) => client.addEventListener('error', resolve));
  for (const type of ['open', 'error', 'close']) {
    client.addEventListener(type, ({ code }) => events.push(code ? `${type} ${code}` : type));
  }
  const seen = () => `${events.join(', ')} (${client.readyState})`;
  await failed;
  // Where `close` comes, it comes at once.
  await sleep(1000);
  const first = seen();
  events = ['close()'];
  client.close();
  await sleep(1000);
  return `${first}; ${seen()}`;
}

async function main() {
  const gone = net.createServer();
  const ports = {
    'nobody listens': await listen(gone),
    'status 403': await listen(http.createServer((_, answer) => answer.writeHead(403).end())),
    'hangs up': await listen(net.createServer((peer) => peer.once('data', () => peer.end()))),
  };
  await new Promise((resolve) => gone.close(resolve));
  const all = ['ws', 'undici-7.30.2', 'undici-6.29.1'].flatMap((name) =>
    Object.entries(ports).map(async ([kind, port]) =>
      `${name}: ${kind}: ${await watch(require(name).WebSocket, port)}`));
  for (const line of await Promise.all(all)) console.log(line);
  process.exit();
}

main();
JAVASCRIPT
timeout -v 120 node ask.js | tee seen
diff seen - <<'SEEN'
ws: nobody listens: error, close 1006 (3); close() (3)
ws: status 403: error, close 1006 (3); close() (3)
ws: hangs up: error, close 1006 (3); close() (3)
undici-7.30.2: nobody listens: error, close 1006 (3); close() (3)
undici-7.30.2: status 403: error, close 1006 (3); close() (3)
undici-7.30.2: hangs up: error, close 1006 (3); close() (3)
undici-6.29.1: nobody listens: error (0); close(), error (2)
undici-6.29.1: status 403: error (0); close(), error (2)
undici-6.29.1: hangs up: error (0); close(), error (2)
SEEN
