//! Mistakes of a command line, and what is told of them.

use super::error;

#[test]
fn mistakes_are_told_with_the_flags_to_change() {
    for (line, message) in [
        (
            "run a.wasm --tcp 1 --access-log a",
            "--access-log is for HTTP requests, and there is neither --http nor --https",
        ),
        (
            "run a.wasm --https 1",
            "--https 1 needs --cert FILE and --key FILE (for a test: \
             certs/cert.pem and certs/key.pem)",
        ),
        (
            "run a.wasm --tls 1",
            "--tls 1 needs --cert FILE and --key FILE (for a test: \
            certs/cert.pem and certs/key.pem)",
        ),
        (
            "run a.wasm --tcp 1 --cert a --cert b --key c",
            "each --cert needs its --key, in \
            the same order: there are 2 --cert and 1 --key",
        ),
        (
            "run a.wasm --udp unix:/s",
            "--udp cannot use a Unix socket: write --tcp unix:/s",
        ),
        (
            "run a.wasm --tcp unix:@a --unix-mode 600",
            "--unix-mode, --unix-owner and --unix-group are for a file, and unix:@a is an \
             abstract name without one: whoever is in its network namespace may connect",
        ),
        (
            "run a.wasm --tcp 1 --tcp 1",
            "two listeners have the address 1: give each its own",
        ),
        (
            "run a.wasm --tcp 1 --tls [::1]:1 --cert a --key b",
            "two listeners have the address [::1]:1: give each its own",
        ),
        (
            "run a.wasm --tcp 1 --tls-min-version 1.3 --tls-ciphers ECDHE-RSA-AES128-GCM-SHA256",
            "--tls-ciphers has only suites of TLS 1.2, which --tls-min-version 1.3 turns off",
        ),
        (
            "run a.wasm --tcp 1 --write-low 65KiB",
            "--write-low (66560 bytes) must not be above --write-high (65536 bytes)",
        ),
        (
            "run a.wasm --tcp 1 --max-write-buffer 1KiB",
            "--write-high (65536 bytes) must not be above --max-write-buffer (1024 bytes)",
        ),
        (
            "run a.wasm --tcp 1 --max-memory 1KiB",
            "--max-memory takes 64KiB, a page of \
            WebAssembly, to 4GiB, and this is 1024 bytes",
        ),
        (
            "run a.wasm --tcp 1 --max-memory 5GiB",
            "--max-memory takes 64KiB, a page of \
            WebAssembly, to 4GiB, and this is 5368709120 bytes",
        ),
        (
            "run a.wasm --tcp 1 --max-shared 65535",
            "--max-shared takes at least 64KiB, and this is 65535 bytes",
        ),
        (
            "compile a.wasm -o b --max-memory 5GiB",
            "--max-memory takes 64KiB, a page of \
            WebAssembly, to 4GiB, and this is 5368709120 bytes",
        ),
        (
            "run a.wasm --tcp 1 --write-timeout 2years",
            "--write-timeout takes at most 365 days, or 0 for no limit",
        ),
        (
            "run a.wasm --tcp 1 --dns-timeout 2years",
            "--dns-timeout takes at most 365 days, or 0 for no limit",
        ),
        (
            "run a.wasm --tcp 1 --dir a::/ --dir b::/",
            "two --dir have the path / in the guest: give each its own",
        ),
    ] {
        assert_eq!(error(line), format!("error: {message}\n"), "{line}");
    }
}

#[test]
fn values_that_cannot_be_used_say_what_to_write() {
    for (flag, message) in [
        ("--tcp *:80", "write 0.0.0.0:80 for all IPv4 addresses"),
        ("--event-timeout 30", "write 30s for seconds"),
        (
            "--event-timeout soon",
            "write a number with a unit, ms, s, m, h or d, such as 100ms",
        ),
        ("--idle-timeout never", "0 or none is no limit"),
        (
            "--max-memory many",
            "write a number of bytes, or one with its unit",
        ),
        ("--max-memory 0", "it must not be zero"),
        (
            "--max-memory=-1",
            "write a number of bytes, or one with its unit",
        ),
        ("--max-connections 0", "it must not be zero"),
        ("--max-handles 1k", "write a whole number, 1 or more"),
        ("--workers 0", "write a whole number from 1 to 1024"),
        ("--backlog 0", "0 is not in 1..=2147483647"),
        (
            "--access-log syslog:tcp:1",
            "write syslog, syslog:unix:PATH",
        ),
        (
            "--access-log syslog:facility=x",
            "'x' is none of kern, user, mail",
        ),
        ("--tls-min-version 1.1", "write 1.2 or 1.3"),
        (
            "--tls-ciphers AES128-SHA",
            "'AES128-SHA' is not a cipher suite of this host: there are TLS_AES_256_GCM_SHA384,",
        ),
        ("--unix-mode 888", "write a mode in octal digits"),
        ("--unix-mode 1777", "such as 660 or 600"),
        ("--env =x", "write NAME=VALUE, or NAME to inherit it"),
        ("--dir ::/", "no directory of the host"),
        (
            "--allow-connect example.org",
            "no port: write example.org:443",
        ),
        ("--allow-udp unix:/a", "not a Unix socket"),
        ("--allow-resolve a:80", "without a port: write a"),
        ("--allow-listen *:80", "write 0.0.0.0:80"),
        ("--dns-server dns.example", "is not an IP address"),
        ("--dns-timeout five", "write a number with a unit"),
        (
            "--isolation none",
            "write one of these, by which clients share an instance:",
        ),
    ] {
        let message_found = error(&format!("run a.wasm --tcp 1 {flag}"));
        let name = flag.split([' ', '=']).next().expect("a first part");
        assert!(message_found.contains(message), "{flag}: {message_found}");
        assert!(message_found.contains(name), "{flag}: {message_found}");
    }
}
