#!/usr/bin/env bash
# aws-lc-rs 1.19.0 with aws-lc-sys 0.47.0 (crates.io), random numbers.
#
# Guess: the first random byte costs a getrandom(2), so some microseconds, as
# with every generator that the kernel seeds; a thread's first one likewise.
# Seen: the first one of a process takes tens of milliseconds of CPU time, in
# which the library gathers entropy from the jitter of the clock. The next one,
# and the first one of another thread, take microseconds. A server that draws
# its first number within a handshake stops all that its thread serves.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cargo init --quiet --vcs none --name first
cargo add --quiet aws-lc-rs@=1.19.0 aws-lc-sys@=0.47.0
cat >src/main.rs <<'RUST'
use std::time::{Duration, Instant};

fn draw() -> Duration {
    let start = Instant::now();
    aws_lc_rs::rand::fill(&mut [0]).expect("a random byte");
    start.elapsed()
}

fn told(what: &str, time: Duration) {
    let size = match time.as_micros() {
        0..1000 => "less than a millisecond",
        1000..5000 => "a few milliseconds",
        _ => "more than five milliseconds",
    };
    eprintln!("{what}: {time:?}");
    println!("{what}: {size}");
}

fn main() {
    told("the first", draw());
    told("the second", draw());
    // The least of several, should something else have the core.
    let others = (0..5).map(|_| std::thread::spawn(draw).join().expect("a time"));
    told("another thread's first", others.min().expect("five"));
}
RUST
cargo run --quiet --release | tee seen
diff seen - <<'SEEN'
the first: more than five milliseconds
the second: less than a millisecond
another thread's first: less than a millisecond
SEEN
