#!/usr/bin/env bash
# syslog-rfc5424-parser 0.3.2 (PyPI), glossy 0.1.7 and nsyslog-parser 0.10.1 (npm).
#
# Question: what do parsers make of structured data in which a parameter comes twice, and
# of one whose value has escapes?
# Guess: both values are kept, and the escapes undone. RFC 5424 lets a name come twice
# (6.3.3) and uses just this for a host of two addresses (7.2.1); `\"`, `\\` and `\]` are
# the only escapes it has.
# Seen: two parsers keep the last value alone. The third does not split the element into
# parameters but cuts the message at its first blank: no structured data, and the rest of
# it in the text. The one for Python hands values out with their backslashes.
# Why it matters: a server that logs to syslog should give each parameter a name of its
# own and keep quotes, backslashes and brackets out of values, or half of the readers
# see something else.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install syslog-rfc5424-parser==0.3.2
npm init -y >/dev/null
npm install --silent --no-fund --no-audit glossy@0.1.7 nsyslog-parser@0.10.1
cat >twice <<'LOG'
<165>1 2003-10-11T22:14:15.003Z host app 1 ID47 [origin ip="192.0.2.1" ip="192.0.2.129"] text
LOG
cat >escaped <<'LOG'
<165>1 2003-10-11T22:14:15.003Z host app 1 ID47 [a@32473 path="\"c:\\x[1\]\""] text
LOG
cat >ask.py <<'PYTHON'
from syslog_rfc5424_parser import SyslogMessage

for name in ("twice", "escaped"):
    with open(name) as line:
        message = SyslogMessage.parse(line.read().rstrip("\n"))
    (parameters,) = message.sd.values()
    print("syslog-rfc5424-parser:", name, *parameters.values())
PYTHON
cat >ask.js <<'JS'
const { readFileSync } = require('node:fs');
const glossy = require('glossy');
const nsyslog = require('nsyslog-parser');

for (const name of ['twice', 'escaped']) {
  const line = readFileSync(name, 'utf8').trimEnd();
  const [parameters] = Object.values(glossy.Parse.parse(line).structuredData);
  console.log('glossy:', name, ...Object.values(parameters));
}
const { structuredData, message } = nsyslog(readFileSync('twice', 'utf8').trimEnd());
console.log('nsyslog-parser: twice', structuredData, message);
JS
{ venv/bin/python ask.py && node ask.js; } | tee seen
diff seen - <<'SEEN'
syslog-rfc5424-parser: twice 192.0.2.129
syslog-rfc5424-parser: escaped \"c:\\x[1\]\"
glossy: twice 192.0.2.129
glossy: escaped "c:\x[1]"
nsyslog-parser: twice [] ip="192.0.2.1" ip="192.0.2.129"] text
SEEN
