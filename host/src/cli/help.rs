//! Texts below the flags in the help.

use super::{built_in, manual};

pub(super) const EXAMPLES: &str = "\
Examples:
  netwasm run echo --tcp 8888 --udp 8888
  netwasm run guests/echo.wasm --tls 0.0.0.0:8889 --cert certs/cert.pem --key certs/key.pem
  netwasm run router --http 8080
  netwasm run static --https 8443 --cert certs/cert.pem --key certs/key.pem --dir ./public::/
  netwasm run guests/proxy.wasm --tcp 8080 --allow-connect 127.0.0.1:80 -- 127.0.0.1:80
  netwasm run gateway --http 8080 --upstream site=127.0.0.1:9000 -- /=site
  netwasm run guests/chat.wasm --tcp unix:/run/chat.sock --isolation worker --workers 1
  netwasm run fetch --allow-connect '*:443' -- https://example.org/ https://example.com/
  netwasm run server.py --allow-listen 127.0.0.1:8888 -- --verbose
  netwasm inspect guests/echo.wasm

`netwasm help` lists topics and built-in components, `netwasm help COMMAND` the flags of a command.";

pub(super) const RUN_USAGE: &str = "netwasm run [OPTIONS] <COMPONENT> [-- <ARGS>...]";

pub(super) const RUN_SHORT: &str = "\
--help lists all flags and built-in components, explains ADDR, PATTERN, MODE, DIR, SIZE and TIME,
and has examples.";

const RUN_TERMS: &str = "\
ADDR     PORT (of localhost: 127.0.0.1 and ::1), IP:PORT, [IPV6]:PORT, unix:PATH, unix:@NAME for an
         abstract name (neither for --udp), or fd:NAME, a socket of systemd; port 0 picks a free
         one. For --allow-listen * is any port: '127.0.0.1:*'
PATTERN  HOST:PORT, unix:PATH or unix:@NAME. HOST is a name, *.NAME, an IP address, a network
         (10.0.0.0/8, [fd00::/8]), or *; PORT a number or *. An address outside of the public
         Internet needs a pattern that names it; localhost names loopback. For --allow-udp it is
         HOST:PORT
MODE     which clients share an instance of the component, and so its memory:
";

const RUN_MORE_TERMS: &str = "\
NAME     a name, *.NAME, or * for all
DIR      HOST[::GUEST][:ro|:rw]; GUEST is the same path unless given, and :ro the default
SIZE     a number of bytes, or one with a unit: 64KiB, 1.5MB, 1GiB
TIME     a number with a unit: 100ms, 30s, 5m, 1h, 1d; 0 or none is no limit
";

const RUN_EXAMPLES: &str = "\
Examples:
  netwasm run echo --tcp 8888 --udp 8888
  netwasm run guests/echo.wasm --tls 0.0.0.0:8889 --cert certs/cert.pem --key certs/key.pem
  netwasm run router --http 8080 --access-log -
  netwasm run static --https 8443 --cert certs/cert.pem --key certs/key.pem --dir ./public::/
  netwasm run guests/proxy.wasm --tcp 8080 --allow-connect 10.0.0.0/8:80 -- 10.0.0.1:80 10.0.0.2:80
  netwasm run guests/chat.wasm --tcp unix:/run/chat.sock --isolation worker --workers 1
";

/// The values of `--isolation`, a line each.
pub(super) const ISOLATION: [(&str, &str); 3] = [
    (
        "request",
        "none: each HTTP request has its own. For wasi:http; the default of 0.2",
    ),
    (
        "connection",
        "none: each connection has its own, until its end. The default of all others",
    ),
    (
        "worker",
        "all of a thread, which thus share state. With --workers 1, all clients",
    ),
];

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  all connections ended by themselves, or the program succeeded
  1  it could not start, a worker failed, or connections were aborted at the end
  2  the arguments cannot be used
  A program's own exit code is passed on.";

/// Returns what `netwasm run --help` has below the flags.
pub(super) fn run() -> String {
    let built_in = built_in::list();
    let terms = terms();
    format!("{terms}\n{RUN_EXAMPLES}\n{built_in}\n{EXIT_CODES}")
}

/// Returns what kinds of values flags and keys have.
pub(super) fn terms() -> String {
    let modes = modes();
    format!("{RUN_TERMS}{modes}{RUN_MORE_TERMS}")
}

/// Returns what `netwasm --help` has below the commands.
pub(super) fn program() -> String {
    let (topics, built_in) = (manual::list_of_topics(), built_in::list());
    format!("{EXAMPLES}\n\n{topics}\n{built_in}\n{EXIT_CODES}")
}

/// Returns the lines of the values of `--isolation`.
pub(super) fn modes() -> String {
    ISOLATION
        .iter()
        .map(|(mode, shared)| format!("         {mode:<10}  {shared}\n"))
        .collect()
}
