//! Standard HTTP components, `wasi:http` 0.2 and 0.3, behind the listeners.

use crate::harness::{Run, Server, directory, eventually, message, pattern, post, text};

const MIB: usize = 1 << 20;

/// Guests that do as told, for `wasi:http` 0.2 and 0.3.
const PROBES: [&str; 2] = ["proxy-probe", "service-probe"];

fn servers() -> impl Iterator<Item = Server> {
    PROBES.into_iter().map(|guest| probe(guest).start())
}

fn probe(guest: &str) -> Run {
    Run::guest(guest).http().args(["--workers", "1"])
}

#[test]
fn requests_are_answered_on_one_connection() {
    for server in servers() {
        let mut peer = server.connect_http();
        for _ in 0..3 {
            let response = peer.fetch("/hello").is(200, "hello");
            assert_eq!(response.header("Server"), Some("netwasm"));
            assert_eq!(response.header("Content-Length"), Some("6"));
            assert_eq!(response.header("Connection"), None);
        }
        peer.fetch("/nowhere").is(404, "not found");
        peer.finish();
        peer.ends();
        drop(peer);
        server.stop();
    }
}

#[test]
fn a_request_reaches_the_guest_without_what_is_between_two_hops() {
    for server in servers() {
        let mut peer = server.connect_http();
        let lines = ["X-One: 1", "Connection: keep-alive", "Upgrade: websocket"];
        let response = peer.exchange(message("PROPFIND", "/request?a=b%20c", &lines));
        response.is(200, "PROPFIND http://localhost/request?a=b%20c\nx-one: 1");
        drop(peer);
        server.stop();
    }
}

#[test]
fn a_client_of_http_1_0_gets_its_response_up_to_the_end() {
    for server in servers() {
        let mut peer = server.connect_http();
        peer.send(b"GET /bytes?100000 HTTP/1.0\r\n\r\n");
        let all = peer.rest();
        let text = String::from_utf8(all).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains("Connection: close"), "{head}");
        assert_eq!(body.len(), 100_000);
        drop(peer);
        server.stop();
    }
}

#[test]
fn requests_that_came_together_are_answered_in_their_order() {
    for server in servers() {
        let mut peer = server.connect_http();
        let mut requests = Vec::new();
        for number in 0..100 {
            requests.extend(post("/echo", format!("{number}").as_bytes()));
            requests.extend(message("GET", "/hello", &[]).as_bytes());
        }
        peer.send(&requests);
        for number in 0..100 {
            peer.response().is(200, &format!("{number}"));
            peer.response().is(200, "hello");
        }
        drop(peer);
        server.stop();
    }
}

#[test]
fn a_body_comes_back_whatever_its_framing() {
    for server in servers() {
        let mut peer = server.connect_http();
        for size in [0, 1, 4096, 65_536, 65_537, 500_000] {
            let data = pattern(size);
            let response = peer.exchange(post("/echo", &data));
            assert_eq!(response.status, 200);
            assert!(response.body == data, "{size} bytes");
        }
        let chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
            5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        peer.exchange(chunked).is(200, "hello world");
        for byte in chunked.as_bytes() {
            peer.send(&[*byte]);
        }
        peer.response().is(200, "hello world");
        drop(peer);
        server.stop();
    }
}

#[test]
fn trailers_go_both_ways() {
    for server in servers() {
        let mut peer = server.connect_http();
        let chunked = "POST /sum HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
            5\r\nhello\r\n0\r\nX-Check: 7\r\n\r\n";
        peer.exchange(chunked).is(200, "5 x-check: 7");
        let response = peer.exchange(message("GET", "/trailers", &["TE: trailers"]));
        let response = response.is(200, "body");
        assert_eq!(response.trailers, [("x-sum".to_owned(), "4".to_owned())]);
        assert_eq!(peer.fetch("/trailers").is(200, "body").trailers, []);
        drop(peer);
        server.stop();
    }
}

#[test]
fn a_client_that_waits_to_go_on_is_told_so_when_the_guest_reads() {
    for server in servers() {
        let mut peer = server.connect_http();
        let head = "POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\
            Expect: 100-continue\r\n\r\n";
        peer.send(head.as_bytes());
        peer.goes_on();
        peer.send(b"hello");
        peer.response().is(200, "5");
        // If the guest does not read the body, nobody knows what follows on the
        // connection.
        peer.send(head.replace("/sum", "/hello").as_bytes());
        assert!(peer.response().is(200, "hello").closes());
        peer.ends();
        drop(peer);
        server.stop();
    }
}

#[test]
fn a_body_that_the_guest_does_not_read_is_passed_over() {
    for server in servers() {
        let mut peer = server.connect_http();
        for _ in 0..3 {
            peer.exchange(post("/hello", &pattern(100_000)))
                .is(200, "hello");
        }
        drop(peer);
        server.stop();
    }
}

