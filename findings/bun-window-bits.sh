#!/usr/bin/env bash
# Bun 1.4.5, beside ws 8.23.0 (both npm).
#
# Question: what does a server with compression make of a client that asks for a small
# window (`permessage-deflate; server_max_window_bits=9`)?
# Guess: it compresses with that window, as zlib can, or with a smaller one. ws does.
# Seen: with `perMessageDeflate: true`, and with "shared" likewise, Bun accepts the
# connection without the extension, for each window below 15. With "dedicated" it takes
# what is asked, and with "4KB" it uses 9, even where 15 is asked.
# Why it matters: a server may decline (RFC 7692, 7.1.2.1), and nothing fails or tells of
# it: a client that asks for a small window, to save memory, gets each message in full.
# Only a second offer without the parameter (RFC 7692, 5.2, has such lists) avoids that.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit bun@1.4.5 ws@8.23.0
cat >serve.js <<'JAVASCRIPT'
// Says a name and a port for each way to compress, and ends with standard input.
const ways = [true, 'shared', 'dedicated', '4KB'].map((compress) => {
  const { port } = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch: (request, server) => (server.upgrade(request) ? undefined : new Response('no')),
    websocket: {
      perMessageDeflate: compress === true || { compress, decompress: true },
      message() {},
    },
  });
  return [`Bun, ${compress}`, port];
});
console.log(JSON.stringify(ways));
process.stdin.on('end', () => process.exit()).resume();
JAVASCRIPT
cat >ask.js <<'JAVASCRIPT'
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const { WebSocket, WebSocketServer } = require('ws');

// The window that the server's answer names, or which holds if it names none.
async function window(port, serverMaxWindowBits) {
  const perMessageDeflate = { serverMaxWindowBits };
  const client = new WebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate });
  const [answer] = await once(client, 'upgrade');
  client.on('error', () => {}).terminate();
  const extension = answer.headers['sec-websocket-extensions'];
  return extension ? Number(/server_max_window_bits=(\d+)/.exec(extension)?.[1] ?? 15) : 'none';
}

async function main() {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: true });
  await once(server, 'listening');
  const bun = spawn('node_modules/.bin/bun', ['serve.js'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [ways] = await once(bun.stdout, 'data');
  for (const [name, port] of [['ws, true', server.address().port], ...JSON.parse(ways)]) {
    const told = [];
    for (const asked of [9, 14, 15]) told.push(`${asked} -> ${await window(port, asked)}`);
    console.log(`${name}: ${told.join(', ')}`);
  }
  bun.stdin.end();
  await once(bun, 'exit');
  process.exit();
}

main();
JAVASCRIPT
timeout -v 120 node ask.js | tee seen
diff seen - <<'SEEN'
ws, true: 9 -> 9, 14 -> 14, 15 -> 15
Bun, true: 9 -> none, 14 -> none, 15 -> 15
Bun, shared: 9 -> none, 14 -> none, 15 -> 15
Bun, dedicated: 9 -> 9, 14 -> 14, 15 -> 15
Bun, 4KB: 9 -> 9, 14 -> 9, 15 -> 9
SEEN
