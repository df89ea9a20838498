//! Tests of `netwasm:net/sockets`: a program that brings its own event loop, on
//! sockets as POSIX has them.

mod datagrams;
mod loops;
mod streams;
mod unix_sockets;

use crate::harness::{Finished, Run};

/// Flags that let a program listen on loopback.
const LISTENS: [&str; 2] = ["--allow-listen", "127.0.0.1:0"];

fn probe(steps: &[&str]) -> Run {
    Run::guest("sockets-probe").guest_args(steps)
}

/// Runs the steps, with these flags of the host, and checks what each says. `…`
/// stands for any text.
#[track_caller]
fn says(flags: &[&str], steps: &[(&str, &str)]) -> Finished {
    let words: Vec<_> = steps.iter().map(|(step, _)| *step).collect();
    let finished = probe(&words).args(flags).output();
    finished.said(steps, fits);
    finished
}

/// True if a text is as expected, where `…` stands for any text.
fn fits(said: &str, expected: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| said.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let found = match parts.peek() {
            Some(_) => rest.find(part),
            None => rest
                .len()
                .checked_sub(part.len())
                .filter(|_| rest.ends_with(part)),
        };
        match found {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.is_empty()
}
