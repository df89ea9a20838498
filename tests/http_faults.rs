//! Faults of HTTP clients and guests, intended or not: each gets its due
//! response, and nobody else notices.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::harness::{
    self, Run, Server, TcpPeer, directory, eventually, message, pattern, post,
    raise_descriptor_limit, slowly, write,
};

fn probe() -> Run {
    Run::guest("probe").http()
}

const GET: &str = "GET /request HTTP/1.1\r\nHost: h\r\n\r\n";

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

/// Returns a request with these header lines.
fn with(lines: &str) -> String {
    format!("POST /body HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n")
}

/// Returns a request with this chunked body.
fn chunked(body: &str) -> String {
    format!("{}{body}", with("Transfer-Encoding: chunked"))
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

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let server = probe().start();
    let body = pattern(10 << 20);
    for head in [
        with(&format!("Content-Length: {}", body.len())),
        with("Content-Length: x"),
        chunked("a00000\r\n"),
    ] {
        let mut peer = server.connect_http();
        peer.send(head.as_bytes());
        peer.send(&body);
        let response = peer.response();
        assert!(matches!(response.status, 400 | 413), "{response:?}");
        peer.ends();
    }
    server.serves_http();
}

#[test]
fn a_connection_that_is_reset_within_a_request_or_a_response_leaves_nothing() {
    // An unoptimised host may take long for such a large response.
    let server = probe().args(["--event-timeout", "10s"]).start();
    let before = server.descriptors_at_rest();
    for _ in 0..20 {
        let mut peer = server.connect_http();
        peer.send(&with("Content-Length: 100000").into_bytes());
        peer.send(&[b'x'; 1000]);
        peer.reset();
        let mut peer = TcpPeer::connect_narrow(server.address("http"));
        peer.send(message("GET", "/big?n=5000000", &[]).as_bytes());
        peer.take(1000);
        peer.reset();
    }
    server.wait_for_descriptors(before);
    server.serves_http();
    server.stop();
}

#[test]
fn a_client_that_leaves_within_a_call_harms_nobody() {
    let server = probe().start();
    let before = server.descriptors_at_rest();
    for _ in 0..5 {
        let mut peer = server.connect_http();
        peer.send(message("GET", "/busy?ms=40", &[]).as_bytes());
        peer.send(message("GET", "/loop", &[]).as_bytes());
        peer.taken();
        peer.reset();
    }
    server.serves_http();
    server.wait_for_descriptors(before);
    server.stop();
}

#[test]
fn a_client_that_leaves_within_a_request_is_told_of_in_the_log() {
    let server = probe().start();
    for part in ["GET / HT", &with("Content-Length: 10")] {
        let mut peer = server.connect_http();
        peer.send(part.as_bytes());
        peer.finish();
        peer.ends();
    }
    eventually("two lines", || {
        (server.log.count("the client left within a request") == 2).then_some(())
    });
}

// Timeouts.

