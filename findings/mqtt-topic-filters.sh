#!/usr/bin/env bash
# aiomqtt 2.5.1 and paho-mqtt 2.2.0 (PyPI), mqtt-pattern 2.1.1 and mqtt-match 3.0.0 (npm), beside
# the broker aedes 1.2.0 with mqtt 5.16.0 as its client (npm).
#
# Question: do the functions by which a client finds the handler of a message agree with the
# broker on the topics that a filter matches?
# Guess: yes. MQTT has these few rules with examples: a level may be empty and `+` matches it
# (4.7.1.3), `a/#` matches `a`, too (4.7.1.2), and a filter that begins with a wildcard does
# not match a topic that begins with `$` (4.7.2).
# Seen: paho-mqtt's function does. aiomqtt, mqtt-pattern and mqtt-match let `#` and `+/uptime`
# match `$SYS/uptime`, and for mqtt-pattern `+` matches no empty level.
# Why it matters: a program subscribes to `#` and to `$SYS/#` and sorts by the first filter
# that matches. It then takes the broker's figures for its devices' messages. And a message
# to `door/` arrives, since the broker has sent it, and no handler gets it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install aiomqtt==2.5.1 paho-mqtt==2.2.0
npm init -y >/dev/null
npm install --silent --no-fund --no-audit mqtt-pattern@2.1.1 mqtt-match@3.0.0 aedes@1.2.0 \
    mqtt@5.16.0
cat >cases.json <<'JSON'
[["door/#", "door"], ["door/+", "door/"], ["+/uptime", "/uptime"], ["+/uptime", "$SYS/uptime"],
 ["#", "$SYS/uptime"], ["$SYS/#", "$SYS/uptime"]]
JSON
cat >ask.py <<'PYTHON'
import json

from aiomqtt import Topic
from paho.mqtt.client import topic_matches_sub

with open("cases.json") as file:
    cases = json.load(file)
for name, matches in {
    "paho-mqtt": topic_matches_sub,
    "aiomqtt": lambda pattern, topic: Topic(topic).matches(pattern),
}.items():
    print(f"{name}:", *("yes" if matches(*case) else "no" for case in cases))
PYTHON
cat >ask.js <<'JAVASCRIPT'
const net = require('node:net');
const { Aedes } = require('aedes');
const mqtt = require('mqtt');
const cases = require('./cases.json');

const shown = (name, answers) => {
  console.log(`${name}:`, ...answers.map((it) => (it ? 'yes' : 'no')));
};

// True if a subscriber gets the message before the one that ends its wait.
const delivered = async (broker, port, filter, topic) => {
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`);
  await client.subscribeAsync([filter, 'end']);
  const seen = [];
  const ended = new Promise((resolve) => {
    client.on('message', (name) => (name === 'end' ? resolve() : seen.push(name)));
  });
  for (const name of [topic, 'end']) {
    await new Promise((resolve) => broker.publish({ topic: name, payload: 'x', qos: 0 }, resolve));
  }
  await ended;
  await client.endAsync();
  return seen.includes(topic);
};

(async () => {
  const broker = await Aedes.createBroker();
  const server = net.createServer(broker.handle);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const answers = [];
  for (const [filter, topic] of cases) {
    answers.push(await delivered(broker, server.address().port, filter, topic));
  }
  shown('aedes', answers);
  const pattern = require('mqtt-pattern');
  shown('mqtt-pattern', cases.map(([filter, topic]) => pattern.matches(filter, topic)));
  const { default: match = require('mqtt-match') } = await import('mqtt-match');
  shown('mqtt-match', cases.map(([filter, topic]) => match(filter, topic)));
  process.exit();
})();
JAVASCRIPT
{ timeout -v 60 node ask.js && venv/bin/python ask.py; } | tee seen
diff seen - <<'SEEN'
aedes: yes yes yes no no yes
mqtt-pattern: yes no no yes yes yes
mqtt-match: yes yes yes yes yes yes
paho-mqtt: yes yes yes no no yes
aiomqtt: yes yes yes yes yes yes
SEEN
