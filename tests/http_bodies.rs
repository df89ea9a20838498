//! Bodies of responses that an event guest sends piece by piece, over both
//! protocols.

use crate::harness::http2::{Http2, ask};
use crate::harness::{Run, Server, TcpPeer, eventually, message, same};

/// Starts a server whose connections share an instance, so that one request can
/// control another.
pub(crate) fn body_probe(options: &[&str]) -> Server {
    Run::guest("body-probe")
        .http()
        .args(["--isolation", "worker", "--workers", "1"])
        .args(options)
        .start()
}

pub(crate) fn http2(server: &Server) -> Http2 {
    Http2::connect(server.address("http"))
}

/// Has the guest do something, by a connection of its own.
#[track_caller]
pub(crate) fn tell(server: &Server, target: &str) -> String {
    let response = server.connect_http().fetch(target);
    assert_eq!(response.status, 200, "{target}: {response:?}");
    response.text().to_owned()
}

/// Begins a request, and returns its stream.
fn begin(client: &mut Http2, target: &str) -> impl Sized + use<> {
    client.begin(ask("GET", target), true).expect("a stream")
}

/// Returns the body that `/stream?n=N` sends.
fn numbers(count: usize) -> Vec<u8> {
    (0..count).map(|place| place as u8).collect()
}

