//! Ends: of a client, of its session, and of the server.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::Signal;

use super::{awaiting, probe};
use crate::harness::http2::{self, ask, read};
use crate::harness::{Client, Http2, Run, TcpPeer, is_quick};

/// Asks for a path on a stream. True if the head of the response ends the stream.
fn head_ends(peer: &mut TcpPeer, stream: u32, path: &str) -> bool {
    let path = http2::literal(":path", path);
    let head = [b"\x82\x86", &*path, b"\x01\x09localhost"].concat();
    peer.send(&http2::frame(http2::HEADERS, 5, stream, &head));
    let head = http2::next_of(peer, http2::HEADERS);
    assert_eq!(head.stream, stream);
    head.flags & http2::END_STREAM != 0
}

/// gRPC's "Trailers-Only" is such a head.
#[test]
fn the_head_of_a_response_without_contents_ends_its_stream() {
    let server = Run::guest("service-probe").http().start();
    let mut peer = server.connect_http();
    http2::begin(&mut peer);
    assert!(head_ends(&mut peer, 1, "/status?200"));
    assert!(head_ends(&mut peer, 3, "/test.Calls/Denied"));
    // It is known to fail before its head is sent, so that this is a 500.
    assert!(!head_ends(&mut peer, 5, "/empty-fails"));
    assert!(
        !head_ends(&mut peer, 7, "/empty-trailers"),
        "trailers follow"
    );
    let trailers = http2::next_of(&mut peer, http2::HEADERS);
    assert_eq!((trailers.stream, trailers.flags), (7, 5));
    drop(peer);
    server.stop();
}

#[test]
fn the_head_of_a_response_whose_contents_end_at_once_ends_its_stream() {
    let server = Run::guest("service-probe").http().start();
    let mut peer = server.connect_http();
    http2::begin(&mut peer);
    assert!(head_ends(&mut peer, 1, "/bytes?0"), "nothing was written");
    // A piece that is there before the head is sent follows it.
    assert!(!head_ends(&mut peer, 3, "/bytes?3"));
    let body = http2::next_of(&mut peer, http2::DATA);
    assert_eq!((body.stream, &*body.payload), (3, &b"xxx"[..]));
    drop(peer);
    server.stop();
}

#[test]
fn a_client_that_sends_nothing_more_still_gets_its_responses() {
    for (guest, slow, large, length) in [
        ("probe", "/busy?ms=50", "/big?n=60000", "/length"),
        ("proxy-probe", "/late?300", "/bytes?60000", "/sum"),
        ("service-probe", "/late?300", "/bytes?60000", "/sum"),
    ] {
        let server = Run::guest(guest).http().start();
        // The end arrives before the response has begun, or after.
        for (path, begun) in [(slow, false), (large, false), (large, true)] {
            let mut peer = server.connect_http();
            http2::begin(&mut peer);
            let head = |method: &[u8], path| {
                let path = http2::literal(":path", path);
                [method, b"\x86", &path, b"\x01\x09localhost"].concat()
            };
            let whole = http2::frame(http2::HEADERS, 5, 1, &head(b"\x82", path));
            // Next to it, a request that never ends.
            let cut = http2::frame(http2::HEADERS, 4, 3, &head(b"\x83", length));
            if begun {
                peer.send(&whole);
                assert_eq!(http2::next_of(&mut peer, http2::HEADERS).stream, 1);
                peer.send(&cut);
                peer.finish();
            } else {
                peer.send(&[whole, cut].concat());
                peer.finish();
                assert_eq!(http2::next_of(&mut peer, http2::HEADERS).stream, 1);
            }
            let mut ended = false;
            while !ended {
                let data = http2::next_of(&mut peer, http2::DATA);
                assert_eq!(data.stream, 1);
                ended = data.flags & http2::END_STREAM != 0;
            }
            assert_eq!(http2::next_of(&mut peer, http2::GOAWAY).code(), 0);
            // If the response was sent first, frames of a graceful shutdown
            // follow, and room for the body of the other request.
            let rest = peer.rest();
            let mut rest = rest.as_slice();
            while let &[high, middle, low, kind, _, ref stream @ ..] = rest {
                assert!(
                    matches!(kind, http2::PING | http2::GOAWAY | http2::WINDOW_UPDATE)
                        && stream.starts_with(&[0; 4]),
                    "{guest} {path:?}: a frame of type {kind} after the end: {rest:?}"
                );
                let length = u32::from_be_bytes([0, high, middle, low]) as usize;
                rest = rest.get(9 + length..).unwrap_or_default();
            }
        }
        let mut peer = server.connect_http();
        http2::begin(&mut peer);
        peer.finish();
        peer.rest();
        assert_eq!(server.log.count("connection lost"), 0);
        server.stop();
    }
}

