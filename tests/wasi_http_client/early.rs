//! Responses that begin before their request has ended, and exchanges that a
//! guest gives up.

use std::sync::{Arc, Barrier, mpsc};

use bytes::Bytes;

use super::{MIB, OK, PROBES, SAID, ask, ask_with, probe, probes};
use crate::harness::{self, Run, Upstream, message};

#[test]
fn a_guest_that_drops_a_response_ends_the_exchange() {
    for server in probes() {
        let (ended, told) = mpsc::channel();
        let endless = Upstream::new(move |mut asker, _| {
            asker.head();
            asker.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
            while asker.say(&chunk) {}
            let _ = ended.send(());
        });
        for number in [0, 1000] {
            let said = ask(&server, &format!("/drop?{number}+{}", endless.url("/")));
            assert_eq!(said, "dropped 200");
            told.recv_timeout(harness::DEADLINE).expect("it ends");
        }
        let (ended, told) = mpsc::channel();
        let silent = Upstream::new(move |mut asker, _| {
            asker.rest();
            let _ = ended.send(());
        });
        let said = ask(&server, &format!("/cancel?100+{}", silent.url("/")));
        assert_eq!(said, "cancelled");
        told.recv_timeout(harness::DEADLINE).expect("it ends");
        server.stop();
    }
}

/// Starts an upstream that answers before it reads the request. The receiver
/// gets the number of body bytes that arrived.
fn answering_early(answer: &'static str) -> (Upstream, mpsc::Receiver<usize>) {
    let (ended, told) = mpsc::channel();
    let upstream = Upstream::new(move |mut asker, _| {
        while let Some(head) = asker.head() {
            asker.say(answer);
            if answer.contains("close") {
                // More than the host writes before it reads the response.
                asker.take(32 * MIB);
                return;
            }
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let _ = ended.send(match length {
                Some(length) => asker.take(length.parse().expect("a length")),
                None => asker.take_chunks(),
            });
        }
    });
    (upstream, told)
}

#[test]
fn a_peer_that_answers_at_once_gets_the_whole_body_nonetheless() {
    let size = 16 * MIB;
    let (upstream, told) = answering_early(OK);
    for server in probes() {
        let target = format!("/upload?{size}+{}", upstream.url("/"));
        assert_eq!(ask(&server, &target), SAID);
        assert_eq!(told.recv_timeout(harness::DEADLINE), Ok(size));
        server.stop();
    }
    let server = probe("client-probe", "127.0.0.1:*").start();
    let target = format!("/upload-told?{size}+{}", upstream.url("/"));
    assert_eq!(ask(&server, &target), format!("{SAID}, sent Ok(())"));
    assert_eq!(told.recv_timeout(harness::DEADLINE), Ok(size));
    // Even if the guest drops the response.
    let target = format!("/upload-drop?{size}+{}", upstream.url("/"));
    assert_eq!(ask(&server, &target), "200, sent Ok(())");
    assert_eq!(told.recv_timeout(harness::DEADLINE), Ok(size));
    server.stop();
}

#[test]
fn a_reverse_proxy_sends_the_rest_of_a_request_that_was_answered_at_once() {
    let size = 16 * MIB;
    let (upstream, told) = answering_early(OK);
    let proxy = Run::guest("reverse-proxy")
        .http()
        .args(["--max-body", "1GiB", "--allow-connect", "127.0.0.1:*"])
        .guest_args(&[&upstream.url("")])
        .start();
    let mut peer = proxy.connect_http();
    for _ in 0..2 {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
        peer.send(head.as_bytes());
        peer.response().is(200, "hello");
        for _ in 0..16 {
            peer.send(&harness::pattern(MIB));
        }
        assert_eq!(told.recv_timeout(harness::DEADLINE), Ok(size));
    }
    let mut client = harness::http2::Http2::connect(proxy.address("http"));
    let request = harness::http2::ask("POST", "/");
    let (response, mut body) = client.begin(request, false).expect("a request");
    let response = client.run(harness::http2::read(response));
    response.expect("a response").is(200, "hello");
    let bytes = Bytes::from(vec![b'x'; size]);
    let sent = client.run(harness::http2::send_all(&mut body, bytes, true));
    sent.expect("it is taken");
    // The client's connection makes progress only while its runtime runs.
    let told = move || told.recv_timeout(harness::DEADLINE);
    let told = client.run(async { tokio::task::spawn_blocking(told).await });
    assert_eq!(told.expect("its thread"), Ok(size));
    drop((peer, client));
    proxy.stop();
}

#[test]
fn a_peer_that_answers_and_closes_need_not_take_the_whole_body() {
    let (upstream, _) = answering_early(
        "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    for server in probes() {
        let target = format!("/upload?{}+{}", 64 * MIB, upstream.url("/"));
        assert_eq!(ask(&server, &target), "413 length 0");
        server.stop();
    }
    // A body that was not fully sent is never reported as sent.
    let server = probe("client-probe", "127.0.0.1:*").start();
    let target = format!("/upload-told?{}+{}", 64 * MIB, upstream.url("/"));
    let said = ask(&server, &target);
    assert_eq!(
        said,
        "413 length 0 , sent Err(ErrorCode::ConnectionTerminated)"
    );
    server.stop();
}

#[test]
fn a_peer_that_answers_and_takes_nothing_is_not_waited_for_without_end() {
    let (ended, told) = mpsc::channel();
    let given_up = Arc::new(Barrier::new(2));
    let waiting = Arc::clone(&given_up);
    let upstream = Upstream::new(move |mut asker, _| {
        asker.head();
        asker.say(OK);
        waiting.wait();
        let _ = ended.send(asker.rest());
    });
    let server = probe("client-probe", "127.0.0.1:*").start();
    let target = format!("/upload-told?{}+{}", 64 * MIB, upstream.url("/"));
    let said = ask_with(&server, &target, &["X-Between: 500"]);
    assert_eq!(
        said,
        format!("{SAID}, sent Err(ErrorCode::ConnectionWriteTimeout)")
    );
    given_up.wait();
    told.recv_timeout(harness::DEADLINE).expect("it ends");
    server.stop();
}

#[test]
fn an_instance_that_is_given_up_ends_what_it_sent() {
    for guest in PROBES {
        let server = probe(guest, "127.0.0.1:*")
            .args(["--response-timeout", "1s"])
            .start();
        let (ended, told) = mpsc::channel();
        let silent = Upstream::new(move |mut asker, _| {
            asker.rest();
            let _ = ended.send(());
        });
        let mut peer = server.connect_http();
        let target = format!("/get?{}", silent.url("/"));
        assert_eq!(peer.fetch(&target).status, 504);
        told.recv_timeout(harness::DEADLINE).expect("it ends");
        drop(peer);
        server.stop();
    }
}

#[test]
fn a_body_that_its_guest_does_not_end_does_not_look_whole() {
    for server in probes() {
        for path in ["/upload-fails", "/upload-trap"] {
            let (got, told) = mpsc::channel();
            let upstream = Upstream::new(move |mut asker, _| {
                asker.head();
                let _ = got.send(asker.rest());
            });
            let mut peer = server.connect_http();
            let target = format!("{path}?1000+{}", upstream.url("/"));
            peer.send(message("GET", &target, &[]).as_bytes());
            let body = told.recv_timeout(harness::DEADLINE).expect("it ends");
            let body = String::from_utf8_lossy(&body);
            assert!(!body.ends_with("0\r\n\r\n"), "{path}: {body}");
            if path == "/upload-trap" {
                assert_eq!(peer.response().status, 500);
            }
        }
        server.stop();
    }
}
