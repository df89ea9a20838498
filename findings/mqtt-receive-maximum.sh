#!/usr/bin/env bash
# paho-mqtt 2.2.0 and gmqtt 0.8.0 (PyPI), mqtt 5.16.0 (npm): clients of MQTT 5.
#
# Question: how many messages of QoS 1 does a client have in flight at a server that asks,
# in its CONNACK, for no more than 3 (Receive Maximum)?
# Guess: 3, and the others wait in the client. MQTT 5 (3.3.4) forbids a client to have more
# without an acknowledgement, and a server may end the connection then, with 0x93.
# Seen: paho-mqtt and mqtt send all 6. gmqtt sends 2 and raises OverflowError for the third,
# which does not wait. All three do go by Server Keep Alive, from the very same packet.
# Why it matters: by this number a server with little room says so. It has to hold more than
# that, or to break connections over what its users cannot see in their settings.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install paho-mqtt==2.2.0 gmqtt==0.8.0
npm init -y >/dev/null
npm install --silent --no-fund --no-audit mqtt@5.16.0
cat >by_mqtt.js <<'JAVASCRIPT'
const url = `mqtt://127.0.0.1:${process.argv[2]}`;
const client = require('mqtt').connect(url, { protocolVersion: 5, keepalive: 60 });
client.on('connect', () => {
  for (let i = 0; i < 6; i += 1) client.publish('topic', 'text', { qos: 1 });
});
JAVASCRIPT
cat >by_paho.py <<'PYTHON'
import sys

from paho.mqtt import client as mqtt


def publish(client, *_):
    for _ in range(6):
        client.publish("topic", "text", qos=1)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.on_connect = publish
client.connect("127.0.0.1", int(sys.argv[1]), keepalive=60)
client.loop_forever()
PYTHON
cat >by_gmqtt.py <<'PYTHON'
import asyncio
import sys

from gmqtt import Client


async def main(port):
    client = Client("client")
    await client.connect("127.0.0.1", port, keepalive=60)
    try:
        for _ in range(6):
            client.publish("topic", "text", qos=1)
    except OverflowError:
        print("OverflowError", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(int(sys.argv[1])))
PYTHON
cat >ask.py <<'PYTHON'
import asyncio

CONNECT, PUBLISH, PINGREQ = 1, 3, 12
# Receive Maximum is 3, Server Keep Alive 1 second.
PROPERTIES = b"\x21\x00\x03" + b"\x13\x00\x01"
CONNACK = b"\x20\x09\x00\x00\x06" + PROPERTIES


async def packets(reader):
    """Gives the kind of each packet that comes; all are shorter than 128 bytes."""
    while head := await reader.read(1):
        (length,) = await reader.readexactly(1)
        await reader.readexactly(length)
        yield head[0] >> 4


async def main():
    seen = asyncio.Queue()

    async def serve(reader, writer):
        """Is as much of a server as counts messages until the client has no more to send."""
        messages = 0
        async for kind in packets(reader):
            if kind == CONNECT:
                writer.write(CONNACK)
            elif kind == PUBLISH:
                messages += 1
            elif kind == PINGREQ:
                break
        seen.put_nowait(messages)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    python = "venv/bin/python"
    for run in ([python, "by_paho.py"], [python, "by_gmqtt.py"], ["node", "by_mqtt.js"]):
        client = await asyncio.create_subprocess_exec(*run, port)
        try:
            messages = await asyncio.wait_for(seen.get(), 30)
        finally:
            client.kill()
            await client.wait()
        print(f"{run[-1]}: {messages} in flight", flush=True)


asyncio.run(main())
PYTHON
timeout -v 120 venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
by_paho.py: 6 in flight
OverflowError
by_gmqtt.py: 2 in flight
by_mqtt.js: 6 in flight
SEEN
