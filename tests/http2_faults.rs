//! HTTP/2 clients that break rules, send floods, or are slow.

mod malformed;
mod slow;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use http::HeaderValue;

use crate::harness::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, PING, POST, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, ask, begin, frame, literal, next_frame, next_of, read,
};
use crate::harness::{self, Http2, Run, Server, TcpPeer, is_quick, pattern, took_less};

const MIB: usize = 1 << 20;

const WHOLE: u8 = END_STREAM | END_HEADERS;

const PROTOCOL_ERROR: u32 = 1;

const CANCEL: u32 = 8;

const ENHANCE_YOUR_CALM: u32 = 11;

const REFUSED_STREAM: u32 = 7;

fn probe() -> Run {
    Run::guest("probe").http().args(["--workers", "1"])
}

/// Returns a guest of each kind, and the path at which it reports a body's
/// length.
fn kinds() -> impl Iterator<Item = (Run, &'static str)> {
    let kinds = [
        ("probe", "/length"),
        ("proxy-probe", "/sum"),
        ("service-probe", "/sum"),
    ];
    kinds
        .into_iter()
        .map(|(guest, path)| (Run::guest(guest).http().args(["--workers", "1"]), path))
}

/// Returns a connection whose frames the test writes by hand.
fn raw(server: &Server) -> TcpPeer {
    let mut peer = server.connect_http();
    begin(&mut peer);
    peer
}

/// Checks that another client is served.
#[track_caller]
fn serves(server: &Server) {
    let mut other = Http2::connect(server.address("http"));
    other.fetch("/length").is(200, "0");
}

/// Checks that a flood ends the connection with `ENHANCE_YOUR_CALM`, takes
/// little memory, and leaves another client served.
#[track_caller]
fn is_too_much(server: &Server, what: &str, flood: &[u8]) {
    let before = server.resident();
    let mut peer = raw(server);
    peer.send(flood);
    serves(server);
    let told = next_of(&mut peer, GOAWAY);
    assert_eq!(told.code(), ENHANCE_YOUR_CALM, "{what}");
    peer.rest();
    let grown = server.resident().saturating_sub(before) as usize;
    assert!(grown < 16 * MIB, "{grown} bytes more after {what}");
    serves(server);
}

#[test]
fn a_flood_of_frames_that_bring_nothing_ends_the_connection() {
    let server = probe().start();
    let update = 1_u32.to_be_bytes();
    let mut reset = Vec::new();
    for number in 0..3000 {
        reset.extend(frame(HEADERS, WHOLE, 2 * number + 1, GET));
        let cancel = CANCEL.to_be_bytes();
        reset.extend(frame(RST_STREAM, 0, 2 * number + 1, &cancel));
    }
    let many = |one: Vec<u8>| one.repeat(3000);
    let open = frame(HEADERS, END_HEADERS, 1, POST);
    let floods = [
        ("PING frames", many(frame(PING, 0, 0, &[0; 8]))),
        ("answers to no PING", many(frame(PING, 1, 0, &[0; 8]))),
        (
            "SETTINGS frames",
            many(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ),
        (
            "PRIORITY frames",
            many(frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9])),
        ),
        (
            "WINDOW_UPDATE frames",
            many(frame(WINDOW_UPDATE, 0, 0, &update)),
        ),
        ("unknown frames", many(frame(77, 0, 0, b"x"))),
        ("resets", reset),
        (
            "empty DATA",
            [open.clone(), many(frame(DATA, 0, 1, b""))].concat(),
        ),
        (
            "padding",
            [open.clone(), many(frame(DATA, 8, 1, b"\x02\0\0"))].concat(),
        ),
    ];
    for (what, flood) in floods {
        is_too_much(&server, what, &flood);
    }
    server
        .log
        .wait_for(&["connection refused", "too many PING frames"]);
    server.stop();
}

#[test]
fn a_head_in_endless_pieces_ends_the_connection() {
    let server = probe().start();
    let mut flood = frame(HEADERS, 0, 1, GET);
    flood.extend(frame(CONTINUATION, 0, 1, b"").repeat(3000));
    is_too_much(&server, "empty CONTINUATION", &flood);
    server.stop();
}

#[test]
fn requests_that_are_given_up_again_and_again_end_the_connection() {
    let server = Run::guest("proxy-probe").http().start();
    let mut peer = raw(&server);
    // Few enough at once that they are taken, and many more in all than the server
    // puts up with, however long that takes.
    let mut rounds = (0..2000).map(|round| 10 * round..10 * (round + 1));
    let goaway = loop {
        let mut round = Vec::new();
        for number in rounds.next().expect("a GOAWAY before that") {
            let stream = 2 * number + 1;
            round.extend(frame(HEADERS, WHOLE, stream, GET));
            round.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        }
        round.extend(frame(PING, 0, 0, b"all read"));
        peer.send(&round);
        let told = loop {
            let frame = next_frame(&mut peer);
            if matches!(frame.kind, PING | GOAWAY) {
                break frame;
            }
        };
        if told.kind == GOAWAY {
            break told;
        }
    };
    assert_eq!(goaway.code(), ENHANCE_YOUR_CALM);
    server.stop();
}

