//! Forwarding to servers, and for clients, that do not behave.

use std::sync::mpsc;

use crate::harness::{self, Run, Server, Upstream, message, repository};

fn gateway(upstream: &Upstream) -> Server {
    let group = format!("site={}", upstream.address);
    Run::guest("gateway")
        .http()
        .args(["--workers", "1", "--upstream", &group])
        .guest_args(&["/=site"])
        .start()
}

#[test]
fn bytes_that_a_server_sends_unasked_answer_nobody() {
    const OWN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nown\n";
    // With the response, and once the connection is kept.
    for later in [false, true] {
        let (kept, is_kept) = mpsc::channel();
        let is_kept = std::sync::Mutex::new(is_kept);
        let (sent, is_sent) = mpsc::channel();
        let upstream = Upstream::new(move |mut asker, _| {
            while asker.head().is_some() {
                match later {
                    false => asker.say([OWN, &OWN.replace("own", "not")].concat()),
                    true => {
                        asker.say(OWN);
                        let _ = is_kept.lock().expect("no panic").recv();
                        asker.say(OWN.replace("own", "not"))
                    }
                };
                let _ = sent.send(());
            }
        });
        let server = gateway(&upstream);
        let mut peer = server.connect_http();
        for number in 1..4 {
            // For such a method, the kernel is asked what it has received.
            peer.exchange(message("POST", "/", &["Content-Length: 0"]))
                .is(200, "own");
            let _ = kept.send(());
            is_sent.recv_timeout(harness::DEADLINE).expect("more");
            assert_eq!(upstream.connections(), number, "later: {later}");
        }
        drop((peer, kept));
        server.stop();
    }
}

#[test]
fn an_upload_that_its_client_leaves_does_not_look_whole() {
    let (got, parts) = mpsc::channel();
    let upstream = Upstream::new(move |mut asker, _| {
        while asker.head().is_some() {
            let _ = got.send(asker.receive(9));
            let _ = got.send(asker.rest());
        }
    });
    let server = gateway(&upstream);
    for (framing, half) in [
        ("Content-Length: 99", "123456789"),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\n"),
    ] {
        let mut peer = server.connect_http();
        peer.send(message("POST", "/", &[framing]).as_bytes());
        peer.send(half.as_bytes());
        let next = || parts.recv_timeout(harness::DEADLINE).expect("a part");
        assert_eq!(next(), half.as_bytes());
        drop(peer);
        assert_eq!(next(), b"", "{framing}");
    }
    server.stop();
}

#[test]
fn a_client_of_an_older_version_gets_neither_chunks_nor_interim_responses() {
    let upstream = Upstream::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\
         Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n",
    );
    let group = format!("site={}", upstream.address);
    let server = Run::guest("gateway")
        .http()
        .args(["--send-informational", "--upstream", &group])
        .guest_args(&["/=site"])
        .start();
    let mut peer = server.connect_http();
    peer.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nTE: trailers\r\n\r\n");
    let response = String::from_utf8(peer.rest()).expect("text");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert!(!response.contains("Transfer-Encoding"), "{response}");
    assert!(response.ends_with("\r\n\r\nbody"), "{response}");
    server.stop();
}

#[test]
fn the_table_of_behaviours_names_tests_that_there_are() {
    let read = |path: &str| std::fs::read_to_string(repository().join(path)).expect(path);
    let tests: String = [
        "host/http/src/forward/reading.rs",
        "host/http/src/forward/tests.rs",
        "host/http/src/forward/tests/bodies.rs",
        "host/http/src/forward/tests/cut.rs",
        "host/http/src/forward/tests/failures.rs",
        "host/http/src/forward/tests/hops.rs",
        "host/http/src/forward/tests/http2.rs",
        "host/http/src/forward/tests/lines.rs",
        "host/http/src/forward/tests/servers.rs",
        "host/http/src/forward/tests/slow.rs",
        "host/http/src/forward/tests/small_frames.rs",
        "host/http/src/forward/tests/upgrade.rs",
        "tests/forward.rs",
        "tests/forward_faults.rs",
        "tests/tls_upstreams.rs",
        "tests/proxying.rs",
        "tests/traces.rs",
        "tests/upstreams.rs",
        "tests/forwarding/request_features.py",
        "tests/forwarding/response_features.py",
        "tests/forwarding/sites.py",
        "tests/forwarding/bulk.py",
        "tests/forwarding/failing.py",
        "tests/forwarding/rpc.py",
        "tests/forwarding/rpc_everywhere.py",
    ]
    .map(read)
    .concat();
    let table = read("host/FORWARDING.md");
    let mut count = 0;
    for line in table.lines().filter(|line| line.starts_with("| ")) {
        let named = line.rsplit('|').nth(1).unwrap_or_default();
        for name in named.split('`').skip(1).step_by(2) {
            let (begin, end) = match name.strip_suffix('*') {
                Some(begin) => (begin, ""),
                None => (name, "("),
            };
            let found = ["fn", "def"].map(|word| tests.contains(&format!("{word} {begin}{end}")));
            assert!(found.contains(&true), "no test {name:?}: {line}");
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}
