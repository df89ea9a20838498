#!/usr/bin/env bash
# undici 6.24.1, 6.29.1, 7.27.0 and 7.30.2 (npm), beside ws 8.23.0 (npm).
#
# Question: up to which size does undici's WebSocket take a message?
# Guess: one bound, if any, for the message as the program gets it, whether or not it came
# by permessage-deflate; and beyond it the server is told 1009, which RFC 6455 (7.4.1) has
# for a message that is too big.
# Seen: 6.24.1 and 7.27.0 take 4 MiB that came compressed, and not one byte more: the
# client has 1006, and so has the server of 6.24.1 (of 7.27.0: 1009). Uncompressed, the
# same server may send 16 MiB. 6.29.1 and 7.30.2 take all of these, and so does ws.
# Why it matters: 6.24.1 is the one in Node.js 20.20.2, the last of its line, and has no
# option for this. A server that turns on compression, to send less, loses these clients
# at its largest messages; and they come again, since 1006 looks like a broken line.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit ws@8.23.0 \
    undici-6.24.1@npm:undici@6.24.1 undici-6.29.1@npm:undici@6.29.1 \
    undici-7.27.0@npm:undici@7.27.0 undici-7.30.2@npm:undici@7.30.2
cat >ask.js <<'JAVASCRIPT'
const { once } = require('node:events');
const { WebSocketServer } = require('ws');

const KIB = 1024;
const MESSAGES = [
  [4096 * KIB, true],
  [4096 * KIB + 1, true],
  [16384 * KIB, false],
];

// Resolves to what the client, and then the server, see of one message.
async function ask(server, WebSocket, size, compress) {
  const accepted = once(server, 'connection');
  const client = new WebSocket(`ws://127.0.0.1:${server.address().port}/`);
  const told = new Promise((resolve) => {
    client.onerror = () => {};
    client.onmessage = ({ data }) => {
      resolve(data.length === size ? 'whole' : 'cut');
      client.close(1000);
    };
    client.onclose = ({ code }) => resolve(code);
  });
  const [peer] = await accepted;
  const closed = once(peer, 'close');
  peer.send('a'.repeat(size), { compress });
  return `${await told} (server: ${(await closed)[0]})`;
}

async function main() {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: true });
  await once(server, 'listening');
  for (const name of process.argv.slice(2)) {
    const { WebSocket } = require(name);
    console.log(name);
    for (const [size, compress] of MESSAGES) {
      const seen = await ask(server, WebSocket, size, compress);
      console.log(`  ${compress ? 'compressed' : 'plain'} ${size}: ${seen}`);
    }
  }
  process.exit();
}

main();
JAVASCRIPT
timeout -v 120 node ask.js ws undici-6.24.1 undici-7.27.0 undici-6.29.1 undici-7.30.2 | tee seen
diff seen - <<'SEEN'
ws
  compressed 4194304: whole (server: 1000)
  compressed 4194305: whole (server: 1000)
  plain 16777216: whole (server: 1000)
undici-6.24.1
  compressed 4194304: whole (server: 1000)
  compressed 4194305: 1006 (server: 1006)
  plain 16777216: whole (server: 1000)
undici-7.27.0
  compressed 4194304: whole (server: 1000)
  compressed 4194305: 1006 (server: 1009)
  plain 16777216: whole (server: 1000)
undici-6.29.1
  compressed 4194304: whole (server: 1000)
  compressed 4194305: whole (server: 1000)
  plain 16777216: whole (server: 1000)
undici-7.30.2
  compressed 4194304: whole (server: 1000)
  compressed 4194305: whole (server: 1000)
  plain 16777216: whole (server: 1000)
SEEN