#[test]
fn requests_that_are_given_up_all_at_once_leave_the_connection_to_others() {
    let server = probe().start();
    let mut peer = raw(&server);
    let mut all = Vec::new();
    for number in 0..90 {
        let stream = 2 * number + 1;
        all.extend(frame(HEADERS, WHOLE, stream, GET));
        all.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }
    all.extend(frame(HEADERS, WHOLE, 1001, GET));
    peer.send(&all);
    loop {
        let told = next_frame(&mut peer);
        assert_ne!(told.kind, GOAWAY);
        if (told.kind, told.stream) == (HEADERS, 1001) {
            break;
        }
    }
    server.stop();
}

#[test]
fn streams_that_the_server_has_to_reset_end_the_connection_in_the_end() {
    let server = probe().start();
    let mut flood = Vec::new();
    for number in 0..3000 {
        let stream = 2 * number + 1;
        flood.extend(frame(HEADERS, WHOLE, stream, GET));
        // This makes the stream's window too large.
        let most = 0x7fff_ffff_u32.to_be_bytes();
        flood.extend(frame(WINDOW_UPDATE, 0, stream, &most));
    }
    let mut peer = raw(&server);
    peer.send(&flood);
    assert_eq!(next_of(&mut peer, GOAWAY).code(), ENHANCE_YOUR_CALM);
    serves(&server);
    server.stop();
}

#[test]
fn more_streams_than_are_allowed_are_refused() {
    let server = Run::guest("proxy-probe").http().start();
    let mut peer = raw(&server);
    for number in 0..101 {
        let head = b"\x83\x86\x04\x06/never\x01\x09localhost";
        peer.send(&frame(HEADERS, END_HEADERS, 2 * number + 1, head));
    }
    let refused = next_of(&mut peer, RST_STREAM);
    assert_eq!((refused.stream, refused.code()), (201, REFUSED_STREAM));
    drop(peer);
    server.stop();
}

#[test]
fn a_client_that_still_sends_when_it_has_its_answer_is_not_reset_at_once() {
    for (run, status) in [
        (probe().args(["--max-body", "1kB"]), 413),
        (Run::guest("proxy-probe").http(), 404),
        (Run::guest("service-probe").http(), 404),
    ] {
        let server = run.start();
        let mut client = Http2::connect(server.address("http"));
        let begin = |client: &mut Http2| {
            let (response, mut stream) = client.begin(ask("POST", "/"), false).expect("begun");
            let piece = Bytes::from(pattern(2000));
            stream.send_data(piece, false).expect("sent");
            let response = client.run(read(response)).expect("a response");
            assert_eq!(response.status, status);
            stream
        };
        let mut stream = begin(&mut client);
        // More than the stream's window. The server still reads all of it.
        let rest = Bytes::from(pattern(MIB));
        let sent = client.run(harness::http2::send_all(&mut stream, rest, true));
        sent.expect("all of it is taken");

        // If a body does not end, the server resets the stream without an
        // error.
        let mut stream = begin(&mut client);
        let reset = client.run(std::future::poll_fn(|cx| stream.poll_reset(cx)));
        assert_eq!(reset.expect("a reset"), Reason::NO_ERROR);
        client.fetch("/nowhere");
        drop(client);
        server.stop();
    }
}

#[test]
fn the_end_of_an_answer_without_a_length_is_not_told_before_the_body_has_come() {
    for guest in ["proxy-probe", "service-probe"] {
        let server = Run::guest(guest).http().start();
        let mut client = Http2::connect(server.address("http"));
        let mut told = ask("POST", "/bytes?10");
        let length = HeaderValue::from_static("300000");
        told.headers_mut().insert("content-length", length);
        let (response, mut stream) = client.begin(told, false).expect("begun");
        let mut body = client.run(response).expect("a response").into_body();
        // The whole response body, but not its end.
        let piece = client.run(body.data()).expect("a piece").expect("a piece");
        assert_eq!(piece.len(), 10, "{guest}");
        client.fetch("/nowhere");
        assert!(!body.is_end_stream(), "{guest}");
        let all = Bytes::from(pattern(300_000));
        let (sent, end) = client.run(async {
            let send = harness::http2::send_all(&mut stream, all, true);
            tokio::join!(send, body.data())
        });
        sent.expect("all of it is taken");
        let end = end.unwrap_or_else(|| Ok(Bytes::new()));
        assert_eq!(end.expect("an end"), Bytes::new());
        assert!(body.is_end_stream(), "{guest}");
        client.fetch("/nowhere");

        // If the request gives no length, the server does not wait for its
        // body.
        let begun = Instant::now();
        let (response, mut stream) = client
            .begin(ask("POST", "/bytes?10"), false)
            .expect("begun");
        let response = client.run(read(response)).expect("a response");
        assert_eq!(response.body.len(), 10);
        let reset = client.run(std::future::poll_fn(|cx| stream.poll_reset(cx)));
        assert_eq!(reset.expect("a reset"), Reason::NO_ERROR);
        took_less(begun, Duration::from_secs(10));
        drop(client);
        server.stop();
    }
}

