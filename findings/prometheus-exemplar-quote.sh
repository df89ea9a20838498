#!/usr/bin/env bash
# prometheus-client 0.26.0 (PyPI), OpenMetrics, beside prom-client 15.1.3 (npm).
#
# Question: does its parser read an exemplar whose label has a quote in its value?
# Guess: yes. OpenMetrics escapes a quote in label values as \", the parser undoes this in
# the labels of samples, and what the library writes itself it should read.
# Seen: one quote makes the whole page unreadable: ValueError, "Invalid line", for its own
# output as for prom-client's. An even number of quotes is read, and so are line breaks,
# backslashes and braces, and a quote in a label of the sample itself.
# Why it matters: exemplars carry ids and paths of requests. With a quote in one of them, a
# test or a tool that is built on this parser has none of the page's metrics.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install prometheus-client==0.26.0
npm init -y >/dev/null
npm install --silent --no-fund --no-audit prom-client@15.1.3
cat >page.js <<'JAVASCRIPT'
const { Counter, Registry } = require("prom-client");
const registry = new Registry(Registry.OPENMETRICS_CONTENT_TYPE);
const settings = { name: "a", help: "a", enableExemplars: true, registers: [registry] };
new Counter(settings).inc({ exemplarLabels: { id: process.argv[2] } });
registry.metrics().then((page) => process.stdout.write(page));
JAVASCRIPT
cat >ask.py <<'PYTHON'
import subprocess

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families


def own(value):
    registry = CollectorRegistry()
    Counter("a", "a", registry=registry).inc(1, {"id": value})
    return generate_latest(registry).decode()


def sample_label(value):
    registry = CollectorRegistry()
    Counter("a", "a", ["id"], registry=registry).labels(value).inc(1, {"id": "x"})
    return generate_latest(registry).decode()


def prom_client(value):
    return subprocess.run(["node", "page.js", value], check=True, capture_output=True).stdout.decode()


def read(page):
    try:
        samples = [it for family in text_string_to_metric_families(page) for it in family.samples]
    except ValueError as error:
        return str(error).split(":")[0]
    one = next(it for it in samples if it.exemplar)
    return {**one.exemplar.labels, **one.labels}


for value in ("a\\b\n} # {", 'a"b"', 'a"b'):
    for make in (sample_label, own, prom_client):
        print(make.__name__, repr(value), "->", read(make(value)), flush=True)
PYTHON
venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
sample_label 'a\\b\n} # {' -> {'id': 'a\\b\n} # {'}
own 'a\\b\n} # {' -> {'id': 'a\\b\n} # {'}
prom_client 'a\\b\n} # {' -> {'id': 'a\\b\n} # {'}
sample_label 'a"b"' -> {'id': 'a"b"'}
own 'a"b"' -> {'id': 'a"b"'}
prom_client 'a"b"' -> {'id': 'a"b"'}
sample_label 'a"b' -> {'id': 'a"b'}
own 'a"b' -> Invalid line
prom_client 'a"b' -> Invalid line
SEEN
