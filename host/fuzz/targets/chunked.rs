//! Fuzz target: a chunked body.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netwasm_fuzz::chunked(input));
