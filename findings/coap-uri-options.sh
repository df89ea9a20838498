#!/usr/bin/env bash
# coap 1.5.0 and node-coap-client 2.1.0 (npm), CoAPthon3 1.0.2 and aiocoap 0.4.17 (PyPI): clients
# of CoAP; coap-packet 1.1.1 (npm) reads what they send.
#
# Question: which resource do they ask for if a segment of the URI's path has a blank or a
# slash, which are written %20 and %2F there?
# Guess: the one named `Hall 2`, and the one named `on/off`. A request of CoAP has no URI but an
# option for each segment and each part of the query; RFC 7252 (6.4) has the client undo
# percent encoding as it makes them.
# Seen: aiocoap does. The others send the three characters as they are, of `%20` in the query,
# too (there node-coap-client does undo it), and drop the empty segments at the end of a path.
# The server of coap puts the options into its `url` and encodes nothing, so that `on/off`
# reads as two segments there.
# Why it matters: with one library at both ends it goes well, as two mistakes make up for each
# other. A device with such a name, which /.well-known/core lists with its percent signs,
# answers 4.04 to these clients alone. Names of letters and digits pass everywhere.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install aiocoap==0.4.17 CoAPthon3==1.0.2
npm init -y >/dev/null
npm install --silent --no-fund --no-audit coap@1.5.0 node-coap-client@2.1.0 coap-packet@1.1.1
cat >by_aiocoap.py <<'PYTHON'
import asyncio
import sys

import aiocoap


async def main():
    context = await aiocoap.Context.create_client_context()
    for uri in sys.argv[1:]:
        await context.request(aiocoap.Message(code=aiocoap.GET, uri=uri)).response
    await context.shutdown()


asyncio.run(main())
PYTHON
cat >by_coapthon.py <<'PYTHON'
import logging
import sys

logging.disable(logging.CRITICAL)
from coapthon.client.helperclient import HelperClient
from coapthon.utils import parse_uri

for uri in sys.argv[1:]:
    host, port, path = parse_uri(uri)
    client = HelperClient(server=(host, port))
    client.get(path, timeout=20)
    client.stop()
PYTHON
cat >ask.js <<'JAVASCRIPT'
const dgram = require('node:dgram');
const { promisify } = require('node:util');
const execFile = promisify(require('node:child_process').execFile);
const coap = require('coap');
const packet = require('coap-packet');
const { CoapClient } = require('node-coap-client');

const PATHS = ['/Hall%202/on%2Foff', '/find?name=Hall%202', '/list//'];

const listen = (socket) => new Promise((resolve) => {
  socket.bind(0, '127.0.0.1', () => resolve(socket.address().port));
});

const clients = {
  aiocoap: (uris) => execFile('venv/bin/python', ['by_aiocoap.py', ...uris]),
  CoAPthon3: (uris) => execFile('venv/bin/python', ['by_coapthon.py', ...uris]),
  'node-coap-client': async (uris) => {
    for (const uri of uris) await CoapClient.request(uri, 'get');
  },
  coap: async (uris) => {
    for (const uri of uris) {
      await new Promise((resolve, reject) => {
        coap.request(uri).on('response', resolve).on('error', reject).end();
      });
    }
  },
};

// Resolves to the `url` that the server of coap makes of these segments.
const told = (segments) => new Promise((resolve) => {
  const server = coap.createServer((request, response) => {
    response.end();
    resolve(request.url);
  });
  server.listen(0, '127.0.0.1', () => {
    const options = segments.map((it) => ({ name: 'Uri-Path', value: Buffer.from(it) }));
    const request = packet.generate({ confirmable: true, code: 'GET', messageId: 1, options });
    dgram.createSocket('udp4').send(request, server._sock.address().port, '127.0.0.1');
  });
});

(async () => {
  let seen = [];
  const server = dgram.createSocket('udp4');
  server.on('message', (datagram, peer) => {
    const { options, messageId, token } = packet.parse(datagram);
    const shown = options.filter(({ name }) => name === 'Uri-Path' || name === 'Uri-Query');
    seen.push(shown.map(({ value }) => `"${value}"`).join(' '));
    const answer = packet.generate({ ack: true, code: '2.05', messageId, token });
    server.send(answer, peer.port, peer.address);
  });
  const port = await listen(server);
  for (const [name, request] of Object.entries(clients)) {
    seen = [];
    await request(PATHS.map((path) => `coap://127.0.0.1:${port}${path}`));
    console.log(`${name}: ${seen.join(', ')}`);
  }
  console.log(`a server of coap tells: ${await told(['Hall 2', 'on/off'])}`);
  process.exit();
})();
JAVASCRIPT
timeout -v 60 node ask.js | tee seen
diff seen - <<'SEEN'
aiocoap: "Hall 2" "on/off", "find" "name=Hall 2", "list" "" ""
CoAPthon3: "Hall%202" "on%2Foff", "find" "name=Hall%202", "list"
node-coap-client: "Hall%202" "on%2Foff", "find" "name=Hall 2", "list"
coap: "Hall%202" "on%2Foff", "find" "name=Hall%202", "list"
a server of coap tells: /Hall 2/on/off
SEEN
