#!/usr/bin/env bash
# componentize-py 0.25.1 (PyPI), run by jco 1.35.0 (npm).
#
# Question: what becomes of the memory in which an argument of an imported function is
# handed to the host?
# Guess: it is freed as soon as the call returns: the host only borrows it, and nobody
# else can reach it. For text it is so.
# Seen: for `list<u8>` it is kept for ever: the component's memory grows by 48 MiB in
# 48 calls with a MiB each. `string` (tried here), `list<u32>` and what an import
# returns are freed.
# Why it matters: writing bytes is what a network guest does all day. An echo server of
# Python grows by all that it has echoed, until the host's limit ends it, and nothing in
# Python (gc, tracemalloc) sees that memory.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip -q --disable-pip-version-check install componentize-py==0.25.1
npm init -y >/dev/null
npm pkg set type=module >/dev/null
npm install --silent --no-fund --no-audit @bytecodealliance/jco@1.35.0
cat >memory.wit <<'WIT'
package local:memory;

interface sink {
    octets: func(data: list<u8>);
    text: func(data: string);
}

world memory {
    import sink;
    export run: func(name: string, count: u32);
}
WIT
cat >guest.py <<'PYTHON'
from wit_world.imports import sink

MIB = 1 << 20


class WitWorld:
    def run(self, name, count):
        data = b"x" * MIB if name == "octets" else "x" * MIB
        for _ in range(count):
            getattr(sink, name)(data)
PYTHON
venv/bin/componentize-py -q -d memory.wit -w memory componentize --stub-wasi guest -o guest.wasm
node_modules/.bin/jco transpile guest.wasm --instantiation sync --out-dir out >/dev/null
cat >ask.mjs <<'JS'
import { readFileSync } from 'node:fs';
import { instantiate } from './out/guest.js';

const memories = new Set();
const compiled = (name) => new WebAssembly.Module(readFileSync('out/' + name));
const started = (module, imports) => {
  const instance = new WebAssembly.Instance(module, imports);
  for (const one of Object.values(instance.exports)) {
    if (one instanceof WebAssembly.Memory) memories.add(one);
  }
  return instance;
};
const mib = () => [...memories].reduce((sum, one) => sum + one.buffer.byteLength, 0) / 2 ** 20;
let calls = 0;
const sink = { octets: () => { calls += 1; }, text: () => { calls += 1; } };
for (const name of ['octets', 'text']) {
  memories.clear();
  const { run } = instantiate(compiled, { 'local:memory/sink': sink }, started);
  run(name, 8);
  const before = mib();
  calls = 0;
  run(name, 48);
  const grown = mib() - before;
  console.log(name, calls, 'calls', grown >= 44 ? 'kept' : grown <= 8 ? 'freed' : grown);
}
JS
# Node.js 20 has this part of WebAssembly behind a flag.
flag=--experimental-wasm-extended-const
node --v8-options | grep -q -- "$flag" || flag=
node $flag ask.mjs | tee seen
diff seen - <<'SEEN'
octets 48 calls kept
text 48 calls freed
SEEN
