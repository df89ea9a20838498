//! Lengths of bodies, of responses and of requests.

use std::sync::{Mutex, mpsc};

use bytes::Bytes;

use super::{
    HANDLERS, both, field, next, probes, reverse_proxy, shared, told, upstream_h1, upstream_h2,
};
use crate::harness::http2::{ask, read};
use crate::harness::{self, Http2, Upstream, message};

#[test]
fn equal_lengths_of_an_upstream_are_one() {
    for lengths in [
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\nhello");
        let bodiless = format!("HTTP/1.1 304 Not Modified\r\n{lengths}\r\n\r\n");
        let upstream = Upstream::new(move |mut asker, _| {
            while let Some(head) = asker.head() {
                let body = !head.starts_with("GET /bodiless");
                asker.say(if body { &answer } else { &bodiless });
            }
        });
        for server in probes() {
            let said = told(&server, "GET", &format!("/get?{}", upstream.url("/")));
            assert_eq!(said, "200 length 5 hello", "{lengths}");
            server.stop();
        }
        let proxy = reverse_proxy(&upstream.url("")).start();
        for response in both(&proxy, "/") {
            let response = response.is(200, "hello");
            assert_eq!(response.header("content-length"), Some("5"), "{lengths}");
        }
        for response in both(&proxy, "/bodiless") {
            response.is(304, "");
        }
        proxy.stop();
    }
    let (upstream, _heads) = upstream_h2(&[("content-length", "5"), ("content-length", "5")]);
    let proxy = reverse_proxy(&upstream.url("")).start();
    for response in both(&proxy, "/") {
        let response = response.is(200, "hello");
        assert_eq!(response.header("content-length"), Some("5"));
    }
    proxy.stop();
}

#[test]
fn odd_lengths_of_an_upstream_cost_their_request_alone() {
    for guest in ["outgoing-probe", "client-probe", "reverse-proxy"] {
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let (asked, is_asked) = mpsc::channel();
        let upstream = Upstream::new(move |mut asker, _| {
            while let Some(head) = asker.head() {
                if head.starts_with("GET /slow") {
                    let _ = asked.send(());
                    let _ = released.lock().expect("the lock").recv();
                    asker.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow");
                    continue;
                }
                let status = head.get(5..8).unwrap_or_default();
                let lengths = match head.get(9..10) {
                    Some("2") => "Content-Length: 5\r\nContent-Length: 6",
                    Some("l") => "Content-Length: 5, 6",
                    _ => "Content-Length: five",
                };
                asker.say(format!("HTTP/1.1 {status} X\r\n{lengths}\r\n\r\nhello"));
            }
        });
        let server = shared(guest).guest_args(&[&upstream.url("")]).start();
        let is_proxy = guest == "reverse-proxy";
        let target = |path: &str| match is_proxy {
            true => path.to_owned(),
            false => format!("/get?{}", upstream.url(path)),
        };
        // An instance of `wasi:http` 0.2 handles one request at a time.
        let mut other = (guest != "outgoing-probe").then(|| {
            let mut other = server.connect_http();
            other.send(message("GET", &target("/slow"), &[]).as_bytes());
            next(&is_asked);
            other
        });
        for status in ["200", "204", "304"] {
            for kind in ["2", "l", "x"] {
                for response in both(&server, &target(&format!("/{status}-{kind}"))) {
                    match is_proxy {
                        true => assert_eq!(response.status, 502, "{status}-{kind}"),
                        false => {
                            response.is(200, "error: ErrorCode::HttpProtocolError");
                        }
                    }
                }
            }
        }
        if let Some(other) = &mut other {
            release.send(()).expect("the upstream is there");
            let said = if is_proxy {
                "slow"
            } else {
                "200 length 4 slow"
            };
            other.response().is(200, said);
        }
        assert_eq!(server.log.count("trapped"), 0);
        drop(other);
        server.stop();
    }
    let (upstream, _heads) = upstream_h2(&[("content-length", "5"), ("content-length", "6")]);
    let proxy = reverse_proxy(&upstream.url("")).start();
    for response in both(&proxy, "/") {
        assert_eq!(response.status, 502);
    }
    assert_eq!(proxy.log.count("trapped"), 0);
    proxy.stop();
}

#[test]
fn trailers_of_an_upstream_have_no_place_for_a_length() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nTrailer: Content-Length, X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
         4\r\nbody\r\n0\r\nContent-Length: 4\r\nX-Sum: 4\r\nContent-Length: 5\r\n\r\n",
    );
    for server in probes() {
        let said = told(&server, "GET", &format!("/get?{}", upstream.url("/")));
        assert_eq!(said, "200 stream 4 body x-sum: 4");
        server.stop();
    }
}

