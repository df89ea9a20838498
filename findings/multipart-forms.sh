#!/usr/bin/env bash
# Starlette 1.10.0 with python-multipart 0.0.34, Tornado 6.6.1, Werkzeug 3.1.9 (PyPI),
# formidable 3.5.4 (npm).
#
# Question: do they read a form with a preamble, and one whose field tells its type?
# Guess: yes. RFC 2046 (5.1.1) lets text stand before the first boundary, to be ignored,
# and RFC 7578 (4.4) lets every part have a Content-Type, text/plain being the default.
# Seen: Starlette and Tornado refuse the body for its preamble. formidable writes a field
# with `Content-Type: text/plain` to a file and has no such field. Werkzeug reads both.
# Why it matters: forms do not come from browsers alone. Tools made for mail write a
# preamble, some HTTP clients a type for each text.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
pip="venv/bin/pip -q --disable-pip-version-check"
$pip install starlette==1.10.0 python-multipart==0.0.34 tornado==6.6.1 werkzeug==3.1.9
npm init -y >/dev/null
npm install --silent --no-fund --no-audit formidable@3.5.4
part='Content-Disposition: form-data; name="a"\r\n\r\nvalue\r\n--line--\r\n'
printf '%b' "A form in parts.\r\n--line\r\n$part" >preamble
printf '%b' "--line\r\nContent-Type: text/plain\r\n$part" >typed
cat >ask.py <<'PYTHON'
import asyncio
from io import BytesIO
from pathlib import Path

from starlette.requests import Request
from tornado.httputil import parse_body_arguments
from werkzeug.formparser import FormDataParser

TYPE = "multipart/form-data; boundary=line"


def with_starlette(body):
    async def receive():
        return {"type": "http.request", "body": body}

    async def form():
        return dict(await Request(scope, receive).form())

    scope = {"type": "http", "headers": [(b"content-type", TYPE.encode())]}
    return asyncio.run(form())


def with_tornado(body):
    fields = {}
    parse_body_arguments(TYPE, body, fields, {})
    return fields


def with_werkzeug(body):
    parse = FormDataParser().parse
    parsed = parse(BytesIO(body), "multipart/form-data", len(body), {"boundary": "line"})
    return parsed[1].to_dict()


for name in ("preamble", "typed"):
    for read in (with_starlette, with_tornado, with_werkzeug):
        try:
            result = read(Path(name).read_bytes())
        except Exception as error:
            result = type(error).__name__
        print(name, read.__name__, result)
PYTHON
cat >ask.mjs <<'JS'
import { createReadStream } from 'node:fs';
import formidable from 'formidable';

const type = 'multipart/form-data; boundary=line';
for (const name of ['preamble', 'typed']) {
  const request = createReadStream(name);
  request.headers = { 'content-type': type, 'transfer-encoding': 'chunked' };
  const [fields, files] = await formidable({ uploadDir: '.' }).parse(request);
  console.log(name, 'formidable fields:', ...Object.keys(fields), 'files:', ...Object.keys(files));
}
JS
{ venv/bin/python ask.py 2>/dev/null && node ask.mjs; } | tee seen
diff seen - <<'SEEN'
preamble with_starlette MultiPartException
preamble with_tornado HTTPInputError
preamble with_werkzeug {'a': 'value'}
typed with_starlette {'a': 'value'}
typed with_tornado {'a': [b'value']}
typed with_werkzeug {'a': 'value'}
preamble formidable fields: a files:
typed formidable fields: files: a
SEEN
