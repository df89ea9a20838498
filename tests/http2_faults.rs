//! HTTP/2 clients that break rules, send floods, or are slow.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::harness::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, PING, POST, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, ask, begin, frame, literal, next_frame, next_of, read,
    settings,
};
use crate::harness::{self, Client, Http2, Run, Server, TcpPeer, Upstream, pattern};
use bytes::Bytes;
use h2::Reason;
use http::HeaderValue;

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
    let begun = Instant::now();
    for number in 0..2000 {
        let stream = 2 * number + 1;
        let mut pair = frame(HEADERS, WHOLE, stream, GET);
        pair.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        peer.send(&pair);
        if number % 10 == 0 {
            peer.taken();
        }
    }
    assert_eq!(next_of(&mut peer, GOAWAY).code(), ENHANCE_YOUR_CALM);
    assert!(begun.elapsed() < Duration::from_secs(20));
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
fn a_head_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let server = probe().start();
    let mut client = Http2::connect(server.address("http"));
    let mut large = ask("GET", "/");
    for number in 0..9 {
        let name = http::HeaderName::try_from(format!("x-{number}")).expect("a name");
        let value = HeaderValue::try_from("v".repeat(4000)).expect("a value");
        large.headers_mut().insert(name, value);
    }
    assert_eq!(client.exchange(large, b"").status, 431);
    let mut many = ask("GET", "/");
    for _ in 0..101 {
        many.headers_mut()
            .append("x", HeaderValue::from_static("y"));
    }
    assert_eq!(client.exchange(many, b"").status, 431);
    let long = format!("/{}", "x".repeat(9000));
    assert_eq!(client.fetch(&long).status, 414);
    client.fetch("/length").is(200, "0");
    drop(client);
    server.stop();
}

#[test]
fn a_malformed_request_costs_its_stream() {
    let server = probe().start();
    let with = |field: Vec<u8>| [GET, field.as_slice()].concat();
    let heads = [
        ("connection", with(literal("connection", "close"))),
        (
            "transfer-encoding",
            with(literal("transfer-encoding", "chunked")),
        ),
        ("upgrade", with(literal("upgrade", "h2c"))),
        ("keep-alive", with(literal("keep-alive", "5"))),
        ("te", with(literal("te", "gzip"))),
        (
            "proxy-connection",
            with(literal("proxy-connection", "close")),
        ),
        ("two lengths", {
            let lengths = ["0", "1"].map(|it| literal("content-length", it));
            with(lengths.concat())
        }),
        ("a signed length", with(literal("content-length", "+0"))),
        ("a length without a body", {
            with(literal("content-length", "1"))
        }),
        ("no method", b"\x86\x84\x01\x09localhost".to_vec()),
        ("an empty path", {
            let path = literal(":path", "");
            [b"\x82\x86", &*path, b"\x01\x09localhost"].concat()
        }),
        ("a malformed authority", {
            [b"\x82\x86\x84", &*literal(":authority", "a b")].concat()
        }),
        ("a path after a field", {
            [b"\x82\x86", &*literal("x", "y"), b"\x84\x01\x09localhost"].concat()
        }),
        ("no path", b"\x82\x86\x01\x09localhost".to_vec()),
        ("no scheme", b"\x82\x84\x01\x09localhost".to_vec()),
        ("two paths", with(b"\x84".to_vec())),
        ("a status", with(b"\x88".to_vec())),
        ("extended CONNECT", {
            let mut head = literal(":method", "CONNECT");
            head.extend(b"\x86\x84\x01\x09localhost");
            head.extend(literal(":protocol", "websocket"));
            head
        }),
    ];
    for (what, head) in heads {
        let mut peer = raw(&server);
        peer.send(&frame(HEADERS, WHOLE, 1, &head));
        let told = next_of(&mut peer, RST_STREAM);
        assert_eq!((told.stream, told.code()), (1, PROTOCOL_ERROR), "{what}");
        peer.send(&frame(HEADERS, WHOLE, 3, GET));
        let response = next_of(&mut peer, HEADERS);
        assert_eq!(response.stream, 3, "{what}");
    }
    server.stop();
}

