//! Bodies of requests and responses, with their trailers.

use super::probe;
use crate::harness::{TcpPeer, message, pattern, post, same};

#[test]
fn a_body_by_length_comes_back_however_it_is_cut() {
    let server = probe().start();
    let mut peer = server.connect_http();
    for length in [0, 1, 1000, 65_536, 1 << 20] {
        let body = pattern(length);
        let response = peer.exchange(post("/body", &body));
        same(&response.body, &body);
    }
    let bytes = post("/body", b"0123456789");
    for cut in 0..bytes.len() {
        let (first, last) = bytes.split_at(cut);
        peer.send(first);
        peer.taken();
        peer.exchange(last).is(200, "0123456789");
    }
    for byte in bytes.chunks(1) {
        peer.send(byte);
    }
    peer.response().is(200, "0123456789");
}

#[test]
fn a_chunked_body_comes_back_however_it_is_cut() {
    let server = probe().start();
    let mut peer = server.connect_http();
    let head = message("POST", "/body", &["Transfer-Encoding: chunked"]);
    let chunks = "5;name=value;other=\"x\"\r\nhello\r\n00A\r\n, chunked \r\n1\r\n!\r\n0\r\n\r\n";
    let bytes = format!("{head}{chunks}").into_bytes();
    for cut in 0..bytes.len() {
        let (first, last) = bytes.split_at(cut);
        peer.send(first);
        peer.taken();
        peer.exchange(last).is(200, "hello, chunked !");
    }
    for byte in bytes.chunks(1) {
        peer.send(byte);
    }
    peer.response().is(200, "hello, chunked !");
    // The next request follows at once.
    let next = message("GET", "/request", &[]);
    peer.send(&[bytes, next.into_bytes()].concat());
    peer.response().is(200, "hello, chunked !");
    peer.response().is(200, "GET /request 1.1 http localhost");
    let response = peer.exchange(format!("{head}0\r\n\r\n"));
    response.is(200, "");

    let body = pattern(1 << 20);
    let mut bytes = head.into_bytes();
    for chunk in body.chunks(70_000) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    same(&peer.exchange(bytes).body, &body);
}

#[test]
fn trailers_go_both_ways_where_they_may() {
    let server = probe().start();
    let mut peer = server.connect_http();
    let body = "3\r\nabc\r\n0\r\nX-Check: 900150983\r\nX-Sum: 294\r\nContent-Length: 7\r\n\r\n";
    let chunked = "Transfer-Encoding: chunked";
    let with = message("POST", "/trailers", &[chunked, "TE: trailers"]);
    let response = peer.exchange(format!("{with}{body}"));
    // A trailer that would frame the message is dropped.
    let response = response.is(200, "X-Check: 900150983\nX-Sum: 294");
    assert_eq!(response.header("Trailer"), Some("X-Check, X-Sum"));
    let trailers = response.trailers.iter();
    let trailers: Vec<_> = trailers
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(trailers, ["X-Check=900150983", "X-Sum=294"]);
    // A client that does not ask for trailers gets none.
    let without = message("POST", "/trailers", &[chunked]);
    let response = peer.exchange(format!("{without}{body}"));
    let response = response.is(200, "X-Check: 900150983\nX-Sum: 294");
    assert_eq!(response.header("Trailer"), None);
    assert_eq!(response.trailers, []);
    // A response without a body has no trailers.
    for status in ["204", "205", "304"] {
        let target = format!("/answer?status={status}&body=&trailer=X-A:1");
        let response = peer.exchange(message("GET", &target, &["TE: trailers"]));
        assert_eq!(response.header("Transfer-Encoding"), None);
    }
    let target = "/answer?body=b&trailer=X-A:1";
    peer.send(message("HEAD", target, &["TE: trailers"]).as_bytes());
    peer.response_to_head();
    let response = peer.exchange(message("GET", target, &["TE: trailers"]));
    assert_eq!(response.trailers.len(), 1);
}