#[test]
fn a_client_that_ends_its_session_still_gets_its_responses() {
    let server = Run::guest("service-probe").https().start();
    let mut peer = Client::of("localhost")
        .alpn("h2")
        .connect(server.address("https"));
    http2::begin(&mut peer);
    let path = http2::literal(":path", "/late?300");
    let head = [b"\x82\x86", &*path, b"\x01\x09localhost"].concat();
    peer.send(&http2::frame(http2::HEADERS, 5, 1, &head));
    peer.finish();
    let body = http2::next_of(&mut peer, http2::DATA);
    assert_eq!((body.stream, &*body.payload), (1, &b"late\n"[..]));
    peer.rest();
    server.stop();
}

#[test]
fn a_client_may_say_that_it_is_going_and_gets_its_responses() {
    for server in awaiting() {
        let mut peer = server.connect_http();
        http2::begin(&mut peer);
        let path = http2::literal(":path", "/late?300");
        let head = [b"\x82\x86", &*path, b"\x01\x09localhost"].concat();
        peer.send(&http2::frame(http2::HEADERS, 5, 1, &head));
        peer.send(&http2::frame(http2::GOAWAY, 0, 0, &[0; 8]));
        let body = http2::next_of(&mut peer, http2::DATA);
        assert_eq!((body.stream, &*body.payload), (1, &b"late\n"[..]));
        peer.rest();
        drop(peer);
        server.stop();
    }
}

#[test]
fn a_guest_that_wants_the_connection_to_end_gets_that() {
    let server = probe();
    let mut client = Http2::connect(server.address("http"));
    let response = client.fetch("/answer?header=Connection:close&body=b");
    assert_eq!(response.header("connection"), None);
    client.ends().expect("a good end");
    server.stop();
}

#[test]
fn a_server_that_is_to_end_finishes_what_is_under_way() {
    for mut server in awaiting() {
        let mut client = Http2::connect(server.address("http"));
        let (late, _) = client.begin(ask("GET", "/late?700"), true).expect("begun");
        client.settle();
        server.signal(Signal::TERM);
        client.run(read(late)).expect("a response").is(200, "late");
        client.ends().expect("a good end");
        assert!(server.wait().success());
    }
}

#[test]
fn a_server_that_is_to_end_takes_the_rest_of_a_body() {
    for (guest, path) in [
        ("probe", "/length"),
        ("proxy-probe", "/sum"),
        ("service-probe", "/sum"),
    ] {
        let mut server = Run::guest(guest).http().start();
        let mut client = Http2::connect(server.address("http"));
        let (response, mut stream) = client.begin(ask("POST", path), false).expect("begun");
        let mut send = |piece: &'static [u8], ends| {
            stream
                .send_data(Bytes::from_static(piece), ends)
                .expect("sent");
        };
        send(b"abc", false);
        client.settle();
        server.signal(Signal::TERM);
        server.log.wait_for(&["draining"]);
        send(b"def", false);
        client.settle();
        // After this piece, the server may end, and answers nothing more.
        send(b"ghi", true);
        client.run(read(response)).expect("a response").is(200, "9");
        client.ends().expect("a good end");
        assert!(server.wait().success());
    }
}

#[test]
fn what_takes_too_long_at_the_end_is_cut_off() {
    let server = Run::guest("proxy-probe")
        .http()
        .args(["--shutdown-timeout", "300ms"])
        .start();
    let mut client = Http2::connect(server.address("http"));
    let (never, _) = client.begin(ask("GET", "/never"), true).expect("begun");
    client.settle();
    server.signal(Signal::TERM);
    client.run(read(never)).expect_err("no response");
}

#[test]
fn idle_connections_end_with_the_server() {
    let mut server = probe();
    let mut client = Http2::connect(server.address("http"));
    client.fetch("/request");
    server.signal(Signal::TERM);
    client.ends().expect("a good end");
    assert!(server.wait().success());
}

/// The client acknowledges nothing, and keeps its side open.
#[test]
fn an_idle_client_that_says_nothing_does_not_hold_up_the_end() {
    is_quick(Duration::from_secs(3), || {
        let mut server = probe();
        let mut peer = server.connect_http();
        http2::begin(&mut peer);
        assert!(!head_ends(&mut peer, 1, "/request"));
        http2::next_of(&mut peer, http2::DATA);
        let begun = Instant::now();
        server.signal(Signal::TERM);
        assert!(server.wait().success());
        begun.elapsed()
    });
}
