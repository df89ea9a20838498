#!/usr/bin/env bash
# dnspython 2.9.2 (PyPI), dns.message.make_response.
#
# Guess: the response to a query with EDNS has the query's DO bit, as RFC 3225
# (section 3) demands of servers.
# Seen: it has EDNS, with a payload size of its own, but the bit is clear: a
# server made of it looks to resolvers as if it knew nothing of DNSSEC.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install dnspython==2.9.2
"$dir/venv/bin/python" - <<'PYTHON' | tee "$dir/seen"
import dns.flags
import dns.message

query = dns.message.make_query("www.example", "A", want_dnssec=True)
response = dns.message.make_response(query)
for name, message in (("query", query), ("response", response)):
    has = bool(message.ednsflags & dns.flags.DO)
    print(name, "EDNS", message.edns, "DO", has)
PYTHON
diff "$dir/seen" - <<'SEEN'
query EDNS 0 DO True
response EDNS 0 DO False
SEEN
