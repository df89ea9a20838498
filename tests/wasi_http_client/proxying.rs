//! The reverse proxy, a guest of `wasi:http`.

use std::sync::mpsc;

use super::{MIB, reverse_proxy, service, url};
use crate::harness::{self, Run, Upstream, message, refusing};

#[test]
fn a_reverse_proxy_passes_messages_on_without_what_is_of_a_hop() {
    let (heard, told) = mpsc::channel();
    let upstream = Upstream::new(move |mut asker, _| {
        while let Some(head) = asker.head() {
            let _ = heard.send(head);
            asker.say(
                "HTTP/1.1 201 Created\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Own: 2\r\n\
                 Keep-Alive: timeout=5\r\nContent-Length: 5\r\n\r\nhello",
            );
        }
    });
    let proxy = reverse_proxy(&upstream.url(""));
    let mut peer = proxy.connect_http();
    let lines = [
        "Connection: keep-alive, X-Hop",
        "X-Hop: 1",
        "X-Own: 2",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Upgrade: websocket",
    ];
    let response = peer.exchange(message("DELETE", "/a?b=%20c", &lines));
    let response = response.is(201, "hello");
    assert_eq!(response.header("X-Own"), Some("2"));
    assert_eq!(response.header("X-Hop"), None);
    assert_eq!(response.header("Keep-Alive"), None);
    assert_eq!(response.header("Via"), Some("1.1 reverse-proxy"));
    let head = told.recv_timeout(harness::DEADLINE).expect("a request");
    let mut lines: Vec<&str> = head.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "DELETE /a?b=%20c HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", upstream.address);
    let expected = [
        "forwarded: host=\"localhost\";proto=http",
        &host,
        "te: trailers",
        "via: 1.1 reverse-proxy",
        "x-own: 2",
    ];
    assert_eq!(lines, expected);
    proxy.stop();
}

#[test]
fn a_reverse_proxy_keeps_each_line_of_a_field() {
    let (heard, told) = mpsc::channel();
    let upstream = Upstream::new(move |mut asker, _| {
        while let Some(head) = asker.head() {
            let _ = heard.send(head);
            asker.say(
                "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nTE: trailers\r\nSet-Cookie: b=2\r\n\
                 Via: 1.1 other\r\nContent-Length: 5\r\n\r\nhello",
            );
        }
    });
    let proxy = reverse_proxy(&upstream.url(""));
    let mut peer = proxy.connect_http();
    // The instance finds out for the first request what the host lets through.
    for _ in 0..2 {
        let lines = ["X-Own: 1", "TE: gzip", "Via: 1.0 one", "X-Own: 2"];
        let response = peer.exchange(message("GET", "/", &lines)).is(200, "hello");
        let values = |name: &str| -> Vec<String> {
            let lines = response.headers.iter();
            let lines = lines.filter(|(other, _)| other.eq_ignore_ascii_case(name));
            lines.map(|(_, value)| value.clone()).collect()
        };
        assert_eq!(values("Set-Cookie"), ["a=1", "b=2"]);
        assert_eq!(values("Via"), ["1.1 other", "1.1 reverse-proxy"]);
        assert_eq!(response.header("TE"), None);
        let head = told.recv_timeout(harness::DEADLINE).expect("a request");
        let sent = |name: &str| -> Vec<&str> {
            let lines = head.lines();
            lines.filter_map(|line| line.strip_prefix(name)).collect()
        };
        assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
        assert_eq!(sent("x-own: "), ["1", "2"]);
        assert_eq!(sent("via: "), ["1.0 one", "1.1 reverse-proxy"]);
        assert!(sent("te: ").is_empty(), "{head}");
    }
    proxy.stop();
}

#[test]
fn a_reverse_proxy_shows_several_traces_at_once() {
    let (refusing, _bound) = refusing();
    let proxy = Run::guest("reverse-proxy")
        .http()
        .args(["--workers", "1", "--isolation", "worker"])
        .args(["--allow-connect", "127.0.0.1:*"])
        .guest_args(&[&format!("http://{refusing}")])
        .start();
    let mut peers: Vec<_> = (0..4).map(|_| proxy.connect_http()).collect();
    for round in 0..4 {
        let targets = (0..peers.len()).map(|number| format!("/{round}/{number}"));
        let targets: Vec<String> = targets.collect();
        for (peer, target) in peers.iter_mut().zip(&targets) {
            peer.send(message("TRACE", target, &["Max-Forwards: 0"]).as_bytes());
        }
        for (peer, target) in peers.iter_mut().zip(&targets) {
            let response = peer.response();
            assert_eq!(response.status, 200);
            let line = format!("TRACE {target} HTTP/1.1\r\n");
            assert!(response.text().starts_with(&line), "{response:?}");
        }
    }
    drop(peers);
    proxy.stop();
}

#[test]
fn a_reverse_proxy_streams_both_ways_in_little_memory() {
    let upstream = service();
    let proxy = Run::guest("reverse-proxy")
        .http()
        .args(["--workers", "1", "--max-body", "1GiB"])
        .args(["--allow-connect", "127.0.0.1:*"])
        .guest_args(&[&url(&upstream, "")])
        .start();
    let mut peer = proxy.connect_http();
    peer.fetch("/hello").is(200, "hello");
    let before = proxy.resident();
    let size = 64 * MIB;
    let head = format!("POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
    peer.send(head.as_bytes());
    for _ in 0..64 {
        peer.send(&harness::pattern(MIB));
    }
    peer.response().is(200, &size.to_string());
    assert_eq!(peer.fetch(&format!("/bytes?{size}")).body.len(), size);
    let grown = proxy.resident().saturating_sub(before);
    assert!(grown < 16 * MIB as u64, "it grew by {grown}");
    let trailers = peer.exchange(message("GET", "/trailers", &["TE: trailers"]));
    let trailers = trailers.is(200, "body").trailers;
    assert_eq!(trailers, [("x-sum".to_owned(), "4".to_owned())]);
    proxy.stop();
    upstream.stop();
}

#[test]
fn a_reverse_proxy_says_that_its_upstream_is_not_there() {
    let (refusing, _bound) = refusing();
    let proxy = reverse_proxy(&format!("http://{refusing}"));
    assert_eq!(proxy.connect_http().fetch("/").status, 502);
    proxy.stop();
}
