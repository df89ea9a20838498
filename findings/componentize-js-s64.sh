#!/usr/bin/env bash
# ComponentizeJS 0.23.0 (npm), run by jco 1.35.0.
#
# Guess: a function that a component imports takes any `s64`.
# Seen: a negative one ends the component, by an error that nothing can catch; and a
# negative result comes back as a number of 64 bits without a sign where it is given
# to an import again. `coreabi_from_bigint64` takes what fits a u64.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm pkg set type=module >/dev/null
npm install --silent --no-fund --no-audit @bytecodealliance/componentize-js@0.23.0 \
    @bytecodealliance/jco@1.35.0
cat >numbers.wit <<'WIT'
package local:numbers;

interface host {
    same: func(number: s64) -> s64;
    negative: func(number: s64) -> s64;
}

world numbers {
    import host;
    export pass: func(number: s64) -> string;
    export get: func(number: s64) -> string;
}
WIT
cat >build.mjs <<'JS'
import { writeFileSync } from 'node:fs';
import { componentize } from '@bytecodealliance/componentize-js';

const jsSource = `
    import { negative, same } from 'local:numbers/host';
    export const pass = (number) => String(same(number));
    export const get = (number) => String(negative(number));
`;
writeFileSync('numbers.js', jsSource);
const { component } = await componentize({
  sourcePath: 'numbers.js', witPath: 'numbers.wit', worldName: 'numbers',
  disableFeatures: ['http', 'fetch-event', 'stdio', 'random', 'clocks'],
});
writeFileSync('numbers.wasm', component);
JS
node build.mjs
node_modules/.bin/jco transpile numbers.wasm --out-dir out --name numbers \
    --map 'local:numbers/host=../host.mjs' >/dev/null
cat >host.mjs <<'JS'
export const same = (number) => number;
export const negative = (number) => -number;
JS
cat >ask.mjs <<'JS'
import { get, pass } from './out/numbers.js';

console.log('passed', pass(7n));
console.log('got', get(7n));
try {
  console.log('passed', pass(-7n));
} catch (error) {
  console.log('failed', error.constructor.name);
}
JS
# Node.js 20 has this part of WebAssembly behind a flag.
flag=--experimental-wasm-extended-const
node --v8-options | grep -q -- "$flag" || flag=
node $flag ask.mjs 2>/dev/null | tee seen
diff seen - <<'SEEN'
passed 7
got 18446744073709551609
failed RuntimeError
SEEN
