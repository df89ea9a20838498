#!/usr/bin/env bash
# cloudevents 10.0.0 (npm) and cloudevents 2.2.0 (PyPI), binary mode of HTTP.
#
# Question: does an attribute come through from one SDK to the other, if it has a space, or
# a percent sign before two digits, as a file's name or a path has?
# Guess: yes. CloudEvents' binding to HTTP (3.1.3.2) has the sender write a space, a quote
# and a percent sign as %20, %22 and %25 in its header fields, and the receiver undo it. Both
# SDKs come from the project that wrote this.
# Seen: the one for Python does so, the one for JavaScript neither as sender nor as receiver.
# Each reads what itself has sent. From Python to JavaScript, "file name" turns into
# "file%20name", and in the other direction it is the reverse. In structured mode all is well.
# Why it matters: nothing fails. Filters, keys and look-ups by subject or source miss, at one
# side alone, and a test within one language does not show it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install cloudevents==2.2.0
npm init -y >/dev/null
npm install --silent --no-fund --no-audit cloudevents@10.0.0
cat >events.js <<'JAVASCRIPT'
// Writes an event with the subject that is told, as a message, or reads one: its subject.
const { CloudEvent, HTTP } = require('cloudevents');

const [, , mode, text] = process.argv;
if (mode === 'read') {
  console.log(HTTP.toEvent(JSON.parse(text)).subject);
} else {
  const event = new CloudEvent({ id: '1', source: '/source', type: 'type', subject: text });
  const { headers, body } = HTTP[mode](event);
  console.log(JSON.stringify({ headers, body: body ?? '' }));
}
JAVASCRIPT
cat >events.py <<'PYTHON'
# Does what events.js does.
import json
import sys

from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent

mode, text = sys.argv[1:]
if mode == "read":
    told = json.loads(text)
    message = http.HTTPMessage(told["headers"], told["body"].encode())
    print(http.from_http_event(message).get_subject())
else:
    named = {"id": "1", "source": "/source", "type": "type", "specversion": "1.0"}
    write = {"binary": http.to_binary_event, "structured": http.to_structured_event}[mode]
    message = write(CloudEvent(named | {"subject": text}, None))
    print(json.dumps({"headers": message.headers, "body": message.body.decode()}))
PYTHON
sdk() {
    case $1 in
    Python) timeout -v 60 venv/bin/python events.py "$2" "$3" ;;
    *) timeout -v 60 node events.js "$2" "$3" ;;
    esac
}
for mode in structured binary; do
    for subject in 'file name' 'file%20name'; do
        echo "$mode: $subject"
        for sender in Python JavaScript; do
            message=$(sdk "$sender" "$mode" "$subject")
            for receiver in Python JavaScript; do
                echo "  $sender to $receiver: $(sdk "$receiver" read "$message")"
            done
        done
    done
done | tee seen
diff seen - <<'SEEN'
structured: file name
  Python to Python: file name
  Python to JavaScript: file name
  JavaScript to Python: file name
  JavaScript to JavaScript: file name
structured: file%20name
  Python to Python: file%20name
  Python to JavaScript: file%20name
  JavaScript to Python: file%20name
  JavaScript to JavaScript: file%20name
binary: file name
  Python to Python: file name
  Python to JavaScript: file%20name
  JavaScript to Python: file name
  JavaScript to JavaScript: file name
binary: file%20name
  Python to Python: file%20name
  Python to JavaScript: file%2520name
  JavaScript to Python: file name
  JavaScript to JavaScript: file%20name
SEEN