#[test]
fn malformed_trailers_cost_their_stream() {
    let server = probe().start();
    for (flags, trailers) in [
        (WHOLE, literal("connection", "close")),
        (END_HEADERS, literal("x-sum", "3")),
        // Pseudo-header fields are not allowed in trailers: RFC 9113, section
        // 8.1.
        (WHOLE, b"\x84".to_vec()),
        (
            WHOLE,
            [literal(":path", "/"), literal("x-sum", "3")].concat(),
        ),
        (WHOLE, literal(":status", "200")),
    ] {
        let mut peer = raw(&server);
        peer.send(&frame(HEADERS, END_HEADERS, 1, POST));
        peer.send(&frame(HEADERS, flags, 1, &trailers));
        let told = next_of(&mut peer, RST_STREAM);
        assert_eq!((told.stream, told.code()), (1, PROTOCOL_ERROR));
        peer.send(&frame(HEADERS, WHOLE, 3, GET));
        assert_eq!(next_of(&mut peer, HEADERS).stream, 3);
    }
    server
        .log
        .wait_for(&["request refused", "malformed body or trailers"]);
    server.stop();
}

#[test]
fn what_http_2_lets_a_client_say_is_answered() {
    let server = probe().start();
    for field in [("te", "trailers"), ("x-empty", ""), ("content-length", "0")] {
        let mut peer = raw(&server);
        let head = [GET, &literal(field.0, field.1)].concat();
        peer.send(&frame(HEADERS, WHOLE, 1, &head));
        let response = next_of(&mut peer, HEADERS).payload;
        // `:status 200`, in HPACK.
        assert_eq!(response.first(), Some(&0x88), "{field:?}");
    }
    server.stop();
}

#[test]
fn a_body_of_another_length_than_was_told_costs_its_stream() {
    let server = probe().start();
    for (length, body) in [("3", "abcd"), ("5", "abcd")] {
        let mut peer = raw(&server);
        let head = [POST, &literal("content-length", length)].concat();
        peer.send(&frame(HEADERS, END_HEADERS, 1, &head));
        peer.send(&frame(DATA, END_STREAM, 1, body.as_bytes()));
        let told = next_of(&mut peer, RST_STREAM);
        assert_eq!((told.stream, told.code()), (1, PROTOCOL_ERROR));
    }
    server.stop();
}