#[test]
fn a_head_has_its_time_however_it_trickles() {
    let server = probe().args(["--head-timeout", "600ms"]).start();
    let mut silent = server.connect_http();
    let mut slow = server.connect_http();
    let mut later = server.connect_http();
    later.fetch("/request");
    let begun = Instant::now();
    // The time limit of a later request begins with its first byte.
    slow.send(b"GET / HTTP/1.1\r\n");
    later.send(b"GET / HTTP/1.1\r\n");
    for number in slowly(Duration::from_millis(10), 0..40) {
        slow.send(format!("X-{number}: y\r\n").as_bytes());
    }
    let response = slow.response();
    assert!(response.closes());
    assert_eq!(response.status, 408);
    assert!(
        begun.elapsed() > Duration::from_millis(550),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    slow.ends();
    assert_eq!(later.response().status, 408);
    // If nothing was received, there is nothing to answer.
    silent.ends();
    server.log.wait_for(&["408", "head"]);
    server.serves_http();
}

#[test]
fn an_idle_connection_is_closed_at_its_time_and_a_new_request_begins_it_anew() {
    let server = probe()
        .args(["--keep-alive-timeout", "500ms", "--head-timeout", "10s"])
        .start();
    let mut idle = server.connect_http();
    let mut busy = server.connect_http();
    idle.fetch("/request");
    for _ in slowly(Duration::from_millis(50), 0..22) {
        busy.fetch("/request");
    }
    idle.ends();
    busy.fetch("/request");
    let begun = Instant::now();
    busy.ends();
    assert!(
        begun.elapsed() > Duration::from_millis(450),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_body_that_stalls_gets_a_408_and_one_that_is_slow_does_not() {
    let server = probe()
        .args(["--body-timeout", "500ms", "--head-timeout", "10s"])
        .start();
    for start in [with("Content-Length: 10"), chunked("a\r\n")] {
        let mut peer = server.connect_http();
        peer.send(start.as_bytes());
        peer.send(b"01234");
        let response = peer.response();
        assert_eq!(response.status, 408);
        peer.ends();
    }
    server.log.wait_for(&["408", "body"]);
    let mut slow = server.connect_http();
    slow.send(with("Content-Length: 10").as_bytes());
    for digit in slowly(Duration::from_millis(100), b'0'..=b'9') {
        slow.send(&[digit]);
    }
    slow.response().is(200, "0123456789");
}

#[test]
fn a_client_that_never_reads_costs_little_and_is_closed_at_its_time() {
    let server = probe().args(["--write-timeout", "700ms"]).start();
    let at_rest = server.descriptors_at_rest();
    let mut peers: Vec<_> = (0..10)
        .map(|_| TcpPeer::connect_narrow(server.address("http")))
        .collect();
    let before = server.resident();
    for peer in &mut peers {
        peer.send(message("GET", "/big?n=1000000", &[]).repeat(50).as_bytes());
    }
    for _ in 0..50 {
        server.serves_http();
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for ten connections");
    server.log.wait_for(&["--write-timeout"]);
    server.wait_for_descriptors(at_rest);
    for mut peer in peers {
        assert!(peer.lost().len() < 50_000_000);
    }
    server.serves_http();
}

#[test]
fn a_thousand_slow_clients_do_not_slow_a_fast_one() {
    raise_descriptor_limit();
    let server = probe().args(["--workers", "1"]).start();
    let mut fast = server.connect_http();
    let alone = slowest_of(&mut fast);
    let mut slow: Vec<_> = (0..1000).map(|_| server.connect_http()).collect();
    let mut trickle = |bytes: &[u8]| {
        for peer in &mut slow {
            peer.send(bytes);
        }
    };
    trickle(b"GET / HTTP/1.1\r\n");
    let mut beside = Duration::MAX;
    for _ in 0..3 {
        trickle(b"X: y\r\n");
        beside = beside.min(slowest_of(&mut fast));
    }
    assert!(
        beside < Duration::from_millis(50).max(alone * 10),
        "{beside:?} beside a thousand, {alone:?} alone"
    );
    // The slow clients are served, too.
    trickle(b"Host: h\r\n\r\n");
    for peer in &mut slow {
        assert_eq!(peer.response().status, 200);
    }
}

/// Returns the 99th percentile of the time of a request.
fn slowest_of(peer: &mut TcpPeer) -> Duration {
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let begun = Instant::now();
            peer.fetch("/request");
            begun.elapsed()
        })
        .collect();
    times.sort();
    times.get(197).copied().expect("a time")
}

// Faults of guests.

/// Checks that a target gets a 500, with this reason in the log. Checks that
/// the connection goes on with a fresh instance, and that others keep theirs.
#[track_caller]
fn misbehaves_alone(server: &Server, target: &str, reason: &str) {
    let mut other = server.connect_http();
    other.fetch("/count").is(200, "1");
    let mut peer = server.connect_http();
    peer.fetch("/count").is(200, "1");
    peer.fetch("/count").is(200, "2");
    let response = peer.fetch(target).is(500, "500 Internal Server Error");
    assert!(!response.closes(), "{response:?}");
    server.log.wait_for(&["probe", reason]);
    peer.fetch("/count").is(200, "1");
    other.fetch("/count").is(200, "2");
}

#[test]
fn a_guest_that_fails_costs_its_client_one_response() {
    // Long enough to take all the memory first, on a machine that is busy.
    let server = probe().args(["--event-timeout", "1s"]).start();
    for (target, reason) in [
        ("/trap", "panicked"),
        ("/loop", "--event-timeout"),
        ("/flood", "--event-timeout"),
        ("/memory", "--max-memory"),
        ("/stack", "stack"),
        ("/big?n=40000000", "fuel"),
    ] {
        misbehaves_alone(&server, target, reason);
    }
    server.stop();
}

#[test]
fn a_guest_that_fails_under_worker_isolation_leaves_a_place_for_the_next() {
    let server = probe()
        .args(["--isolation", "worker", "--workers", "1"])
        .start();
    // Each connection has used an instance that was lost later. There are fewer
    // places for instances than connections here.
    let mut idle = Vec::new();
    for _ in 0..40 {
        let mut peer = server.connect_http();
        peer.fetch("/count").is(200, "1");
        idle.push(peer);
        server
            .connect_http()
            .fetch("/trap")
            .is(500, "500 Internal Server Error");
    }
    for (number, peer) in idle.iter_mut().enumerate() {
        peer.fetch("/count").is(200, &(number + 1).to_string());
    }
}

#[test]
fn requests_sent_ahead_of_a_guest_that_loops_do_not_hold_up_others() {
    let server = probe()
        .args(["--event-timeout", "50ms", "--workers", "1"])
        .start();
    let mut other = server.connect_http();
    other.fetch("/request");
    let mut peer = server.connect_http();
    peer.send(message("GET", "/loop", &[]).repeat(60).as_bytes());
    peer.response().is(500, "500 Internal Server Error");
    let begun = Instant::now();
    other.fetch("/request");
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    server.serves_http();
    for _ in 1..60 {
        peer.response().is(500, "500 Internal Server Error");
    }
}

#[test]
fn a_guest_cannot_break_the_framing_of_a_response() {
    let server = probe().start();
    let mut peer = server.connect_http();
    for (answer, reason) in [
        ("header=X-A:a%0d%0aX-Smuggled:%20b", "control character"),
        ("header=X-A:a%0aX-Smuggled:b", "control character"),
        ("header=X-A:%0d", "control character"),
        ("header=X-A:a%00b", "control character"),
        ("header=X-A%0d%0aX-Smuggled:b", "no name"),
        ("header=X%20A:b", "no name"),
        ("header=:b", "no name"),
        ("header=Content-Length:3&body=four", "Content-Length"),
        ("header=Content-Length:5&body=four", "Content-Length"),
        ("header=Content-Length:4,4&body=four", "Content-Length"),
        (
            "header=Content-Length:4&header=content-length:5&body=four",
            "Content-Length",
        ),
        (
            "header=Content-Length:4&header=content-length:4&body=four",
            "Content-Length",
        ),
        ("header=Content-Length:1", "Content-Length"),
        (
            "header=Transfer-Encoding:chunked&body=four",
            "Transfer-Encoding",
        ),
        ("header=Trailer:X", "Trailer"),
        ("header=Upgrade:h2c", "Upgrade"),
        ("header=Keep-Alive:timeout=5", "Keep-Alive"),
        ("header=Connection:keep-alive", "Connection"),
        ("header=Connection:close,x", "Connection"),
        (
            "trailer=X-A:a%0d%0aX-Smuggled:b&body=x",
            "control character",
        ),
        ("trailer=Content-Length:1&body=x", "Content-Length"),
        ("status=100", "100"),
        ("status=101", "101"),
        ("status=199", "199"),
        ("status=600", "600"),
        ("status=0", "none of 200 to 599"),
        ("status=204&body=x", "204"),
        ("status=304&body=x", "304"),
    ] {
        let lines = server.log.count("the guest's response cannot be sent");
        let target = format!("/answer?{answer}");
        let response = peer.exchange(message("GET", &target, &["TE: trailers"]));
        assert_eq!(response.header("X-Smuggled"), None, "{answer}");
        let response = response.is(500, "500 Internal Server Error");
        assert!(!response.closes(), "{answer}");
        let line = server.log.wait(harness::DEADLINE, answer, |all| {
            let mut all = all.iter().filter(|line| line.contains("cannot be sent"));
            all.nth(lines).cloned()
        });
        assert!(line.contains(reason), "{answer}: {line}");
    }
    // A valid response passes unchanged.
    let right = "/answer?status=201&header=Content-Length:4&header=X-A:b&header=x-a:c&body=four";
    let response = peer.fetch(right).is(201, "four");
    let headers = response
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("x-a"));
    assert_eq!(headers.count(), 2);
    peer.fetch("/count").is(200, "30");
}

#[test]
fn a_body_beyond_the_write_buffer_is_refused_and_one_that_fills_it_is_not() {
    // An unoptimised host takes long for this much.
    let limits = ["--max-write-buffer", "1MiB", "--event-timeout", "10s"];
    let server = probe().args(limits).start();
    // Each large body is queued behind a small one, for a client that does not
    // read yet.
    let mut peer = TcpPeer::connect_narrow(server.address("http"));
    let small = message("GET", "/big?n=60000", &[]);
    let full = message("GET", "/big?n=1048576", &[]);
    let more = message("GET", "/big?n=1048577", &[]);
    peer.send(format!("{small}{full}{small}{full}{more}").as_bytes());
    server.serves_http();
    for length in [60_000, 1 << 20, 60_000, 1 << 20] {
        assert_eq!(peer.response().body.len(), length);
    }
    peer.response().is(500, "500 Internal Server Error");
    server.log.wait_for(&["--max-write-buffer"]);
}

#[test]
fn what_a_guest_keeps_open_is_bounded() {
    let scratch = directory();
    write(scratch.path(), "file", "x");
    let dir = format!("{}::/", harness::text(scratch.path()));
    let server = probe().args(["--dir", &dir, "--max-handles", "20"]).start();
    let before = server.descriptors_at_rest();
    let mut peer = server.connect_http();
    peer.fetch("/leak?path=/file")
        .is(200, "limit-exceeded after 20");
    drop(peer);
    server.wait_for_descriptors(before);
}

#[test]
fn what_a_guest_prints_reaches_the_log_and_not_the_client() {
    let server = probe().start();
    let mut peer = server.connect_http();
    peer.fetch("/log?text=a%20word").is(200, "logged");
    server.log.wait_for(&["probe", "a word"]);
    let response = peer.fetch("/trap");
    assert!(!String::from_utf8_lossy(&response.body).contains("told"));
    server.log.wait_for(&["probe", "as it was told"]);
}

#[test]
fn a_file_that_cannot_be_opened_is_told_by_a_status() {
    let scratch = directory();
    write(scratch.path(), "file", "x");
    let dir = format!("{}::/", harness::text(scratch.path()));
    let server = probe().args(["--dir", &dir]).start();
    let mut peer = server.connect_http();
    for path in ["/none", "/../etc/passwd", "/file/below", "", "/file%00"] {
        let response = peer.fetch(&format!("/path?file={path}"));
        assert!(matches!(response.status, 403 | 404), "{path}: {response:?}");
    }
    peer.fetch("/path?file=/file").is(200, "x");
}

// Startup.

#[test]
fn a_listener_without_its_export_is_an_error_that_names_both() {
    for flag in ["--http", "--https"] {
        let run = Run::guest("proxy").listen(flag, "127.0.0.1:0");
        let finished = run.certificate("cert.pem", "key.pem").output();
        finished.refused(1, &["proxy.wasm", "http-handler", flag]);
    }
    let finished = Run::guest("router").tcp().output();
    finished.refused(1, &["router.wasm", "tcp-handler", "--tcp"]);
    let finished = Run::guest("router").output();
    finished.refused(2, &["--http"]);
}

#[test]
fn a_port_in_use_is_named() {
    let first = probe().start();
    let address = first.address("http").to_string();
    let finished = Run::guest("probe").args(["--http", &address]).output();
    finished.refused(1, &[&address, "another program"]);
    let run = Run::guest("probe").args(["--https", &address]);
    let finished = run.certificate("cert.pem", "key.pem").output();
    finished.refused(1, &[&address, "another program"]);
    first.serves_http();
}

#[test]
fn noise_is_refused_and_harms_nobody() {
    let server = probe().start();
    let mut other = server.connect_http();
    for seed in 0..20_usize {
        let mut peer = server.connect_http();
        let noise = pattern(4096 + seed);
        // The server may close the connection before all of it is sent.
        let _ = peer.get().write_all(noise.get(seed..).expect("noise"));
        peer.lost();
        other.fetch("/request");
    }
    let mut peer = server.connect_http();
    peer.send(&post("/length", &pattern(1 << 20)));
    peer.response().is(200, "1048576");
}