#[test]
fn a_body_arrives_whole_and_in_order_however_it_is_framed() {
    for options in [&[][..], &["--isolation", "connection"]] {
        let server = Run::guest("body-probe").http().args(options).start();
        let mut peer = server.connect_http();
        let mut client = http2(&server);
        for n in [0, 1, 5000, 100_000, 3 << 20] {
            for target in [
                format!("/stream?n={n}"),
                format!("/stream?n={n}&length={n}"),
                format!("/stream?n={n}&piece=1000000"),
            ] {
                let chunked = peer.fetch(&target);
                let coding = chunked.header("transfer-encoding");
                assert_eq!(coding.is_some(), !target.contains("length"), "{target}");
                same(&chunked.body, &numbers(n));
                let framed = client.fetch(&target);
                same(&framed.body, &numbers(n));
                let length = target.contains("length").then(|| n.to_string());
                assert_eq!(framed.header("content-length"), length.as_deref());
            }
        }
        // The end of the connection ends a body of HTTP/1.0.
        let mut old = server.connect_http();
        old.send(b"GET /stream?n=5000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let all = old.rest();
        let head = String::from_utf8_lossy(all.get(..200).expect("a head"));
        assert!(head.to_lowercase().contains("connection: close"), "{head}");
        assert!(all.ends_with(&numbers(5000)));
        drop((peer, client));
        server.stop();
    }
}

#[test]
fn each_piece_goes_out_at_once() {
    let server = body_probe(&[]);
    let mut peer = server.connect_http();
    peer.send(message("GET", "/stream?token=1", &[]).as_bytes());
    while !peer.line().is_empty() {}
    assert_eq!(tell(&server, "/send?token=1&data=first"), "65530");
    assert_eq!(peer.take(11), b"6\r\nfirst\n\r\n");
    assert_eq!(tell(&server, "/send?token=1&data=second"), "65529");
    assert_eq!(peer.take(12), b"7\r\nsecond\n\r\n");
    assert_eq!(tell(&server, "/finish?token=1"), "done");
    assert_eq!(peer.take(5), b"0\r\n\r\n");
    peer.fetch("/").is(200, "true 0");
    let mut client = http2(&server);
    let stream = client.begin(ask("GET", "/stream?token=2"), true);
    let (response, _) = stream.expect("a stream");
    let mut body = client.run(response).expect("its head").into_body();
    for word in ["first", "second"] {
        tell(&server, &format!("/send?token=2&data={word}"));
        let piece = client.run(body.data()).expect("a piece").expect("whole");
        assert_eq!(piece, format!("{word}\n"));
    }
    tell(&server, "/finish?token=2");
    assert!(
        client
            .run(body.data())
            .is_none_or(|it| it.is_ok_and(|it| it.is_empty()))
    );
    drop((peer, client));
    server.stop();
}

#[test]
fn server_sent_events_are_easy() {
    let server = Run::guest("body-probe").http().start();
    let mut peer = server.connect_http();
    let expected = "data: 1\n\ndata: 2\n\ndata: 3\n";
    let events = peer.fetch("/events?count=3&ms=20").is(200, expected);
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
    http2(&server)
        .fetch("/events?count=3&ms=20")
        .is(200, expected);
    // A client that half-closes still gets them all.
    peer.send(message("GET", "/events?count=3&ms=500", &[]).as_bytes());
    peer.finish();
    let text = String::from_utf8(peer.rest()).expect("text");
    assert!(
        text.contains("data: 3") && text.ends_with("0\r\n\r\n"),
        "{text}"
    );
    server.stop();
}

#[test]
fn trailers_follow_a_streamed_body() {
    let server = body_probe(&[]);
    let target = "/stream?n=10&trailer=x-sum:45&trailer=x-end:yes";
    let trailers = [("x-sum", "45"), ("x-end", "yes")];
    let trailers = trailers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut peer = server.connect_http();
    let wanted = message("GET", target, &["TE: trailers"]);
    assert_eq!(peer.exchange(&wanted).trailers, trailers);
    assert!(peer.fetch(target).trailers.is_empty());
    let mut client = http2(&server);
    assert_eq!(client.fetch(target).trailers, trailers);
    // One that frames is an error, and does not end the body.
    let mut other = server.connect_http();
    other.send(message("GET", "/stream?token=1", &[]).as_bytes());
    while !other.line().is_empty() {}
    let wrong = tell(&server, "/finish?token=1&trailer=content-length:1");
    assert_eq!(wrong, "ErrorCode::InvalidArgument");
    assert_eq!(tell(&server, "/finish?token=1"), "done");
    assert_eq!(tell(&server, "/finish?token=1"), "ErrorCode::InvalidState");
    assert_eq!(other.take(5), b"0\r\n\r\n");
    drop((peer, client, other));
    server.stop();
}

#[test]
fn a_client_that_does_not_read_stops_the_guest() {
    let server = body_probe(&[]);
    let n = 64 << 20;
    let before = server.resident();
    let mut peer = TcpPeer::connect_narrow(server.address("http"));
    peer.send(message("GET", &format!("/stream?token=1&n={n}"), &[]).as_bytes());
    peer.stalled();
    server.idles();
    let calls = tell(&server, "/writable?token=1");
    let mut client = http2(&server);
    let stream = client.begin(ask("GET", &format!("/stream?token=2&n={n}")), true);
    let (response, _) = stream.expect("a stream");
    let response = client.run(response).expect("a head");
    client.settle();
    server.idles();
    let framed = tell(&server, "/writable?token=2");
    assert_eq!(tell(&server, "/writable?token=1"), calls, "it stands still");
    assert_eq!(
        tell(&server, "/writable?token=2"),
        framed,
        "it stands still"
    );
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    let mut body = response.into_body();
    let mut count = 0;
    while count < n {
        let piece = client.run(body.data()).expect("more").expect("whole");
        let expected = count as u8;
        assert_eq!(piece.first(), Some(&expected));
        count += piece.len();
        let flow = body.flow_control();
        flow.release_capacity(piece.len()).expect("its window");
    }
    peer.response()
        .body
        .iter()
        .enumerate()
        .for_each(|(place, &byte)| {
            assert!(place as u8 == byte, "at {place}");
        });
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    drop((peer, client));
    server.stop();
}

#[test]
fn a_guest_that_sends_regardless_has_its_body_cut() {
    let server = body_probe(&["--max-write-buffer", "1MiB"]);
    let target = "/stream?token=1&n=8000000&piece=100000&rude";
    let mut peer = TcpPeer::connect_narrow(server.address("http"));
    peer.send(message("GET", target, &[]).as_bytes());
    server.log.wait_for(&["--max-write-buffer"]);
    let rest = peer.lost();
    assert!(rest.len() < 8_000_000 && !rest.ends_with(b"0\r\n\r\n"));
    server.log.wait_for(&["abandoned 1"]);
    let target = target.replace("token=1", "token=2");
    let mut client = http2(&server);
    client
        .try_exchange(ask("GET", &target), b"")
        .expect_err("a reset");
    server.log.wait_for(&["abandoned 2"]);
    client.fetch("/").is(200, "true 0");
    drop((peer, client));
    server.stop();
}

#[test]
fn a_body_that_is_not_ended_does_not_look_whole() {
    for end in ["trap", "exit", "fail"] {
        for n in [0, 10, 1 << 20] {
            let server = body_probe(&[]);
            let target = format!("/stream?n={n}&end={end}");
            let mut peer = server.connect_http();
            peer.send(message("GET", &target, &[]).as_bytes());
            let rest = peer.lost();
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{target}");
            assert!(rest.len() > n, "{target}: what was sent before arrives");
            let mut old = server.connect_http();
            old.send(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes());
            old.cut();
            let mut client = http2(&server);
            let error = client.try_exchange(ask("GET", &target), b"");
            let error = error.expect_err("a reset");
            assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{target}");
            client.fetch("/").is(200, "true 0");
            drop(client);
            server.stop();
        }
    }
}

#[test]
fn a_body_of_another_length_than_was_told_is_cut() {
    let server = body_probe(&[]);
    for target in [
        "/stream?n=10&length=20",
        "/stream?n=20&length=10",
        "/stream?n=20&header=content-length:30",
    ] {
        let mut peer = server.connect_http();
        peer.send(message("GET", target, &[]).as_bytes());
        while !peer.line().is_empty() {}
        assert!(peer.lost().len() <= 20, "{target}");
        let mut client = http2(&server);
        client
            .try_exchange(ask("GET", target), b"")
            .expect_err("a reset");
        client.fetch("/").is(200, "true 0");
    }
    server.log.wait_for_count("ends before its end", 6);
    server.stop();
}

#[test]
fn the_guest_is_told_that_nobody_reads_on() {
    let server = body_probe(&[]);
    let mut peer = server.connect_http();
    peer.send(message("GET", "/stream?token=1", &[]).as_bytes());
    while !peer.line().is_empty() {}
    drop(peer);
    server.log.wait_for(&["abandoned 1"]);
    let mut client = http2(&server);
    let stream = begin(&mut client, "/stream?token=2");
    client.settle();
    drop(stream);
    client.settle();
    server.log.wait_for(&["abandoned 2"]);
    assert_eq!(tell(&server, "/send?token=1&data=x"), u64::MAX.to_string());
    assert_eq!(tell(&server, "/finish?token=2"), "ErrorCode::InvalidState");
    client.fetch("/").is(200, "true 0");
    drop(client);
    server.stop();
}

#[test]
fn a_client_that_wants_no_body_gets_its_head() {
    let server = body_probe(&[]);
    let mut peer = server.connect_http();
    let mut client = http2(&server);
    for (token, told) in [(1, None), (3, Some("10"))] {
        let length = told.map_or("", |_| "&length=10");
        let target = format!("/stream?token={token}&n=10{length}");
        peer.send(message("HEAD", &target, &[]).as_bytes());
        assert_eq!(peer.response_to_head().header("content-length"), told);
        server.log.wait_for(&[&format!("abandoned {token}")]);
        let target = format!("/stream?token={}&n=10{length}", token + 1);
        let head = client.exchange(ask("HEAD", &target), b"");
        assert_eq!((head.header("content-length"), head.body.len()), (told, 0));
        server.log.wait_for(&[&format!("abandoned {}", token + 1)]);
    }
    for (token, target) in [
        (5, "/stream?token=5&status=204"),
        (6, "/stream?token=6&status=304"),
        (7, "/stream?token=7&header=upgrade:x"),
    ] {
        assert_eq!(peer.fetch(target).status, 500, "{target}");
        server.log.wait_for(&[&format!("abandoned {token}")]);
        assert_eq!(client.fetch(target).status, 500, "{target}");
    }
    peer.fetch("/").is(200, "true 0");
    let closes = peer.fetch("/stream?n=10&header=connection:close");
    assert!(closes.closes() && closes.body == numbers(10));
    peer.ends();
    drop(client);
    server.stop();
}

#[test]
fn a_deferred_request_is_answered_piece_by_piece() {
    let server = body_probe(&[]);
    let mut peer = server.connect_http();
    peer.send(message("GET", "/defer?token=1", &[]).as_bytes());
    eventually("it is deferred", || {
        let told = tell(&server, "/respond?token=1&stream&n=100000");
        (told == "done").then_some(())
    });
    same(&peer.response().body, &numbers(100_000));
    peer.fetch("/").is(200, "true 0");
    let mut client = http2(&server);
    let stream = client.begin(ask("GET", "/defer?token=2"), true);
    let (response, _) = stream.expect("a stream");
    client.settle();
    eventually("it is deferred", || {
        let told = tell(&server, "/respond?token=2&stream&n=100000");
        (told == "done").then_some(())
    });
    let response = client.run(crate::harness::http2::read(response));
    same(&response.expect("a response").body, &numbers(100_000));
    drop((peer, client));
    server.stop();
}

#[test]
fn a_silent_guest_is_not_waited_for() {
    let server = body_probe(&["--response-body-timeout", "1500ms"]);
    let mut peer = server.connect_http();
    peer.send(message("GET", "/stream?token=1", &[]).as_bytes());
    assert!(!peer.lost().ends_with(b"0\r\n\r\n"));
    server.log.wait_for(&["abandoned 1"]);
    let mut client = http2(&server);
    client
        .try_exchange(ask("GET", "/stream?token=2"), b"")
        .expect_err("a reset");
    server.log.wait_for(&["abandoned 2"]);
    assert_eq!(server.log.count("--response-body-timeout"), 2);
    // Events keep it alive.
    let events = client.fetch("/events?count=6&ms=300");
    assert!(events.text().contains("data: 6"));
    drop(client);
    server.stop();
}

#[test]
fn streamed_responses_are_pipelined_and_multiplexed() {
    let server = body_probe(&[]);
    let mut peer = server.connect_http();
    let all: String = [100, 200_000, 3]
        .map(|n| message("GET", &format!("/stream?n={n}"), &[]))
        .concat();
    peer.send(all.as_bytes());
    for n in [100, 200_000, 3] {
        same(&peer.response().body, &numbers(n));
    }
    let mut client = http2(&server);
    for response in client.fetch_at_once("/stream?n=300000", 20) {
        same(&response.body, &numbers(300_000));
    }
    drop((peer, client));
    server.stop();
}

#[test]
fn a_token_that_is_in_use_for_a_body_traps() {
    let server = body_probe(&[]);
    let mut client = http2(&server);
    let first = begin(&mut client, "/stream?token=1");
    client.settle();
    assert_eq!(client.fetch("/stream?token=1").status, 500);
    server.log.wait_for(&["cannot be streamed"]);
    client.fetch("/").is(200, "true 0");
    drop((first, client));
    server.stop();
}

#[test]
fn a_drain_waits_for_streamed_bodies() {
    let mut server = body_probe(&[]);
    let mut peer = server.connect_http();
    peer.send(message("GET", "/events?count=4&ms=200", &[]).as_bytes());
    while !peer.line().is_empty() {}
    server.signal(rustix::process::Signal::TERM);
    let rest = String::from_utf8(peer.rest()).expect("text");
    assert!(
        rest.contains("data: 4") && rest.ends_with("0\r\n\r\n"),
        "{rest}"
    );
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_head_of_too_many_fields_is_refused_and_harms_nobody() {
    // A debug build takes longer than 100 ms for so many.
    let server = body_probe(&[
        "--send-informational",
        "--max-head",
        "4MiB",
        "--event-timeout",
        "30s",
    ]);
    let mut client = http2(&server);
    for (round, fields) in [1001, 24_577, 40_000].into_iter().enumerate() {
        let target = format!("/stream?n=1&fields={fields}");
        assert_eq!(server.connect_http().fetch(&target).status, 500);
        assert_eq!(client.fetch(&target).status, 500);
        let target = format!("/hint?token=1&fields={fields}");
        let mut peer = server.connect_http();
        peer.send(message("GET", &target, &[]).as_bytes());
        server
            .log
            .wait_for_count("interim response cannot be sent", round + 1);
        tell(&server, "/respond?token=1&text=after");
        peer.response().is(200, "after");
    }
    server
        .log
        .wait_for(&["1001 headers or trailers are more than 1000"]);
    assert_eq!(client.fetch("/stream?n=1&fields=1000").status, 200);
    assert_eq!(server.log.count("panicked"), 0);
    drop(client);
    server.stop();
}