#[test]
fn head_gets_the_head_of_what_get_gets() {
    let server = probe().start();
    let mut peer = server.connect_http();
    for target in ["/big?n=100", "/big?n=1000000", "/nowhere", "/trap"] {
        let mut get = peer.fetch(target);
        peer.send(message("HEAD", target, &[]).as_bytes());
        let mut head = peer.response_to_head();
        for response in [&mut get, &mut head] {
            response.headers.retain(|(name, _)| name != "Date");
        }
        assert_eq!((head.status, head.headers), (get.status, get.headers));
    }
    // For HEAD, a guest need not make the body, and so may get no length.
    for target in ["/big?n=0", "/answer?status=201"] {
        assert_eq!(peer.fetch(target).header("Content-Length"), Some("0"));
        peer.send(message("HEAD", target, &[]).as_bytes());
        assert_eq!(peer.response_to_head().header("Content-Length"), None);
    }
    let target = "/answer?header=Content-Length:1234";
    peer.send(message("HEAD", target, &[]).as_bytes());
    assert_eq!(
        peer.response_to_head().header("Content-Length"),
        Some("1234")
    );
    // A refusal of HEAD has no body either.
    peer.send(message("HEAD", "/", &["Content-Length: 9999999"]).as_bytes());
    assert_eq!(peer.response_to_head().status, 413);
    peer.ends();
}

#[test]
fn statuses_without_a_body_have_none() {
    let server = probe().start();
    let mut peer = server.connect_http();
    for status in [204, 304] {
        let response = peer.fetch(&format!("/answer?status={status}"));
        assert_eq!(response.status, status);
    }
    let response = peer.fetch("/answer?status=205");
    assert_eq!(response.header("Content-Length"), Some("0"));
    let response = peer.fetch("/answer?status=299&body=odd");
    response.is(299, "odd");
    // A body with these statuses is a fault of the guest.
    for status in [204, 205, 304] {
        let response = peer.fetch(&format!("/answer?status={status}&body=x"));
        response.is(500, "500 Internal Server Error");
    }
}

#[test]
fn a_client_that_waits_is_told_to_go_on() {
    let server = probe().args(["--max-body", "1KiB"]).start();
    let mut peer = server.connect_http();
    let expecting = |length: usize| {
        let length = format!("Content-Length: {length}");
        message("POST", "/body", &["Expect: 100-continue", &length])
    };
    peer.send(expecting(4).as_bytes());
    peer.goes_on();
    peer.exchange("body").is(200, "body");
    let chunked = ["Expect: 100-Continue", "Transfer-Encoding: chunked"];
    peer.send(message("POST", "/body", &chunked).as_bytes());
    peer.goes_on();
    peer.exchange("2\r\nab\r\n0\r\n\r\n").is(200, "ab");
    // No `100 Continue` if the body has already arrived, or is empty.
    peer.exchange(format!("{}body", expecting(4)))
        .is(200, "body");
    peer.exchange(expecting(0)).is(200, "");
    peer.exchange(message("GET", "/request", &["Expect: 100-continue"]));
    // A body that is too large is refused without `100 Continue`.
    let response = peer.exchange(expecting(1025));
    assert!(response.closes());
    assert_eq!(response.status, 413);
    peer.ends();

    let mut peer = server.connect_http();
    let unknown = ["Expect: 200-ok", "Content-Length: 4"];
    assert_eq!(
        peer.exchange(message("POST", "/body", &unknown)).status,
        417
    );
    peer.ends();
}

#[test]
fn large_responses_to_pipelined_requests_wait_for_the_client() {
    let server = probe().start();
    let mut peer = TcpPeer::connect_narrow(server.address("http"));
    // 200 responses of 1 MiB each.
    peer.send(message("GET", "/big?n=1048576", &[]).repeat(200).as_bytes());
    peer.take(1);
    let before = server.resident();
    // Meanwhile the server answers others, and this client only as fast as it
    // reads.
    for _ in 0..200 {
        server.serves_http();
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes");
    drop(peer);
    server.serves_http();
}
