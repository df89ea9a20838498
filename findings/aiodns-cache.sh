#!/usr/bin/env bash
# aiodns 4.0.4 with pycares 5.2.1 (PyPI), beside Node.js' dns.Resolver; both are c-ares.
#
# Question: do three queries for one name, one after the other, reach the name server?
# Guess: yes. A stub resolver asks whom it was told to ask, unless a cache was asked for,
# and neither aiodns nor Node.js has an option for one.
# Seen: of aiodns' queries the first alone is sent. The resolver keeps the answer for as
# long as its TTL says, which counts down meanwhile. Node.js asks three times.
# Why it matters: a name server that answers in turn (192.0.2.1, then .2) to spread load,
# or takes a dead host out, does not reach a client that keeps one resolver, and a test
# that counts the queries of its own name server counts too few.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install --only-binary :all: \
    aiodns==4.0.4 pycares==5.2.1 dnspython==2.9.2
timeout -v 120 "$dir/venv/bin/python" - <<'PYTHON' | tee "$dir/seen"
import asyncio
import socket
import subprocess
import threading

import aiodns
import dns.message
import dns.rrset

SCRIPT = """
const { Resolver } = require('node:dns').promises;
const resolver = new Resolver();
resolver.setServers([process.argv[1]]);
(async () => {
  for (let count = 0; count < 3; count += 1) {
    console.log('Node.js got', ...await resolver.resolve4('www.example'));
  }
})();
"""


class Server:
    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.name = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.queries = 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            data, peer = self.socket.recvfrom(4096)
            self.queries += 1
            response = dns.message.make_response(dns.message.from_wire(data))
            owner = response.question[0].name
            address = "192.0.2.%d" % self.queries
            response.answer.append(dns.rrset.from_text(owner, 300, "IN", "A", address))
            self.socket.sendto(response.to_wire(), peer)


async def ask(server):
    resolver = aiodns.DNSResolver(nameservers=[server.name])
    for _ in range(3):
        result = await resolver.query_dns("www.example", "A")
        print("aiodns got", *(record.data.addr for record in result.answer))
        await asyncio.sleep(0.1)


server = Server()
asyncio.run(ask(server))
print("queries:", server.queries)
server = Server()
answers = subprocess.run(
    ["node", "-e", SCRIPT, server.name], check=True, text=True, stdout=subprocess.PIPE
)
print(answers.stdout + "queries:", server.queries)
PYTHON
diff "$dir/seen" - <<'SEEN'
aiodns got 192.0.2.1
aiodns got 192.0.2.1
aiodns got 192.0.2.1
queries: 1
Node.js got 192.0.2.1
Node.js got 192.0.2.2
Node.js got 192.0.2.3
queries: 3
SEEN
