//! HTTP requests that guests send: `wasi:http/outgoing-handler@0.2` and
//! `wasi:http/client@0.3`.

mod early;
mod failures;
mod http2;
mod proxying;
mod slow_readers;
mod wire;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::harness::{self, Run, Server, TcpPeer, Upstream, eventually, message};

const MIB: usize = 1 << 20;

/// Guests that send requests as told, for `wasi:http` 0.2 and 0.3.
const PROBES: [&str; 2] = ["outgoing-probe", "client-probe"];

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// Report of a probe on `OK`.
const SAID: &str = "200 length 5 hello";

fn probe(guest: &str, allowed: &str) -> Run {
    // Each worker keeps connections of its own.
    let run = Run::guest(guest).http().args(["--workers", "1"]);
    run.args(["--allow-connect", allowed])
}

/// Starts both probes, allowed to connect to all of loopback.
fn probes() -> impl Iterator<Item = Server> {
    PROBES
        .into_iter()
        .map(|guest| probe(guest, "127.0.0.1:*").start())
}

/// Asks a probe to send a request, on a connection and mostly an instance of
/// its own. Returns what it reports.
#[track_caller]
fn ask(server: &Server, path: &str) -> String {
    ask_with(server, path, &[])
}

#[track_caller]
fn ask_with(server: &Server, path: &str, lines: &[&str]) -> String {
    let mut peer = server.connect_http();
    let response = peer.exchange(message("GET", path, lines));
    assert_eq!(response.status, 200, "{response:?}");
    response.text().to_owned()
}

fn service() -> Server {
    Run::guest("service-probe")
        .http()
        .args(["--max-body", "1GiB"])
        .start()
}

fn url(server: &Server, path: &str) -> String {
    format!("http://{}{path}", server.address("http"))
}

fn reverse_proxy(upstream: &str) -> Server {
    Run::guest("reverse-proxy")
        .http()
        .args(["--allow-connect", "127.0.0.1:*"])
        .guest_args(&[upstream])
        .start()
}

#[test]
fn requests_are_sent_and_their_responses_read() {
    let upstream = service();
    for server in probes() {
        let get = |path: &str| ask(&server, &format!("/get?{}", url(&upstream, path)));
        assert_eq!(get("/hello"), "200 length 6 hello");
        assert_eq!(get("/bytes?100000"), "200 stream 100000");
        assert_eq!(get("/nowhere"), "404 length 10 not found");
        assert_eq!(get("/status?204"), "204 stream 0");
        let target = format!("/upload?100000+{}", url(&upstream, "/sum"));
        let said = ask(&server, &target);
        assert_eq!(said, "200 length 23 100000 x-check: 100000");
        server.stop();
    }
    upstream.stop();
}

#[test]
fn the_body_of_a_get_is_sent_as_any_other() {
    let upstream = service();
    let next = |server: &Server| {
        // If a body were announced but not sent, the next request would be
        // taken for it.
        let said = ask(server, &format!("/get?{}", url(&upstream, "/hello")));
        assert_eq!(said, "200 length 6 hello");
    };
    for server in probes() {
        let target = format!("/get-with?100000+{}", url(&upstream, "/sum"));
        let said = ask(&server, &target);
        assert!(said.contains("100000"), "{said}");
        next(&server);
        server.stop();
    }
    let server = probe("outgoing-probe", "127.0.0.1:*").start();
    for number in ["0", "5", "100000"] {
        let target = format!("/get-sized?{number}+{}", url(&upstream, "/sum"));
        let said = ask(&server, &target);
        assert!(said.ends_with(&format!(" {number}")), "{said}");
        next(&server);
    }
    server.stop();
    let proxy = reverse_proxy(&url(&upstream, ""));
    let mut peer = proxy.connect_http();
    let head = "GET /sum HTTP/1.1\r\nHost: a\r\n";
    for body in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        peer.send(format!("{head}{body}").as_bytes());
        peer.response().is(200, "5");
        peer.fetch("/hello").is(200, "hello");
    }
    proxy.stop();
    upstream.stop();
}

#[test]
fn a_length_beside_a_transfer_coding_says_nothing() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n",
    );
    let proxy = reverse_proxy(&upstream.url(""));
    proxy.connect_http().fetch("/").is(200, "hello");
    proxy.stop();
}

#[test]
fn interim_responses_without_end_leave_others_their_turn() {
    let endless = Upstream::new(move |mut asker, _| {
        asker.head();
        let many = "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000);
        while asker.say(&many) {}
    });
    let server = probe("client-probe", "127.0.0.1:*").start();
    let mut flooded = TcpPeer::connect(server.address("http"));
    let target = format!("/get?{}", endless.url("/"));
    flooded.send(message("GET", &target, &[]).as_bytes());
    eventually("the flood has begun", || {
        (endless.connections() > 0).then_some(())
    });
    let begun = Instant::now();
    let mut others = server.connect_http();
    for _ in 0..20 {
        others.fetch("/none");
    }
    // Otherwise each request would wait for seconds.
    assert!(begun.elapsed() < Duration::from_secs(10), "{begun:?}");
    flooded.reset();
    server.stop();
}

#[test]
fn a_client_that_resets_is_noticed_while_its_response_stands_still() {
    let (ended, told) = mpsc::channel();
    let stalling = Upstream::new(move |mut asker, _| {
        asker.head();
        asker.say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc");
        asker.rest();
        let _ = ended.send(());
    });
    let proxy = reverse_proxy(&stalling.url(""));
    let mut peer = TcpPeer::connect(proxy.address("http"));
    peer.send(message("GET", "/", &[]).as_bytes());
    while !peer.line().is_empty() {}
    assert_eq!(peer.take(3), b"abc");
    peer.reset();
    told.recv_timeout(harness::DEADLINE)
        .expect("it is given up");
    proxy.stop();
}

