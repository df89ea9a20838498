//! Fuzz target: a request's head.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netwasm_fuzz::head(input));