#[test]
fn responses_without_a_body_have_none() {
    for server in servers() {
        let mut peer = server.connect_http();
        for target in ["/hello", "/bytes?100000"] {
            peer.send(message("HEAD", target, &[]).as_bytes());
            assert_eq!(peer.response_to_head().status, 200, "{target}");
        }
        // The guest may not have made the body (RFC 9110, section 8.6).
        for target in ["/status?200", "/bytes?100000"] {
            peer.send(message("HEAD", target, &[]).as_bytes());
            let head = peer.response_to_head();
            assert_eq!(head.header("Content-Length"), None, "{target}");
        }
        for status in [204, 304] {
            let response = peer.fetch(&format!("/status?{status}"));
            assert_eq!(response.status, status);
            assert_eq!(response.header("Content-Length"), None);
        }
        peer.fetch("/status?201").is(201, "");
        peer.fetch("/hello").is(200, "hello");
        drop(peer);
        server.stop();
    }
}

#[test]
fn who_shares_an_instance_is_told_by_isolation() {
    let counts = |server: &Server| -> Vec<String> {
        let mut peer = server.connect_http();
        let mut other = server.connect_http();
        [
            peer.fetch("/count"),
            peer.fetch("/count"),
            other.fetch("/count"),
        ]
        .map(|response| response.text().to_owned())
        .into()
    };
    for guest in PROBES {
        for (isolation, expected) in [
            ("request", ["1", "1", "1"]),
            ("connection", ["1", "2", "1"]),
            ("worker", ["1", "2", "3"]),
        ] {
            let server = probe(guest).args(["--isolation", isolation]).start();
            assert_eq!(counts(&server), expected, "{guest}, {isolation}");
            server.stop();
        }
    }
    // Defaults by kind of guest.
    let [proxy, service] = PROBES;
    assert_eq!(counts(&probe(proxy).start()), ["1", "1", "1"]);
    assert_eq!(counts(&probe(service).start()), ["1", "2", "1"]);
}

#[test]
fn an_instance_answers_so_many_requests_and_no_more() {
    for guest in PROBES {
        for isolation in ["connection", "worker"] {
            let server = probe(guest)
                .args(["--isolation", isolation, "--max-instance-reuse-count", "2"])
                .start();
            let mut peer = server.connect_http();
            let counts: [String; 5] =
                std::array::from_fn(|_| peer.fetch("/count").text().to_owned());
            assert_eq!(counts, ["1", "2", "1", "2", "1"], "{guest}, {isolation}");
            drop(peer);
            server.stop();
        }
    }
}

#[test]
fn an_instance_that_is_shared_answers_while_others_wait() {
    for guest in PROBES {
        let server = probe(guest).args(["--isolation", "worker"]).start();
        let mut slow = server.connect_http();
        slow.send(message("GET", "/late?400", &[]).as_bytes());
        let mut quick = server.connect_http();
        quick.fetch("/hello").is(200, "hello");
        slow.response().is(200, "late");
        drop((quick, slow));
        server.stop();
    }
}

#[test]
fn what_a_guest_does_after_its_response_is_done() {
    for guest in PROBES {
        let server = probe(guest).start();
        let mut peer = server.connect_http();
        peer.send(message("GET", "/after?200", &["Connection: close"]).as_bytes());
        peer.response().is(200, "before");
        server.log.wait_for(&["done after the response"]);
        drop(peer);
        server.stop();
    }
}

#[test]
fn a_large_body_passes_both_ways_in_little_memory() {
    for guest in PROBES {
        let server = probe(guest).args(["--max-body", "1GiB"]).start();
        let size = 256 * MIB;
        let mut peer = server.connect_http();
        let before = server.resident();
        let head = format!("POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
        peer.send(head.as_bytes());
        let piece = pattern(MIB);
        for _ in 0..256 {
            peer.send(&piece);
        }
        peer.response().is(200, &size.to_string());
        let grown = server.resident().saturating_sub(before);
        assert!(
            grown < 16 * MIB as u64,
            "{guest} grew by {grown} in an upload"
        );
        let response = peer.fetch(&format!("/bytes?{size}"));
        assert_eq!(response.body.len(), size);
        let grown = server.resident().saturating_sub(before);
        assert!(
            grown < 16 * MIB as u64,
            "{guest} grew by {grown} in a download"
        );
        drop(peer);
        server.stop();
    }
}

#[test]
fn the_access_log_has_a_line_for_each_request() {
    for guest in PROBES {
        let directory = directory();
        let log = directory.path().join("access");
        let server = probe(guest).args(["--access-log", text(&log)]).start();
        let mut peer = server.connect_http();
        peer.fetch("/hello");
        peer.fetch("/bytes?100000");
        eventually("both lines", || {
            let lines = std::fs::read_to_string(&log).unwrap_or_default();
            let both = lines.contains("\"GET /hello HTTP/1.1\" 200 6 ")
                && lines.contains("\"GET /bytes?100000 HTTP/1.1\" 200 100000 ");
            both.then_some(())
        });
        drop(peer);
        server.stop();
    }
}

#[test]
fn a_drain_lets_a_response_be_completed() {
    for guest in PROBES {
        let mut server = probe(guest).start();
        let mut peer = server.connect_http();
        peer.send(message("GET", "/late?500", &[]).as_bytes());
        peer.taken();
        server.signal(rustix::process::Signal::TERM);
        assert!(peer.response().is(200, "late").closes());
        peer.ends();
        assert_eq!(server.wait().code(), Some(0), "drained");
    }
}