#[test]
fn a_response_that_is_given_up_is_not_made_to_its_end() {
    for guest in ["proxy-probe", "service-probe"] {
        let server = Run::guest(guest).http().args(["--workers", "1"]).start();
        let mut client = Http2::connect(server.address("http"));
        let asked = ask("GET", "/bytes?1000000000");
        let (response, mut stream) = client.begin(asked, true).expect("begun");
        let response = client.run(response).expect("a response");
        stream.send_reset(Reason::CANCEL);
        drop(response);
        client.fetch("/hello").is(200, "hello");
        server.idles();
        client.fetch("/hello").is(200, "hello");
        drop(client);
        server.stop();
    }
}

#[test]
fn a_guest_that_takes_too_long_costs_its_request() {
    for guest in ["proxy-probe", "service-probe"] {
        let run = Run::guest(guest).http();
        let server = run.args(["--response-timeout", "300ms"]).start();
        let mut client = Http2::connect(server.address("http"));
        client.fetch("/never").is(504, "504 Gateway Timeout");
        client.fetch("/hello").is(200, "hello");
        server.log.wait_for(&["--response-timeout"]);
        drop(client);
        server.stop();
    }
}

#[test]
fn an_instance_at_nothing_but_what_was_given_up_ends() {
    let server = Run::guest("service-probe")
        .http()
        .args(["--workers", "1", "--max-connections", "4"])
        .start();
    // There are at most as many instances as connections.
    for _ in 0..12 {
        let mut client = Http2::connect(server.address("http"));
        let (never, stream) = client.begin(ask("GET", "/never"), true).expect("a stream");
        let (late, _) = client
            .begin(ask("GET", "/late?50"), true)
            .expect("a stream");
        drop((never, stream));
        assert_eq!(client.run(read(late)).expect("a response").status, 200);
    }
    let hello = Http2::connect(server.address("http")).fetch("/hello");
    assert_eq!(hello.status, 200);
    server.stop();
}

#[test]
fn one_connection_cannot_take_the_places_of_all_others() {
    for guest in ["proxy-probe", "service-probe"] {
        let server = Run::guest(guest)
            .http()
            .args(["--isolation", "request", "--workers", "1"])
            .args(["--max-connections", "4", "--max-connection-instances", "2"])
            .start();
        let mut greedy = Http2::connect(server.address("http"));
        let never: Vec<_> = (0..10)
            .map(|_| greedy.begin(ask("GET", "/never"), true).expect("begun"))
            .collect();
        greedy.settle();
        // The greedy connection has two of the four places.
        let mut others = [server.connect_http(), server.connect_http()];
        for other in &mut others {
            other.fetch("/hello").is(200, "hello");
        }
        drop((never, greedy));
        server.stop();
    }
}

#[test]
fn what_is_no_http_2_after_the_preface_ends_the_connection() {
    let server = probe().start();
    for bytes in [
        frame(PING, 0, 0, b"short"),
        frame(DATA, 0, 1, b"of no stream"),
        frame(HEADERS, WHOLE, 2, GET),
        frame(HEADERS, WHOLE, 1, b"\xff\xff\xff\xff\xff"),
        frame(HEADERS, WHOLE, 1, &[GET, &literal("X-Name", "1")].concat()),
        frame(HEADERS, WHOLE, 1, &[GET, &literal(":name", "1")].concat()),
        frame(SETTINGS, 0, 0, b"odd"),
        b"\xff\xff\xff\0\0\0\0\0\x01".to_vec(),
    ] {
        let mut peer = raw(&server);
        peer.send(&bytes);
        assert_ne!(next_of(&mut peer, GOAWAY).code(), 0, "{bytes:?}");
        peer.rest();
    }
    serves(&server);
    server.stop();
}

#[test]
fn a_busy_connection_leaves_others_their_turn() {
    is_quick(Duration::from_secs(2), || {
        let server = probe().start();
        let mut busy = Http2::connect(server.address("http"));
        let mut all: VecDeque<_> = (0..100)
            .map(|_| busy.begin(ask("GET", "/busy?ms=50"), true).expect("begun"))
            .collect();
        let (first, _stream) = all.pop_front().expect("a request");
        busy.run(read(first)).expect("a response");
        let begun = Instant::now();
        serves(&server);
        let took = begun.elapsed();
        drop(busy);
        server.stop();
        took
    });
}
