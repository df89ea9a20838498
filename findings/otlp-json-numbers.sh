#!/usr/bin/env bash
# @opentelemetry/otlp-transformer 0.223.1 with @opentelemetry/sdk-trace-base 2.12.1 (npm), read
# by opentelemetry-proto 1.45.2 with protobuf 7.36.2 (PyPI).
#
# Question: do the two encodings of OTLP, JSON and protobuf, carry the same numbers, if a span's
# attributes have 1e20, NaN and Infinity?
# Guess: yes, all as doubles. Attributes are doubles in JavaScript, and the mapping of protobuf
# to JSON writes NaN and Infinity as texts, since JSON has no numbers for them.
# Seen: by protobuf all three arrive. In JSON, 1e20 is an `intValue`, beyond the 64 bits that it
# may have, so that protobuf's reader refuses the whole request, with all spans in it. NaN and
# Infinity are null: the attribute arrives, and has no value.
# Why it matters: one odd measurement (a rate over no time, a large estimate) costs a batch of
# other requests' spans at collectors that read strictly, and only with the exporter for
# JSON, which is the usual one in browsers.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install opentelemetry-proto==1.45.2 protobuf==7.36.2
npm init -y >/dev/null
npm install --silent --no-fund --no-audit @opentelemetry/otlp-transformer@0.223.1 \
    @opentelemetry/sdk-trace-base@2.12.1 @opentelemetry/api@1.9.1
cat >export.js <<'JAVASCRIPT'
const fs = require('node:fs');
const transformer = require('@opentelemetry/otlp-transformer');
const sdk = require('@opentelemetry/sdk-trace-base');

const values = { number: 1.5, large: 1e20, nan: NaN, infinity: Infinity };
for (const [name, value] of Object.entries(values)) {
  const exporter = new sdk.InMemorySpanExporter();
  const spanProcessors = [new sdk.SimpleSpanProcessor(exporter)];
  const tracer = new sdk.BasicTracerProvider({ spanProcessors }).getTracer('finding');
  tracer.startSpan('span').setAttribute('value', value).end();
  const spans = exporter.getFinishedSpans();
  const { JsonTraceSerializer, ProtobufTraceSerializer } = transformer;
  fs.writeFileSync(`${name}.json`, JsonTraceSerializer.serializeRequest(spans));
  fs.writeFileSync(`${name}.protobuf`, ProtobufTraceSerializer.serializeRequest(spans));
}
JAVASCRIPT
cat >ask.py <<'PYTHON'
import pathlib

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

for name in ("number", "large", "nan", "infinity"):
    for encoding in ("protobuf", "json"):
        content = pathlib.Path(f"{name}.{encoding}").read_bytes()
        request = trace_service_pb2.ExportTraceServiceRequest()
        try:
            if encoding == "json":
                json_format.Parse(content, request)
            else:
                request.ParseFromString(content)
        except json_format.ParseError:
            print(f"{name}, {encoding}: the request is refused")
            continue
        attribute = request.resource_spans[0].scope_spans[0].spans[0].attributes[0]
        kind = attribute.value.WhichOneof("value")
        value = f"{kind} {getattr(attribute.value, kind)}" if kind else "no value"
        print(f"{name}, {encoding}: {value}")
PYTHON
node export.js
venv/bin/python ask.py | tee seen
diff seen - <<'SEEN'
number, protobuf: double_value 1.5
number, json: double_value 1.5
large, protobuf: double_value 1e+20
large, json: the request is refused
nan, protobuf: double_value nan
nan, json: no value
infinity, protobuf: double_value inf
infinity, json: no value
SEEN
