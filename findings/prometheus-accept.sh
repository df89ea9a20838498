#!/usr/bin/env bash
# prometheus-client 0.26.0 (PyPI), the choice of a format for a scrape.
#
# Question: which format does it send to a server that ranks several in Accept?
# Guess: the one with the highest q, as RFC 9110 (12.4.2) has it, and as Prometheus needs
# it to: from its setting `scrape_protocols`, a list in order of preference, it makes an
# Accept field with a falling q for each.
# Seen: q is not looked at. OpenMetrics is sent wherever it is named, also as the lower of
# two, and also with q=0, by which a client says that it does not take it.
# Why it matters: the formats differ in more than looks (names of counters, `_created`
# series, `# EOF`), so that who asks for the older text first gets other series. A proxy
# or cache that sets Accept has to leave the other format out, not to rank it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install prometheus-client==0.26.0
"$dir/venv/bin/python" - <<'PYTHON' | tee "$dir/seen"
import urllib.request

from prometheus_client import CollectorRegistry, Counter, start_http_server

registry = CollectorRegistry()
Counter("hits", "Requests.", registry=registry).inc()
server, thread = start_http_server(0, "127.0.0.1", registry=registry)
url = "http://127.0.0.1:%d/metrics" % server.server_port
TEXT = "text/plain;version=0.0.4"
OPEN = "application/openmetrics-text;version=1.0.0"
for accept in (
    TEXT,
    "%s;q=0.9,%s;q=0.5" % (TEXT, OPEN),
    "%s,%s;q=0" % (TEXT, OPEN),
):
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as response:
        print(accept)
        print("  ->", response.headers.get_content_type())
server.shutdown()
PYTHON
diff "$dir/seen" - <<'SEEN'
text/plain;version=0.0.4
  -> text/plain
text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.5
  -> application/openmetrics-text
text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0
  -> application/openmetrics-text
SEEN