#[test]
fn trailers_come_with_a_response() {
    let upstream = service();
    for server in probes() {
        let said = ask(&server, &format!("/get?{}", url(&upstream, "/trailers")));
        assert_eq!(said, "200 stream 4 body x-sum: 4");
        server.stop();
    }
    upstream.stop();
}

#[test]
fn a_large_body_passes_both_ways_in_little_memory() {
    let upstream = service();
    let size = 64 * MIB;
    for guest in PROBES {
        // Much longer than `--event-timeout`: each piece of a body is an event.
        let server = probe(guest, "127.0.0.1:*")
            .args(["--event-timeout", "20ms"])
            .start();
        ask(&server, &format!("/get?{}", url(&upstream, "/hello")));
        let before = server.resident();
        let target = format!("/upload?{size}+{}", url(&upstream, "/sum"));
        let said = ask(&server, &target);
        assert!(said.contains(&format!("{size} x-check: {size}")), "{said}");
        let target = format!("/get?{}", url(&upstream, &format!("/bytes?{size}")));
        assert_eq!(ask(&server, &target), format!("200 stream {size}"));
        let grown = server.resident().saturating_sub(before);
        assert!(grown < 16 * MIB as u64, "it grew by {grown}");
        server.stop();
    }
    upstream.stop();
}

#[test]
fn a_connection_serves_one_instance_after_the_other() {
    let upstream = Upstream::answering(OK);
    for (number, guest) in PROBES.into_iter().enumerate() {
        let server = probe(guest, "127.0.0.1:*")
            .args(["--isolation", "request"])
            .start();
        for _ in 0..20 {
            assert_eq!(ask(&server, &format!("/get?{}", upstream.url("/"))), SAID);
        }
        assert_eq!(upstream.connections(), number + 1);
        server.stop();
    }
}

#[test]
fn a_kept_connection_that_its_peer_closes_costs_no_request_that_may_be_repeated() {
    // The upstream reads the second request, and closes without an answer.
    let upstream = || {
        Upstream::new(|mut asker, _| {
            asker.head();
            asker.say(OK);
            asker.head();
        })
    };
    for server in probes() {
        let closing = upstream();
        let target = format!("/get?{}", closing.url("/"));
        for _ in 0..3 {
            assert_eq!(ask(&server, &target), SAID);
        }
        assert_eq!(closing.connections(), 3);
        let closing = upstream();
        assert_eq!(ask(&server, &format!("/get?{}", closing.url("/"))), SAID);
        let said = ask(&server, &format!("/upload?5+{}", closing.url("/")));
        assert_eq!(said, "error: ErrorCode::ConnectionTerminated");
        assert_eq!(closing.connections(), 1);
        server.stop();
    }
}

#[test]
fn a_program_sends_requests_too() {
    let upstream = Upstream::answering(OK);
    let run = |flags: &[&str]| {
        let program = Run::guest("client-probe").args(flags);
        program.guest_args(&[&upstream.url("/")]).output()
    };
    let finished = run(&["--allow-connect", "127.0.0.1:*"]);
    assert_eq!(finished.stdout.trim_end(), SAID);
    assert_eq!(finished.code, Some(0));
    let finished = run(&[]);
    let denied = "error: ErrorCode::DestinationIpProhibited";
    assert_eq!(finished.stdout.trim_end(), denied);
    assert_eq!(finished.code, Some(1));
}

#[test]
fn an_instance_has_so_many_exchanges_at_once_and_no_more() {
    for guest in PROBES {
        let server = probe(guest, "127.0.0.1:*")
            .args(["--event-timeout", "5s"])
            .start();
        // The upstream answers only once as many requests have arrived as are
        // allowed.
        let asked = AtomicUsize::new(0);
        let upstream = Upstream::new(move |mut asker, _| {
            while asker.head().is_some() {
                asked.fetch_add(1, Ordering::SeqCst);
                eventually("all requests", || {
                    (asked.load(Ordering::SeqCst) >= 128).then_some(())
                });
                asker.say(OK);
            }
        });
        let said = ask(&server, &format!("/flood?200+{}", upstream.url("/")));
        assert_eq!(said, "128 answered, 72 refused");
        server
            .log
            .wait_for(&["no more than 128 HTTP requests at once"]);
        let said = ask(&server, &format!("/flood?20+{}", upstream.url("/")));
        assert_eq!(said, "20 answered, 0 refused");
        server.stop();
    }
}

#[test]
fn a_drain_lets_an_exchange_be_completed() {
    for mut server in probes() {
        // The upstream answers once the server drains.
        let (asked, is_asked) = mpsc::channel();
        let (answer, may_answer) = mpsc::channel::<()>();
        let may_answer = Mutex::new(may_answer);
        let upstream = Upstream::new(move |mut asker, _| {
            while asker.head().is_some() {
                let _ = asked.send(());
                let _ = may_answer.lock().expect("the lock").recv();
                asker.say(OK);
            }
        });
        let mut peer = server.connect_http();
        peer.send(message("GET", &format!("/get?{}", upstream.url("/")), &[]).as_bytes());
        is_asked.recv_timeout(harness::DEADLINE).expect("a request");
        server.signal(rustix::process::Signal::TERM);
        server.log.wait_for(&["draining"]);
        answer.send(()).expect("the upstream is there");
        peer.response().is(200, SAID);
        assert_eq!(server.wait().code(), Some(0), "drained");
    }
}
