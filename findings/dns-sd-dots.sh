#!/usr/bin/env bash
# zeroconf 0.154.0 (PyPI) and dns-packet 5.6.1 (npm; multicast-dns and bonjour-service are
# built on it), with dnspython 2.9.2 for the other side.
#
# Question: do they announce and find a service whose instance name has a dot, `Web 2.0`?
# Guess: yes. RFC 6763 (4.1.1) has the instance be one label, in which dots are allowed,
# and shows (4.3) how to write one in a name that is a text: with a backslash before it.
# Seen: both write two labels, `Web 2` and `0`; with the backslash, too, which becomes part
# of the first. What they read as one label they give without an escape, so that the query
# for its SRV record is for another name. Two peers of this kind find each other.
# Why it matters: people name devices, "Hall (2.4 GHz)", and software that follows the RFC
# announces one label. A browser built on these lists such a service and asks for another.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install zeroconf==0.154.0 dnspython==2.9.2
npm init -y >/dev/null
npm install --silent --no-fund --no-audit dns-packet@5.6.1
cat >packet.js <<'JAVASCRIPT'
// Prints, in hexadecimal, an announcement of the name, or a query for what a message announces.
const packet = require('dns-packet');
const [what, text] = process.argv.slice(2);
const type = '_http._tcp.local';
const message = what === 'announce'
  ? { type: 'response', answers: [{ type: 'PTR', name: type, ttl: 60, data: `${text}.${type}` }] }
  : { questions: [{ type: 'SRV', name: packet.decode(Buffer.from(text, 'hex')).answers[0].data }] };
console.log(packet.encode(message).toString('hex'));
JAVASCRIPT
cat >ask.py <<'PYTHON'
import subprocess

import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.PTR import PTR
from zeroconf import DNSIncoming, DNSOutgoing, DNSPointer, DNSQuestion, const

TYPE = "_http._tcp.local."


def node(*arguments):
    told = subprocess.run(["node", "packet.js", *arguments], check=True, capture_output=True)
    return bytes.fromhex(told.stdout.decode())


def by_zeroconf(name):
    message = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    pointer = DNSPointer(TYPE, const._TYPE_PTR, const._CLASS_IN, 60, f"{name}.{TYPE}")
    message.add_answer_at_time(pointer, 0)
    return message.packets()[0]


def by_dns_packet(name):
    return node("announce", name)


def query_of_zeroconf(announced):
    message = DNSOutgoing(const._FLAGS_QR_QUERY)
    name = DNSIncoming(announced).answers()[0].alias
    message.add_question(DNSQuestion(name, const._TYPE_SRV, const._CLASS_IN))
    return message.packets()[0]


def announced(labels):
    message = dns.message.Message(id=0)
    message.flags |= dns.flags.QR | dns.flags.AA
    record = PTR(dns.rdataclass.IN, dns.rdatatype.PTR, dns.name.Name(labels))
    message.answer.append(dns.rrset.from_rdata(dns.name.from_text(TYPE), 60, record))
    return message.to_wire()


def shown(name):
    return " | ".join(label.decode() for label in name.labels[:-4])


for name in ("Web 2", "Web 2.0", "Web 2\\.0"):
    for library, write in (("zeroconf", by_zeroconf), ("dns-packet", by_dns_packet)):
        record = dns.message.from_wire(write(name)).answer[0][0]
        print(f"{library} announces {name} as: {shown(record.target)}")
for name in (b"Web 2", b"Web 2.0"):
    wire = announced([name, b"_http", b"_tcp", b"local", b""])
    for library, query in {
        "zeroconf": query_of_zeroconf(wire),
        "dns-packet": node("query", wire.hex()),
    }.items():
        question = dns.message.from_wire(query).question[0]
        print(f"{library} finds {name.decode()} and asks for: {shown(question.name)}")
PYTHON
venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
zeroconf announces Web 2 as: Web 2
dns-packet announces Web 2 as: Web 2
zeroconf announces Web 2.0 as: Web 2 | 0
dns-packet announces Web 2.0 as: Web 2 | 0
zeroconf announces Web 2\.0 as: Web 2\ | 0
dns-packet announces Web 2\.0 as: Web 2\ | 0
zeroconf finds Web 2 and asks for: Web 2
dns-packet finds Web 2 and asks for: Web 2
zeroconf finds Web 2.0 and asks for: Web 2 | 0
dns-packet finds Web 2.0 and asks for: Web 2 | 0
SEEN
