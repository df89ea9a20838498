//! Requests that break rules or limits.

use std::fmt::Write as _;

use super::{GET, chunked, probe, with};
use crate::harness;

/// Checks that each of these requests, on its own connection and followed by a
/// valid request, gets this status and no other response. Checks that the log
/// has one line with a reason for each, and counts them, and that another
/// connection goes on.
#[track_caller]
fn refused(requests: &[(&str, &str)], status: u16) {
    let server = probe().start();
    let mut other = server.connect_http();
    for (number, (what, bytes)) in requests.iter().enumerate() {
        let mut peer = server.connect_http();
        peer.send(format!("{bytes}{GET}").as_bytes());
        let response = peer.response();
        assert_eq!(response.status, status, "{what}: {response:?}");
        assert!(response.closes(), "{what}: {response:?}");
        peer.ends();
        let lines = server.log.wait(harness::DEADLINE, what, |lines| {
            let refused = lines.iter().filter(|line| line.contains("request refused"));
            let refused: Vec<_> = refused.cloned().collect();
            (refused.len() > number).then_some(refused)
        });
        assert_eq!(lines.len(), number + 1, "{what}: {lines:?}");
        let line = lines.last().expect("a line");
        assert!(line.contains(&format!("status={status}")), "{what}: {line}");
        assert!(line.contains("reason="), "{what}: {line}");
        other
            .fetch("/request")
            .is(200, "GET /request 1.1 http localhost");
    }
    let log = server.log.clone();
    drop(other);
    server.stop();
    let counted = format!("requests_refused={}", requests.len());
    let ended = log.wait_for(&["ended", &counted]);
    assert!(!ended.contains("lost="), "{ended}");
}

/// Like `refused`, for requests that are made from their bad parts.
#[track_caller]
fn all_refused(parts: &[&str], make: impl Fn(&str) -> String, status: u16) {
    let requests: Vec<_> = parts.iter().map(|part| make(part)).collect();
    let named: Vec<_> = parts
        .iter()
        .copied()
        .zip(requests.iter().map(String::as_str))
        .collect();
    refused(&named, status);
}

#[test]
fn a_content_length_that_is_no_number_is_refused() {
    let lengths = [
        "5,5",
        "5, 5",
        "+5",
        "-1",
        "0x5",
        "1_0",
        "",
        "5 5",
        "five",
        "5.0",
        "\u{665}",
        "18446744073709551616",
        "99999999999999999999999999",
    ];
    all_refused(
        &lengths,
        |length| with(&format!("Content-Length: {length}")),
        400,
    );
}

#[test]
fn a_message_that_is_framed_in_two_ways_is_refused() {
    let lines = [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
    ];
    all_refused(&lines, with, 400);
}

#[test]
fn a_transfer_coding_that_does_not_end_in_chunked_is_refused() {
    let codings = [
        ",chunked",
        "chunked,",
        "chunked, identity",
        "chunked, chunked",
        "identity",
        "gzip",
        "",
        "chunked;q=1",
        "\"chunked\"",
        "xchunked",
        "chunked\tx",
        "\u{b}chunked",
    ];
    all_refused(
        &codings,
        |coding| with(&format!("Transfer-Encoding: {coding}")),
        400,
    );
    all_refused(
        &[
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        ],
        with,
        501,
    );
    let old = "POST /body HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    refused(&[("HTTP/1.0", old)], 400);
}

#[test]
fn a_malformed_chunk_is_refused() {
    let bodies = [
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0_2e\r\n",
        "\r\n",
        ";x\r\n",
        " 5\r\nhello\r\n",
        "g\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\nX y\r\n\r\n",
        "0\r\nX: y\r\n folded\r\n\r\n",
        "0\r\nX: \0\r\n\r\n",
        "0\r\n\n",
    ];
    all_refused(&bodies, chunked, 400);
    // The largest size, and a size that would overflow a sum.
    all_refused(
        &["ffffffffffffffff\r\n", "5\r\nhello\r\nfffffffffffffffe\r\n"],
        chunked,
        413,
    );
}

#[test]
fn floods_of_extensions_and_trailers_are_refused() {
    let one = format!("5;{}\r\n", "x".repeat(40_000));
    let many = "1;name=value\r\nx\r\n".repeat(5000);
    let lines = format!("0\r\n{}", "X: y\r\n".repeat(200));
    let long = format!("0\r\nX: {}\r\n", "y".repeat(40_000));
    let bodies = [one, many, lines, long].map(|body| chunked(&body));
    let bodies: Vec<_> = bodies
        .iter()
        .map(|body| ("a flood", body.as_str()))
        .collect();
    let server = probe().start();
    for (_, body) in bodies {
        let mut peer = server.connect_http();
        peer.send(body.as_bytes());
        let response = peer.response();
        assert!(matches!(response.status, 400 | 413 | 431), "{response:?}");
        peer.ends();
    }
    server.serves_http();
}

#[test]
fn malformed_header_lines_are_refused() {
    let lines = [
        "X: a\r\n folded",
        "X: a\r\n\tfolded",
        " X: a",
        "X : a",
        "X\t: a",
        ": a",
        "no colon",
        "X: a\0b",
        "X: a\rb",
        "X: a\nY: b",
        "X: a\x7fb",
        "X: \x01",
        "X\u{e4}: a",
        "X(: a",
        "X\0: a",
        "\0",
    ];
    all_refused(
        &lines,
        |line| format!("GET / HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n"),
        400,
    );
}

