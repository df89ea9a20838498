//! Bodies of requests that an event guest reads as they arrive, over both
//! protocols, and interim responses.

mod interim;
mod refused;

use std::future::poll_fn;
use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;

use crate::harness::http2::{ask, read, send_all};
use crate::harness::{Run, Server, eventually, message, pattern, post, same};
use crate::http_bodies::{body_probe, http2, tell};

/// Returns the head of a POST.
fn head(target: &str, lines: &[&str]) -> String {
    message("POST", target, lines)
}

/// Returns a chunked POST.
fn chunked(target: &str, chunks: &[&[u8]], trailers: &str) -> Vec<u8> {
    let mut bytes = head(target, &["Transfer-Encoding: chunked"]).into_bytes();
    for chunk in chunks {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(format!("0\r\n{trailers}\r\n").bytes());
    bytes
}

/// Returns what `/upload` answers to a body.
fn summary(body: &[u8]) -> String {
    let hash = body.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{} {hash:016x}", body.len())
}

/// Waits until the guest has got so many bytes of a body.
#[track_caller]
fn wait_for(server: &Server, token: u64, bytes: u64) {
    let target = format!("/received?token={token}");
    let bytes = bytes.to_string();
    eventually(&format!("{bytes} bytes"), || {
        (tell(server, &target) == bytes).then_some(())
    });
}

#[test]
fn a_body_is_read_whole_and_in_order_however_it_is_framed() {
    for options in [&[][..], &["--isolation", "worker"]] {
        let server = Run::guest("body-probe")
            .http()
            .args(["--max-body", "64MiB"])
            .args(options)
            .start();
        let mut peer = server.connect_http();
        let mut client = http2(&server);
        for size in [1, 1000, 100_000, 5 << 20] {
            let body = pattern(size);
            let target = "/upload?credit=65536&more=65536";
            peer.exchange(post(target, &body)).is(200, &summary(&body));
            let (first, second) = body.split_at(size / 2);
            let chunks: &[&[u8]] = if first.is_empty() {
                &[second]
            } else {
                &[first, second]
            };
            peer.exchange(chunked(target, chunks, ""))
                .is(200, &summary(&body));
            client
                .exchange(ask("POST", target), &body)
                .is(200, &summary(&body));
        }
        // Without a body, the request is whole at once.
        peer.fetch("/").is(200, "true 0");
        peer.exchange(post("/", b"")).is(200, "true 0");
        peer.exchange(post("/", b"dropped")).is(200, "false 0");
        client.exchange(ask("POST", "/"), b"").is(200, "true 0");
        client
            .exchange(ask("POST", "/"), b"dropped")
            .is(200, "false 0");
        peer.fetch("/upload?token=1").is(200, "whole");
        server
            .log
            .wait_for(&["read-body 1: ErrorCode::InvalidState"]);
        drop((peer, client));
        server.stop();
    }
}

#[test]
fn no_more_comes_than_there_is_credit_for() {
    let server = body_probe(&[]);
    let body = pattern(100);
    let mut peer = server.connect_http();
    peer.send(&post("/upload?token=1&credit=10", &body));
    wait_for(&server, 1, 10);
    tell(&server, "/give?token=1&credit=5");
    wait_for(&server, 1, 15);
    tell(&server, "/give?token=1&credit=85");
    // No credit is left, and the end comes.
    peer.response().is(200, &summary(&body));
    server.log.wait_for(&["ended 1: 100 largest 85"]);
    let mut client = http2(&server);
    let request = ask("POST", "/upload?token=2&credit=10");
    let (response, mut stream) = client.begin(request, false).expect("a stream");
    client
        .run(send_all(&mut stream, Bytes::from(body.clone()), true))
        .expect("sent");
    client.settle();
    wait_for(&server, 2, 10);
    tell(&server, "/give?token=2&credit=90");
    client
        .run(read(response))
        .expect("a response")
        .is(200, &summary(&body));
    server.log.wait_for(&["ended 2: 100 largest 90"]);
    drop((peer, client));
    server.stop();
}

#[test]
fn a_guest_that_gives_no_credit_stops_the_client() {
    let server = body_probe(&["--max-body", "1GiB"]);
    let size = 48 << 20;
    let body = pattern(size);
    let before = server.resident();
    let mut peer = server.connect_http();
    let length = format!("Content-Length: {size}");
    peer.send(head("/upload?token=2&credit=1", &[&length]).as_bytes());
    std::thread::scope(|scope| {
        let mut sender = peer.get().try_clone().expect("a second handle");
        let bytes = &body;
        let sending = scope.spawn(move || sender.write_all(bytes).expect("it is taken"));
        wait_for(&server, 2, 1);
        server.idles();
        assert!(!sending.is_finished(), "the client is stopped");
        wait_for(&server, 2, 1);
        tell(&server, &format!("/give?token=2&credit={size}"));
        peer.response().is(200, &summary(&body));
    });
    let mut client = http2(&server);
    let request = ask("POST", "/upload?token=3&credit=1");
    let (response, mut stream) = client.begin(request, false).expect("a stream");
    let sending = send_all(&mut stream, Bytes::from(body.clone()), true);
    let stopped =
        client.run(async { tokio::time::timeout(Duration::from_millis(500), sending).await });
    stopped.expect_err("the client is stopped");
    wait_for(&server, 3, 1);
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more");
    drop((response, stream));
    client.settle();
    server
        .log
        .wait_for(&["failed 3: ErrorCode::ConnectionReset after 1"]);
    server.log.wait_for(&["abandoned 3"]);
    drop((peer, client));
    server.stop();
}

#[test]
fn a_client_that_waits_to_go_on_does_so_once_there_is_credit() {
    let server = body_probe(&[]);
    let mut peer = server.connect_http();
    let expects = ["Content-Length: 5", "Expect: 100-continue"];
    peer.send(head("/upload?token=1&credit=0", &expects).as_bytes());
    peer.is_held();
    eventually("it is read", || {
        (tell(&server, "/give?token=1&credit=10") == "done").then_some(())
    });
    peer.goes_on();
    peer.send(b"hello");
    peer.response().is(200, &summary(b"hello"));
    peer.send(head("/collect", &expects).as_bytes());
    peer.goes_on();
    peer.send(b"hello");
    peer.response().is(200, "hello");
    // An answer without the body ends the connection: the client may send the
    // body or not.
    peer.send(head("/early", &expects).as_bytes());
    assert!(peer.response().is(200, "early").closes());
    peer.ends();
    let mut client = http2(&server);
    for (target, text) in [
        ("/upload?credit=10".to_owned(), summary(b"hello")),
        ("/collect".to_owned(), "hello".to_owned()),
    ] {
        let mut request = ask("POST", &target);
        let expects = "100-continue".parse().expect("a value");
        request.headers_mut().insert("expect", expects);
        let (mut response, mut stream) = client.begin(request, false).expect("a stream");
        let interim = client.run(poll_fn(|cx| response.poll_informational(cx)));
        let interim = interim.expect("one").expect("a response");
        assert_eq!(interim.status(), 100);
        client
            .run(send_all(&mut stream, Bytes::from("hello"), true))
            .expect("sent");
        client
            .run(read(response))
            .expect("a response")
            .is(200, &text);
    }
    drop(client);
    server.stop();
}

#[test]
fn a_guest_may_have_the_body_collected_up_to_a_size() {
    let server = Run::guest("body-probe")
        .http()
        .args(["--max-body", "1000"])
        .start();
    let mut client = http2(&server);
    for (target, size, status) in [
        ("/collect", 1000, 200),
        ("/collect", 1001, 413),
        ("/collect?most=10", 10, 200),
        ("/collect?most=10", 11, 413),
        ("/collect?most=2000", 1001, 413),
        ("/upload?more=100", 1000, 200),
        ("/upload?more=100", 1001, 413),
        ("/early?read", 1001, 413),
    ] {
        let body = pattern(size);
        let parts: Vec<&[u8]> = body.chunks(5).collect();
        for request in [post(target, &body), chunked(target, &parts, "")] {
            let mut peer = server.connect_http();
            peer.send(&request);
            let got = peer.response();
            if target != "/early?read" || got.status == 413 {
                assert_eq!(got.status, status, "{target} {size}");
            }
            if status == 200 && target.starts_with("/collect") {
                same(&got.body, &body);
            }
        }
        if target.starts_with("/early") {
            continue;
        }
        let got = client.exchange(ask("POST", target), &body);
        assert_eq!(got.status, status, "{target} {size}");
    }
    server.log.wait_for(&["ErrorCode::LimitExceeded"]);
    drop(client);
    server.stop();
}

#[test]
fn an_answer_at_the_head_drops_the_body() {
    let server = body_probe(&["--max-body", "64MiB"]);
    let mut peer = server.connect_http();
    for size in [1, 100_000, 250_000] {
        peer.exchange(post("/early", &pattern(size)))
            .is(200, "early");
        peer.fetch("/").is(200, "true 0");
    }
    peer.exchange(chunked("/early", &[b"abc"], ""))
        .is(200, "early");
    // Too much is not received just to be dropped.
    let large = pattern(32 << 20);
    std::thread::scope(|scope| {
        let mut sender = peer.get().try_clone().expect("a second handle");
        scope.spawn(move || {
            // The server takes not all of it.
            let _ = sender.write_all(&post("/early", &large));
        });
        peer.response().is(200, "early");
        peer.lost();
    });
    let mut client = http2(&server);
    client
        .exchange(ask("POST", "/early"), &pattern(50_000))
        .is(200, "early");
    client.fetch("/").is(200, "true 0");
    // The guest may read on after its answer.
    let mut peer = server.connect_http();
    let target = "/early?read&token=1&more=65536";
    let body = pattern(1 << 20);
    peer.exchange(post(target, &body)).is(200, "early");
    server.log.wait_for(&["ended 1: 1048576"]);
    peer.fetch("/").is(200, "true 0");
    let target = target.replace("=1&", "=2&");
    client
        .exchange(ask("POST", &target), &body)
        .is(200, "early");
    client.settle();
    server.log.wait_for(&["ended 2: 1048576"]);
    // A client that sends nothing after the answer is not waited for long.
    let request = ask("POST", &target.replace("=2&", "=3&"));
    let (response, stream) = client.begin(request, false).expect("a stream");
    client
        .run(read(response))
        .expect("a response")
        .is(200, "early");
    server
        .log
        .wait_for(&["failed 3: ErrorCode::ConnectionReset after 0"]);
    server
        .log
        .wait_for(&["the client sends no more of a request that has its response"]);
    drop(stream);
    drop((peer, client));
    server.stop();
}

#[test]
fn trailers_follow_a_body_that_is_read() {
    let server = Run::guest("body-probe").http().start();
    let mut peer = server.connect_http();
    let trailers = "X-Sum: 1\r\nX-End: yes\r\n";
    let request = chunked("/upload", &[b"abc", b"def"], trailers);
    let expected = summary(b"abcdef");
    let got = peer.exchange(request);
    assert_eq!(
        got.text().to_lowercase(),
        format!("{expected} x-sum=1 x-end=yes")
    );
    let echoed = [chunked("/echo", &[b"abc"], trailers)].concat();
    let echoed = String::from_utf8(echoed).expect("text");
    let echoed = echoed.replacen("\r\n\r\n", "\r\nTE: trailers\r\n\r\n", 1);
    let echoed = peer.exchange(echoed);
    assert_eq!((echoed.text(), echoed.trailers.len()), ("abc", 2));
    let mut client = http2(&server);
    let (response, mut stream) = client.begin(ask("POST", "/echo"), false).expect("a stream");
    client
        .run(send_all(&mut stream, Bytes::from("abc"), false))
        .expect("sent");
    let mut fields = http::HeaderMap::new();
    fields.insert("x-sum", "1".parse().expect("a value"));
    stream.send_trailers(fields).expect("sent");
    let echoed = client.run(read(response)).expect("a response");
    assert_eq!(echoed.text(), "abc");
    assert_eq!(echoed.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    drop((peer, client));
    server.stop();
}

#[test]
fn bodies_stream_both_ways_in_little_memory() {
    let server = body_probe(&["--max-body", "1GiB"]);
    let size = 48 << 20;
    let before = server.resident();
    let mut peer = server.connect_http();
    let length = format!("Content-Length: {size}");
    peer.send(head("/echo", &[&length]).as_bytes());
    let body = pattern(size);
    let mut most = 0;
    std::thread::scope(|scope| {
        let mut sender = peer.get().try_clone().expect("a second handle");
        let bytes = &body;
        let sending = scope.spawn(move || sender.write_all(bytes));
        while !sending.is_finished() && most == 0 {
            // Nobody reads here, so the client is stopped after a while.
            server.idles();
            most = server.resident();
        }
        same(&peer.response().body, &body);
    });
    let grown = most.saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more");
    let mut client = http2(&server);
    let body = &body[..16 << 20];
    let echoed = client.exchange(ask("POST", "/echo"), body);
    same(&echoed.body, body);
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes more");
    drop((peer, client));
    server.stop();
}

#[test]
fn the_guest_is_told_why_a_body_ends_early() {
    let server = body_probe(&["--body-timeout", "2s"]);
    let mut peer = server.connect_http();
    let request = post("/upload?token=1&credit=100", b"four");
    peer.send(request.strip_suffix(b"r").expect("its end"));
    wait_for(&server, 1, 3);
    drop(peer);
    server
        .log
        .wait_for(&["failed 1: ErrorCode::ConnectionReset after 3"]);
    server.log.wait_for(&["abandoned 1"]);
    let mut peer = server.connect_http();
    let request = post("/upload?token=2&credit=100", b"four");
    peer.send(request.strip_suffix(b"r").expect("its end"));
    assert_eq!(peer.response().status, 408);
    server
        .log
        .wait_for(&["failed 2: ErrorCode::Timeout after 3"]);
    server.log.wait_for(&["abandoned 2"]);
    let mut peer = server.connect_http();
    let wrong = head("/upload?token=3", &["Transfer-Encoding: chunked"]) + "3\r\nabcde\r\n";
    peer.send(wrong.as_bytes());
    assert_eq!(peer.response().status, 400);
    server.log.wait_for(&["failed 3: ErrorCode::Other after"]);
    let mut client = http2(&server);
    let request = ask("POST", "/upload?token=4&credit=100");
    let (response, mut stream) = client.begin(request, false).expect("a stream");
    client
        .run(send_all(&mut stream, Bytes::from("abc"), false))
        .expect("sent");
    let late = client.run(read(response)).expect("a response");
    assert_eq!(late.status, 408);
    server
        .log
        .wait_for(&["failed 4: ErrorCode::Timeout after 3"]);
    drop((stream, peer, client));
    server.stop();
}

#[test]
fn a_guest_that_reads_no_more_may_still_answer() {
    let server = body_probe(&["--response-timeout", "2s"]);
    let mut peer = server.connect_http();
    peer.send(&post("/upload?token=1&credit=1", &pattern(1000)));
    wait_for(&server, 1, 1);
    tell(&server, "/stop?token=1");
    tell(&server, "/give?token=1&credit=100");
    assert_eq!(tell(&server, "/respond?token=1&text=enough"), "done");
    peer.response().is(200, "enough");
    peer.fetch("/").is(200, "true 0");
    let mut client = http2(&server);
    let request = ask("POST", "/upload?token=2&credit=1");
    let (response, mut stream) = client.begin(request, false).expect("a stream");
    client
        .run(send_all(&mut stream, Bytes::from("abc"), true))
        .expect("sent");
    client.settle();
    wait_for(&server, 2, 1);
    tell(&server, "/stop?token=2");
    assert_eq!(tell(&server, "/respond?token=2&text=enough"), "done");
    client
        .run(read(response))
        .expect("a response")
        .is(200, "enough");
    // One that neither reads nor answers is not waited for.
    peer.send(&post("/upload?token=3&credit=1", b"abc"));
    peer.response().is(504, "504 Gateway Timeout");
    server.log.wait_for(&["abandoned 3"]);
    let slow = client.exchange(ask("POST", "/upload?token=4&credit=1"), b"abc");
    slow.is(504, "504 Gateway Timeout");
    server.log.wait_for(&["abandoned 4"]);
    drop((peer, client));
    server.stop();
}

#[test]
fn a_trap_ends_the_bodies_that_the_instance_reads() {
    let server = body_probe(&[]);
    let mut peer = server.connect_http();
    peer.send(&post("/upload?token=1&credit=1", &pattern(1000)));
    wait_for(&server, 1, 1);
    let mut client = http2(&server);
    let request = ask("POST", "/upload?token=2&credit=1");
    let (response, stream) = client.begin(request, false).expect("a stream");
    client.settle();
    assert_eq!(server.connect_http().fetch("/trap").status, 500);
    assert_eq!(peer.response().status, 500);
    let failed = client.run(read(response)).expect("a response");
    assert_eq!(failed.status, 500);
    client.fetch("/").is(200, "true 0");
    drop((stream, peer, client));
    server.stop();
}

#[test]
fn credit_of_nothing_changes_nothing() {
    let server = body_probe(&[]);
    let mut peer = server.connect_http();
    let body = pattern(1000);
    peer.send(&post("/upload?token=7&credit=10", &body));
    wait_for(&server, 7, 10);
    assert_eq!(tell(&server, "/give?token=7&credit=0"), "done");
    assert_eq!(tell(&server, "/give?token=7&credit=990"), "done");
    peer.response().is(200, &summary(&body));
    drop(peer);
    server.stop();
}
