#!/usr/bin/env bash
# @bjorn3/browser_wasi_shim 0.4.2, @runno/wasi 0.10.0, uwasi 1.1.0, @tybys/wasm-util 0.10.5
# (npm): WASI preview 1 in JavaScript, beside Node.js' node:wasi; wabt 1.0.39 (npm) makes the
# module.
#
# Question: does a guest sleep that asks `poll_oneoff` for one relative timer, as `sleep` in C
# and Rust do?
# Guess: yes, in each of them for the time it asked for, by Atomics.wait or a loop; there is no
# other way to sleep in preview 1, and it needs no more than a clock.
# Seen: in node:wasi and wasm-util it does. @runno/wasi takes the time for one since 1970 and
# returns at once, with success. uwasi with `useAll` has no such function (ENOSYS). In
# browser_wasi_shim the guest sleeps and gets its event, but the number of events is never
# written: the guest reads there what was there before.
# Why it matters: a guest that waits and looks again, or tries again later, does so without a
# pause in one host, fails in another, and in the third goes by what was in its memory, where
# its library compares the number with 1. All of them have the clock that this needs.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit @bjorn3/browser_wasi_shim@0.4.2 @runno/wasi@0.10.0 \
    uwasi@1.1.0 @tybys/wasm-util@0.10.5 wabt@1.0.39
cat >sleep.wat <<'WAT'
(module
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; Waits for 0.4 s of a clock. Its event is at 128, and the number of events at 256.
  (func (export "sleep") (param $clock i32) (result i32)
    (i64.store (i32.const 64) (i64.const 7))             ;; what the event has to bring back
    (i32.store8 (i32.const 72) (i32.const 0))            ;; a subscription to a clock
    (i32.store (i32.const 80) (local.get $clock))
    (i64.store (i32.const 88) (i64.const 400000000))     ;; nanoseconds
    (i64.store (i32.const 96) (i64.const 0))             ;; precision
    (i32.store16 (i32.const 104) (i32.const 0))          ;; from now on
    (i32.store (i32.const 256) (i32.const 99))
    (call $poll_oneoff (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 256)))
  (func (export "_start")))
WAT
cat >ask.js <<'JAVASCRIPT'
const { readFileSync } = require('node:fs');

const hosts = {
  'node:wasi': async () => {
    const { WASI } = require('node:wasi');
    const wasi = new WASI({ version: 'preview1' });
    return [wasi.wasiImport, (instance) => wasi.start(instance)];
  },
  '@tybys/wasm-util': async () => {
    const { WASI } = require('@tybys/wasm-util');
    const wasi = new WASI({ version: 'preview1' });
    return [wasi.wasiImport, (instance) => wasi.start(instance)];
  },
  '@bjorn3/browser_wasi_shim': async () => {
    const { WASI } = await import('@bjorn3/browser_wasi_shim');
    const wasi = new WASI([], [], []);
    return [wasi.wasiImport, (instance) => wasi.start(instance)];
  },
  '@runno/wasi': async () => {
    const { WASI } = await import('@runno/wasi');
    const wasi = new WASI({ fs: {} });
    return [wasi.getImportObject().wasi_snapshot_preview1,
      (instance, module) => wasi.start({ instance, module })];
  },
  uwasi: async () => {
    const { WASI, useAll } = require('uwasi');
    const wasi = new WASI({ features: [useAll()] });
    return [wasi.wasiImport, (instance) => wasi.start(instance)];
  },
};

(async () => {
  const wabt = await require('wabt')();
  const { buffer } = wabt.parseWat('sleep.wat', readFileSync('sleep.wat', 'utf8')).toBinary({});
  const module = new WebAssembly.Module(buffer);
  for (const [name, make] of Object.entries(hosts)) {
    const [imports, start] = await make();
    const instance = new WebAssembly.Instance(module, { wasi_snapshot_preview1: imports });
    start(instance, module);
    const { sleep, memory } = instance.exports;
    for (const [clock, id] of Object.entries({ realtime: 0, monotonic: 1 })) {
      const before = performance.now();
      const error = sleep(id);
      const slept = performance.now() - before > 350 ? 'slept' : 'returned at once';
      const view = new DataView(memory.buffer);
      const events = view.getUint32(256, true) === 99 ? 'unset' : view.getUint32(256, true);
      const data = view.getBigUint64(128, true);
      console.log(`${name}, ${clock}: ${slept}, error ${error}, events ${events}, data ${data}`);
      new Uint8Array(memory.buffer).fill(0);
    }
  }
  process.exit();
})();
JAVASCRIPT
timeout -v 60 node --no-warnings ask.js | tee seen
diff seen - <<'SEEN'
node:wasi, realtime: slept, error 0, events 1, data 7
node:wasi, monotonic: slept, error 0, events 1, data 7
@tybys/wasm-util, realtime: slept, error 0, events 1, data 7
@tybys/wasm-util, monotonic: slept, error 0, events 1, data 7
@bjorn3/browser_wasi_shim, realtime: slept, error 0, events unset, data 7
@bjorn3/browser_wasi_shim, monotonic: slept, error 0, events unset, data 7
@runno/wasi, realtime: returned at once, error 0, events 1, data 7
@runno/wasi, monotonic: returned at once, error 0, events 1, data 7
uwasi, realtime: returned at once, error 52, events unset, data 0
uwasi, monotonic: returned at once, error 52, events unset, data 0
SEEN
