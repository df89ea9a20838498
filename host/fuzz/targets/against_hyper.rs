//! Fuzz target: whole requests. hyper parses them, too.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netwasm_fuzz::against_hyper(input));
