#!/usr/bin/env bash
# componentize-qjs 0.4.5 (npm), run by jco 1.35.0.
#
# Guess: a `u64` of WIT is a BigInt in JavaScript, as in ComponentizeJS and jco, so
# that all 64 bits arrive.
# Seen: it is a number. 2^53 + 1 arrives as 2^53, and a function that returns what
# it got returns another number, without an error.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm pkg set type=module >/dev/null
npm install --silent --no-fund --no-audit componentize-qjs@0.4.5 @bytecodealliance/jco@1.35.0
cat >numbers.wit <<'WIT'
package local:numbers;

world numbers {
    export same: func(number: u64) -> u64;
    export shown: func(number: u64) -> string;
}
WIT
cat >build.mjs <<'JS'
import { writeFileSync } from 'node:fs';
import { componentize } from 'componentize-qjs';

const jsSource = `
    export function shown(number) { return typeof number + ' ' + number; }
    export function same(number) { return number; }
`;
const { component } = await componentize({
  witPath: 'numbers.wit', jsSource, sync: true, stubWasi: true,
});
writeFileSync('numbers.wasm', component);
JS
node build.mjs
node_modules/.bin/jco transpile numbers.wasm --out-dir out --name numbers >/dev/null
cat >ask.mjs <<'JS'
import { same, shown } from './out/numbers.js';

const number = 2n ** 53n + 1n;
console.log('given', number);
console.log('shown', shown(number));
console.log('back', same(number));
JS
# Node.js 20 has this part of WebAssembly behind a flag.
flag=--experimental-wasm-extended-const
node --v8-options | grep -q -- "$flag" || flag=
node $flag ask.mjs | tee seen
diff seen - <<'SEEN'
given 9007199254740993n
shown number 9007199254740992
back 9007199254740992n
SEEN
