//! Faults of HTTP clients and guests, intended or not: each gets its due
//! response, and nobody else notices.

mod guests;
mod requests;

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::harness::{
    Run, TcpPeer, eventually, message, pattern, post, raise_descriptor_limit, slowly, took_less,
    took_more,
};

fn probe() -> Run {
    Run::guest("probe").http()
}

const GET: &str = "GET /request HTTP/1.1\r\nHost: h\r\n\r\n";

/// Returns a request with these header lines.
fn with(lines: &str) -> String {
    format!("POST /body HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n")
}

/// Returns a request with this chunked body.
fn chunked(body: &str) -> String {
    format!("{}{body}", with("Transfer-Encoding: chunked"))
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
    let server = probe().args(["--head-timeout", "1s"]).start();
    let mut later = server.connect_http();
    later.fetch("/request");
    let begun = Instant::now();
    let mut silent = server.connect_http();
    let mut slow = server.connect_http();
    // The time limit of a later request begins with its first byte.
    slow.send(b"GET / HTTP/1.1\r\n");
    later.send(b"GET / HTTP/1.1\r\n");
    for number in slowly(Duration::from_millis(10), 0..40) {
        slow.send(format!("X-{number}: y\r\n").as_bytes());
    }
    let response = slow.response();
    assert!(response.closes());
    assert_eq!(response.status, 408);
    took_more(begun, Duration::from_millis(950));
    took_less(begun, Duration::from_secs(15));
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
        .args(["--keep-alive-timeout", "1s", "--head-timeout", "30s"])
        .start();
    let mut idle = server.connect_http();
    let mut busy = server.connect_http();
    idle.fetch("/request");
    for _ in slowly(Duration::from_millis(50), 0..32) {
        busy.fetch("/request");
    }
    idle.ends();
    let begun = Instant::now();
    busy.fetch("/request");
    busy.ends();
    took_more(begun, Duration::from_millis(950));
}

#[test]
fn a_body_that_stalls_gets_a_408_and_one_that_is_slow_does_not() {
    let server = probe()
        .args(["--body-timeout", "1s", "--head-timeout", "30s"])
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
    for digit in slowly(Duration::from_millis(150), b'0'..=b'9') {
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
    let limits = ["--workers", "1", "--head-timeout", "5m"];
    let server = probe().args(limits).start();
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
