"""gmqtt, against a real broker."""

import asyncio
import sys

import gmqtt


async def main():
    heard = asyncio.get_running_loop().create_future()
    connected = asyncio.Event()
    client = gmqtt.Client("netwasm")

    def on_connect(client, flags, code, properties):
        client.subscribe("greetings/#", qos=1)

    def on_subscribe(client, mid, qos, properties):
        connected.set()

    def on_message(client, topic, payload, qos, properties):
        heard.set_result((topic, payload))

    client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
    await client.connect("127.0.0.1", int(sys.argv[1]))
    await asyncio.wait_for(connected.wait(), 10)
    client.publish("greetings/world", "hello", qos=1)
    assert await asyncio.wait_for(heard, 10) == ("greetings/world", b"hello")
    await client.disconnect()
    print("gmqtt: done")


asyncio.run(main())