#[test]
fn a_length_that_a_guest_tells_twice_costs_its_response_alone() {
    for guest in HANDLERS {
        let server = shared(guest).start();
        for target in ["/twice?0", "/twice?5"] {
            for response in both(&server, target) {
                assert_eq!(response.status, 500, "{guest} {target}");
            }
        }
        server.log.wait_for_count("twice: ", 4);
        server.connect_http().fetch("/hello").is(200, "hello");
        assert_eq!(server.log.count("trapped"), 0);
        server.stop();
    }
    let server = shared("probe").start();
    for other in ["4", "5"] {
        let target =
            format!("/answer?header=Content-Length:4&header=content-length:{other}&body=four");
        for response in both(&server, &target) {
            assert_eq!(response.status, 500, "{target}");
        }
    }
    server.log.wait_for_count("cannot be sent", 4);
    server.connect_http().fetch("/count").is(200, "5");
    server.stop();
}

/// Methods, with true if a request without a body has `Content-Length: 0`.
const METHODS: [(&str, bool); 7] = [
    ("POST", true),
    ("PUT", true),
    ("PATCH", true),
    ("GET", false),
    ("DELETE", false),
    ("OPTIONS", false),
    ("PURGE", false),
];

#[test]
fn a_request_without_a_body_says_so_where_one_is_expected() {
    let (h1, lines) = upstream_h1();
    let (h2, heads) = upstream_h2(&[]);
    for (guest, paths) in [
        ("outgoing-probe", &["/get", "/get-bodiless"][..]),
        ("client-probe", &["/get"]),
    ] {
        let server = shared(guest).start();
        for (method, tells) in METHODS {
            let length = tells.then_some("0");
            for path in paths {
                let said = told(&server, method, &format!("{path}?{}", h1.url("/")));
                assert_eq!(said, "204 stream 0", "{guest} {method}");
                let head = next(&lines);
                assert_eq!(field(&head, "content-length"), length, "{guest} {head}");
                assert_eq!(field(&head, "transfer-encoding"), None, "{guest} {head}");
                let said = told(&server, method, &format!("{path}?{}", h2.url("/")));
                assert_eq!(said, "200 stream 5 hello", "{guest} {method}");
                let head = next(&heads);
                let got = head.headers.get("content-length");
                let got = got.and_then(|it| it.to_str().ok());
                assert_eq!(got, length, "{guest} {head:?}");
            }
        }
        server.stop();
    }
    // With a Content-Length of the client and without.
    let proxy = reverse_proxy(&h1.url("")).start();
    let mut peer = proxy.connect_http();
    for lines_of in [&[][..], &["Content-Length: 0"]] {
        assert_eq!(peer.exchange(message("POST", "/", lines_of)).status, 204);
        assert_eq!(field(&next(&lines), "content-length"), Some("0"));
    }
    let mut client = Http2::connect(proxy.address("http"));
    assert_eq!(client.exchange(ask("POST", "/"), b"").status, 204);
    assert_eq!(field(&next(&lines), "content-length"), Some("0"));
    peer.send(message("HEAD", "/", &[]).as_bytes());
    assert_eq!(peer.response_to_head().status, 204);
    assert_eq!(field(&next(&lines), "content-length"), None);
    drop((peer, client));
    proxy.stop();
}

#[test]
fn a_body_that_comes_late_is_sent_as_any_other() {
    let (got, bodies) = mpsc::channel();
    let upstream = Upstream::new(move |mut asker, _| {
        while asker.head().is_some() {
            let _ = got.send(0);
            let _ = got.send(asker.take_chunks());
            asker.say("HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    let proxy = reverse_proxy(&upstream.url("")).start();
    let mut peer = proxy.connect_http();
    peer.send(message("POST", "/", &["Transfer-Encoding: chunked"]).as_bytes());
    // The head does not wait for the body.
    assert_eq!(next(&bodies), 0);
    peer.send(b"5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(peer.response().status, 204);
    assert_eq!(next(&bodies), 5);
    let mut client = Http2::connect(proxy.address("http"));
    let (response, mut body) = client.begin(ask("POST", "/"), false).expect("a request");
    client.settle();
    assert_eq!(next(&bodies), 0);
    let bytes = Bytes::from_static(b"hello");
    let sent = client.run(harness::http2::send_all(&mut body, bytes, true));
    sent.expect("it is taken");
    let response = client.run(read(response)).expect("a response");
    assert_eq!(response.status, 204);
    assert_eq!(next(&bodies), 5);
    drop((peer, client));
    proxy.stop();
}

#[test]
fn a_request_whose_body_its_guest_does_not_finish_is_not_sent_and_the_log_says_why() {
    let (h1, lines) = upstream_h1();
    let (h2, heads) = upstream_h2(&[]);
    let server = shared("outgoing-probe").start();
    let mut refused = 0;
    for url in [h1.url("/"), h2.url("/")] {
        for path in ["/get-unfinished", "/get-unfinished-late"] {
            for method in ["GET", "POST", "DELETE"] {
                let said = told(&server, method, &format!("{path}?{url}"));
                assert_eq!(said, "error: ErrorCode::HttpProtocolError", "{method}");
                refused += 1;
                let told = "dropped without outgoing-body.finish";
                server.log.wait_for_count(told, refused);
            }
        }
    }
    assert_eq!((h1.connections(), h2.connections()), (0, 0));
    let said = told(&server, "GET", &format!("/get?{}", h1.url("/")));
    assert_eq!(said, "204 stream 0");
    next(&lines);
    assert!(lines.try_recv().is_err() && heads.try_recv().is_err());
    server.stop();
}