#[test]
fn what_http_1_1_would_not_answer_is_refused() {
    for run in [probe(), Run::guest("service-probe").http()] {
        let server = run.start();
        let mut client = Http2::connect(server.address("http"));
        let mut other = ask("GET", "/");
        let host = HeaderValue::from_static("other.example");
        other.headers_mut().insert("host", host);
        assert_eq!(client.exchange(other, b"").status, 400);
        let mut expects = ask("POST", "/");
        let more = HeaderValue::from_static("more");
        expects.headers_mut().insert("expect", more);
        assert_eq!(client.exchange(expects, b"").status, 417);
        let mut padded = ask("GET", "/");
        let value = HeaderValue::from_static("value ");
        padded.headers_mut().insert("x-name", value);
        assert_eq!(client.exchange(padded, b"").status, 400);
        let mut peer = raw(&server);
        peer.send(&frame(HEADERS, WHOLE, 1, b"\x82\x86\x84"));
        let refused = next_of(&mut peer, HEADERS).payload;
        // `:status 400`, in HPACK.
        assert_eq!(refused.first(), Some(&0x8c), "nobody is asked");
        assert_eq!(client.exchange(ask("CONNECT", ""), b"").status, 501);
        server
            .log
            .wait_for(&["request refused", "this is no proxy"]);
        drop(client);
        server.stop();
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_before_or_while_it_comes() {
    for (run, path) in kinds() {
        let server = run.args(["--max-body", "100kB"]).start();
        let mut client = Http2::connect(server.address("http"));
        let mut told = ask("POST", path);
        let length = HeaderValue::from_static("200000");
        told.headers_mut().insert("content-length", length);
        let (response, stream) = client.begin(told, false).expect("begun");
        assert_eq!(client.run(read(response)).expect("a response").status, 413);
        drop(stream);
        let (response, mut stream) = client.begin(ask("POST", path), false).expect("begun");
        stream
            .send_data(Bytes::from(pattern(120_000)), false)
            .expect("sent");
        assert_eq!(client.run(read(response)).expect("a response").status, 413);
        let all = client.exchange(ask("POST", path), &pattern(90_000));
        all.is(200, "90000");
        drop(client);
        server.stop();
    }
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
        let (response, mut stream) = client.begin(ask("POST", "/"), false).expect("begun");
        let piece = Bytes::from(pattern(2000));
        stream.send_data(piece, false).expect("sent");
        assert_eq!(
            client.run(read(response)).expect("a response").status,
            status
        );
        // More than the stream's window. The server still reads all of it.
        let rest = Bytes::from(pattern(MIB));
        let sent = client.run(harness::http2::send_all(&mut stream, rest, true));
        sent.expect("all of it is taken");

        // If a body does not end, the server resets the stream without an
        // error.
        let (response, mut stream) = client.begin(ask("POST", "/"), false).expect("begun");
        let piece = Bytes::from(pattern(2000));
        stream.send_data(piece, false).expect("sent");
        assert_eq!(
            client.run(read(response)).expect("a response").status,
            status
        );
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
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
        drop(client);
        server.stop();
    }
}

#[test]
fn a_body_that_stays_away_is_waited_for_a_while() {
    for (run, path) in kinds() {
        let server = run.args(["--body-timeout", "300ms"]).start();
        let mut client = Http2::connect(server.address("http"));
        let (response, mut stream) = client.begin(ask("POST", path), false).expect("begun");
        stream
            .send_data(Bytes::from_static(b"a"), false)
            .expect("sent");
        let response = client.run(read(response)).expect("a response");
        assert_eq!(response.status, 408);
        client.fetch("/nowhere");
        drop(client);
        server.stop();
    }
}

#[test]
fn a_body_that_keeps_coming_is_waited_for_however_slow() {
    for (run, path) in kinds() {
        let limits = ["--body-timeout", "600ms", "--response-timeout", "600ms"];
        let server = run.args(limits).start();
        let mut client = Http2::connect(server.address("http"));
        let (response, mut stream) = client.begin(ask("POST", path), false).expect("begun");
        for number in 0..8 {
            client.rest(Duration::from_millis(200));
            stream
                .send_data(Bytes::from_static(b"a"), number == 7)
                .expect("sent");
        }
        client.run(read(response)).expect("a response").is(200, "8");
        drop(client);
        server.stop();
    }
}

#[test]
fn a_body_that_is_given_up_costs_its_request_alone() {
    for (run, path) in kinds() {
        let server = run.start();
        let mut client = Http2::connect(server.address("http"));
        let (given_up, mut stream) = client.begin(ask("POST", path), false).expect("begun");
        let (response, mut beside) = client.begin(ask("POST", path), false).expect("begun");
        for stream in [&mut stream, &mut beside] {
            let piece = Bytes::from(pattern(40_000));
            stream.send_data(piece, false).expect("sent");
        }
        client.settle();
        stream.send_reset(Reason::CANCEL);
        client.run(read(given_up)).expect_err("no response");
        client.settle();
        // Long before `--body-timeout`.
        server.log.wait_for(&["the client left within a request"]);
        let rest = harness::http2::send_all(&mut beside, pattern(200_000).into(), true);
        client.run(rest).expect("sent");
        let all = client.run(read(response)).expect("a response");
        all.is(200, "240000");
        drop(client);
        server.stop();
    }
}

#[test]
fn a_body_ends_with_what_a_client_sends() {
    for (run, path) in kinds() {
        let server = run.start();
        let mut peer = raw(&server);
        let path = literal(":path", path);
        let head = [b"\x83\x86", &*path, b"\x01\x09localhost"].concat();
        peer.send(&frame(HEADERS, END_HEADERS, 1, &head));
        peer.send(&frame(DATA, 0, 1, b"abc"));
        peer.taken();
        peer.finish();
        // Long before `--body-timeout`, and without a response to a partial
        // body.
        server.log.wait_for(&["the client left within a request"]);
        next_of(&mut peer, GOAWAY);
        peer.rest();
        let mut peer = raw(&server);
        peer.send(&frame(HEADERS, END_HEADERS, 1, &head));
        let cut = frame(DATA, 0, 1, b"abc");
        peer.send(cut.get(..10).expect("its beginning"));
        peer.finish();
        peer.lost();
        server.stop();
    }
}

#[test]
fn a_client_that_is_gone_is_not_waited_for() {
    for guest in ["proxy-probe", "service-probe"] {
        let server = Run::guest(guest).http().args(["--workers", "1"]).start();
        let at_rest = server.descriptors_at_rest();
        let mut gone = raw(&server);
        let head = b"\x82\x86\x04\x06/never\x01\x09localhost";
        gone.send(&frame(HEADERS, WHOLE, 1, head));
        // The client has read everything, so that closing its socket sends no
        // reset.
        let (mut heard, mut enlarged) = (false, false);
        while !(heard && enlarged) {
            let frame = next_frame(&mut gone);
            heard |= frame.kind == SETTINGS && frame.flags == 1;
            enlarged |= frame.kind == WINDOW_UPDATE;
        }
        gone.taken();
        drop(gone);
        // Long before `--response-timeout`.
        server.wait_for_descriptors(at_rest);
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
fn a_client_that_takes_little_at_a_time_loses_nothing() {
    for (run, path) in [
        (probe(), "/big?n=8000"),
        (Run::guest("proxy-probe").http(), "/bytes?8000"),
        (Run::guest("service-probe").http(), "/bytes?8000"),
    ] {
        let server = run.args(["--write-timeout", "600ms"]).start();
        let mut settings = settings();
        settings.initial_window_size(1000);
        let mut client = Http2::with(server.address("http"), &settings);
        let (response, _stream) = client.begin(ask("GET", path), true).expect("begun");
        let mut body = client.run(response).expect("a response").into_body();
        let mut length = 0;
        while let Some(piece) = client.run(body.data()) {
            let piece = piece.expect("no error");
            length += piece.len();
            client.rest(Duration::from_millis(150));
            let taken = body.flow_control().release_capacity(piece.len());
            taken.expect("it was taken");
        }
        assert_eq!(length, 8000);
        drop(client);
        server.stop();
    }
}

#[test]
fn many_large_bodies_at_once_all_arrive() {
    let server = probe().start();
    let mut client = Http2::connect(server.address("http"));
    let begun: Vec<_> = (0..50)
        .map(|_| client.begin(ask("POST", "/length"), false).expect("begun"))
        .collect();
    let body = Bytes::from(pattern(MIB));
    let all = begun.into_iter().map(|(response, mut stream)| {
        let body = body.clone();
        async move {
            let send = harness::http2::send_all(&mut stream, body, true);
            tokio::join!(read(response), send).0
        }
    });
    for response in client.run(futures_util::future::join_all(all)) {
        response.expect("a response").is(200, "1048576");
    }
    drop(client);
    server.stop();
}

#[test]
fn a_client_that_opens_no_window_loses_its_stream() {
    for (run, path) in [
        (probe(), "/big?n=200000"),
        (Run::guest("proxy-probe").http(), "/bytes?200000"),
        (Run::guest("service-probe").http(), "/bytes?200000"),
    ] {
        let server = run.args(["--write-timeout", "300ms"]).start();
        let mut settings = settings();
        settings.initial_window_size(0);
        let mut client = Http2::with(server.address("http"), &settings);
        let (response, _stream) = client.begin(ask("GET", path), true).expect("begun");
        let error = client.run(read(response)).expect_err("no whole response");
        assert_eq!(error.reason(), Some(Reason::CANCEL));
        let head = client.exchange(ask("HEAD", path), b"");
        assert_eq!(head.status, 200, "the connection goes on");
        drop(client);
        server.stop();
    }
}

#[test]
fn what_is_kept_for_clients_that_open_no_window_is_bounded() {
    let server = probe()
        .args(["--write-timeout", "300ms", "--event-timeout", "5s"])
        .start();
    let before = server.resident() as usize;
    let mut settings = settings();
    settings.initial_window_size(0);
    let mut client = Http2::with(server.address("http"), &settings);
    let (open, _streams): (Vec<_>, Vec<_>) = (0..100)
        .map(|_| {
            let begun = client.begin(ask("GET", "/big?n=2000000"), true);
            begun.expect("begun")
        })
        .unzip();
    // Every response begins, because earlier ones make room.
    let responses = client.run(futures_util::future::join_all(open));
    server.idles();
    let grown = (server.resident() as usize).saturating_sub(before);
    assert!(grown < 100 * MIB, "{grown} bytes are kept");
    serves(&server);
    drop((responses, client));
    server.stop();
}

#[test]
fn a_client_that_reads_nothing_from_its_socket_loses_its_connection() {
    let server = probe()
        .args(["--write-timeout", "300ms", "--event-timeout", "5s"])
        .start();
    let mut peer = raw(&server);
    let window = 0x7fff_0000_u32.to_be_bytes();
    peer.send(&frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    peer.send(&frame(WINDOW_UPDATE, 0, 0, &window));
    let head = b"\x82\x86\x04\x0f/big?n=15000000\x01\x09localhost";
    peer.send(&frame(HEADERS, WHOLE, 1, head));
    server.log.wait_for(&["connection lost", "--write-timeout"]);
    server.stop();
}

#[test]
fn an_idle_connection_is_told_and_ended() {
    let server = probe().args(["--keep-alive-timeout", "300ms"]).start();
    let mut client = Http2::connect(server.address("http"));
    client.fetch("/length");
    client.ends().expect("a good end");
    // This client does not answer the server's PING.
    let mut peer = raw(&server);
    assert_eq!(next_of(&mut peer, GOAWAY).code(), 0);
    peer.rest();
    server.stop();
}

#[test]
fn a_client_that_never_begins_is_not_waited_for() {
    let server = Run::guest("probe")
        .http()
        .https()
        .args(["--head-timeout", "300ms"])
        .start();
    let mut peer = Client::of("localhost")
        .alpn("h2")
        .connect(server.address("https"));
    // Only the server's SETTINGS, then the end.
    assert!(peer.rest().len() < 100);
    let mut peer = server.connect_http();
    peer.send(b"PRI * HTTP/2.0\r\n\r\nSM");
    peer.rest();
    drop(peer);
    server.stop();
}

#[test]
fn a_head_that_does_not_come_to_its_end_ends_the_connection() {
    let server = probe().args(["--head-timeout", "300ms"]).start();
    let mut peer = raw(&server);
    peer.send(&frame(HEADERS, END_STREAM, 1, GET));
    assert_eq!(next_of(&mut peer, GOAWAY).code(), ENHANCE_YOUR_CALM);
    let mut peer = raw(&server);
    let whole = frame(HEADERS, WHOLE, 1, GET);
    peer.send(whole.get(..12).expect("its beginning"));
    assert_eq!(next_of(&mut peer, GOAWAY).code(), ENHANCE_YOUR_CALM);
    server.stop();
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
fn a_response_without_content_tells_no_length() {
    let upstream = Upstream::answering("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n");
    let server = Run::guest("reverse-proxy")
        .http()
        .args(["--allow-connect", "127.0.0.1:*"])
        .guest_args(&[&upstream.url("")])
        .start();
    let response = Http2::connect(server.address("http")).fetch("/");
    assert_eq!(response.status, 204);
    assert_eq!(response.header("content-length"), None);
    server.stop();
}

#[test]
fn nothing_is_left_of_clients_that_leave() {
    for (guest, upload, download) in [
        ("probe", "/length", "/big?n=10000000"),
        ("proxy-probe", "/sum", "/bytes?100000000"),
        ("service-probe", "/sum", "/bytes?100000000"),
    ] {
        let server = Run::guest(guest).http().args(["--workers", "1"]).start();
        let at_rest = server.descriptors_at_rest();
        for number in 0..40 {
            let mut client = Http2::connect(server.address("http"));
            let (_, mut stream) = client.begin(ask("POST", upload), false).expect("begun");
            stream
                .send_data(Bytes::from_static(b"abc"), false)
                .expect("sent");
            let (response, _) = client.begin(ask("GET", download), true).expect("begun");
            if number % 2 == 0 {
                client.run(response).expect("a response");
            }
            if number % 4 == 1 {
                stream.send_reset(Reason::CANCEL);
                client.settle();
            }
        }
        server.wait_for_descriptors(at_rest);
        server.idles();
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
    let server = probe().start();
    let mut busy = Http2::connect(server.address("http"));
    let mut all: VecDeque<_> = (0..100)
        .map(|_| busy.begin(ask("GET", "/busy?ms=50"), true).expect("begun"))
        .collect();
    let (first, _stream) = all.pop_front().expect("a request");
    busy.run(read(first)).expect("a response");
    let begun = Instant::now();
    serves(&server);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    drop(busy);
    server.stop();
}