#[test]
fn a_host_that_is_missing_or_malformed_is_refused() {
    let lines = [
        "X: y",
        "Host: a\r\nHost: a",
        "Host: a\r\nHost: b",
        "Host:",
        "Host: user@a",
        "Host: a b",
        "Host: a/b",
        "Host: a:port",
        "Host: a:99999",
        "Host: [::1",
        "Host: http://a",
        "Host: a, b",
    ];
    all_refused(
        &lines,
        |line| format!("GET / HTTP/1.1\r\n{line}\r\n\r\n"),
        400,
    );
    // Also with an absolute target, which makes `Host` superfluous.
    let absolute = |line: &str| format!("GET http://a/ HTTP/1.1\r\n{line}\r\n\r\n");
    all_refused(&["X: y", "Host: a\r\nHost: a", "Host: @"], absolute, 400);
}

#[test]
fn malformed_request_lines_are_refused() {
    let lines = [
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1",
        "GET / HTTP/1.10",
        "GET / HTTP/x.y",
        "G(T / HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET / a HTTP/1.1",
        "GET",
        "\0",
        "\x16\x03\x01\x02",
    ];
    all_refused(&lines, |line| format!("{line}\r\nHost: h\r\n\r\n"), 400);
    refused(
        &[
            ("LF", "GET / HTTP/1.1\nHost: h\n\n"),
            ("CR", "GET / HTTP/1.1\rHost: h\r\r"),
        ],
        400,
    );
    let versions = ["HTTP/9.9", "HTTP/2.0", "HTTP/1.2", "HTTP/0.9"];
    all_refused(
        &versions,
        |version| format!("GET / {version}\r\nHost: h\r\n\r\n"),
        505,
    );
}

#[test]
fn an_unknown_expectation_is_refused() {
    all_refused(
        &["100-continue, x", "x", ""],
        |value| with(&format!("Expect: {value}")),
        417,
    );
}

#[test]
fn what_is_larger_than_the_limits_is_refused() {
    let path = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(9000));
    let endless = format!("GET /{}", "a".repeat(70_000));
    refused(
        &[("a long line", &path), ("an endless line", &endless)],
        414,
    );
    let value = with(&format!("X: {}", "a".repeat(40_000)));
    let fields = with(&"X: y\r\n".repeat(101));
    let both = with(&format!(
        "{}Y: z",
        "X: 0123456789012345678901234567890123456789\r\n".repeat(900)
    ));
    refused(
        &[
            ("a long value", &value),
            ("many lines", &fields),
            ("both", &both),
        ],
        431,
    );
    let body = with("Content-Length: 1048577");
    let chunks = chunked("80000\r\n");
    refused(&[("a large body", &body)], 413);
    let mut bytes = chunks;
    let _ = write!(bytes, "{}\r\n80001\r\n", "x".repeat(0x80000));
    refused(&[("large chunks", &bytes)], 413);
}

#[test]
fn the_limits_are_flags() {
    let server = probe()
        .args([
            "--max-head",
            "1KiB",
            "--max-request-line",
            "100",
            "--max-headers",
            "5",
        ])
        .args(["--max-body", "10"])
        .start();
    let line = |length: usize| format!("GET /{} HTTP/1.1", "a".repeat(length - 14));
    let fields = |count: usize| "X: y\r\n".repeat(count);
    let cases = [
        (format!("{}\r\nHost: h\r\n\r\n", line(100)), 404),
        (format!("{}\r\nHost: h\r\n\r\n", line(101)), 414),
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", fields(4)),
            200,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", fields(5)),
            431,
        ),
        (with(&format!("X: {}", "a".repeat(900))), 200),
        (with(&format!("X: {}", "a".repeat(1100))), 431),
        (format!("{}0123456789", with("Content-Length: 10")), 200),
        (with("Content-Length: 11"), 413),
        (chunked("a\r\n0123456789\r\n0\r\n\r\n"), 200),
        (chunked("b\r\n"), 413),
        (chunked("a\r\n0123456789\r\n1\r\n"), 413),
    ];
    for (bytes, status) in cases {
        let response = server.connect_http().exchange(&bytes);
        assert_eq!(response.status, status, "{bytes}");
    }
}

#[test]
fn a_request_hidden_in_a_body_is_never_answered() {
    let server = probe().start();
    let hidden = "GET /request?hidden HTTP/1.1\r\nHost: h\r\n\r\n";
    let length = format!("Content-Length: {}", hidden.len());
    let size = format!("{:x}", hidden.len());
    let mut peer = server.connect_http();
    for carrier in [
        format!("{}{hidden}", with(&length)),
        chunked(&format!("{size}\r\n{hidden}\r\n0\r\n\r\n")),
        chunked(&format!("{size};a\r\n{hidden}\r\n0\r\nX: y\r\n\r\n")),
    ] {
        peer.send(format!("{carrier}{GET}").as_bytes());
        let response = peer.response();
        assert_eq!(response.body, hidden.as_bytes());
        peer.response().is(200, "GET /request 1.1 http h");
    }
    // An ambiguous end of the body closes the connection.
    for lines in [
        format!("{length}\r\nTransfer-Encoding: chunked"),
        "Content-Length: 0\r\nContent-Length: 44".to_owned(),
        "Transfer-Encoding: xchunked".to_owned(),
        "Transfer-Encoding:\x0bchunked".to_owned(),
        "Transfer-Encoding : chunked".to_owned(),
        "Transfer-Encoding\r\n : chunked".to_owned(),
        "X: y\nTransfer-Encoding: chunked".to_owned(),
        "Content-Length: 1e2".to_owned(),
    ] {
        let mut peer = server.connect_http();
        peer.send(format!("{}0\r\n\r\n{hidden}{hidden}", with(&lines)).as_bytes());
        let response = peer.response();
        assert!(matches!(response.status, 400 | 501), "{lines}");
        peer.ends();
    }
}
