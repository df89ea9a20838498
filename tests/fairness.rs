//! Tests of fairness: connections that keep their worker busy, and small
//! requests on others beside them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{self, Client, Http2, Peer, Run, Server, TcpPeer, directory, pattern, text};

/// Number of small requests that are made beside a busy connection.
const REQUESTS: usize = 20;

/// Longest median time of a small request. A worker that looked at its sockets
/// only after a thousand polls would take many times as long.
const BOUND: Duration = Duration::from_millis(250);

/// Time of a guest's call in milliseconds.
const CALL: u64 = 20;

/// Number of calls that are asked for at once.
const CALLS: usize = 60;

/// Number of calls that run into the time-out.
const LOOPS: usize = 20;

/// Ends the busy work when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs work on its own thread while small requests are made, and checks how
/// long these take.
#[track_caller]
fn beside(busy: impl FnOnce(&AtomicBool) + Send, mut ask: impl FnMut()) {
    let done = AtomicBool::new(false);
    let mut times = thread::scope(|scope| {
        scope.spawn(|| busy(&done));
        // The work ends even if a request fails.
        let _ends = Ends(&done);
        let timed = |_| {
            let begun = Instant::now();
            ask();
            begun.elapsed()
        };
        (0..REQUESTS).map(timed).collect::<Vec<_>>()
    });
    times.sort_unstable();
    let median = times[REQUESTS / 2];
    assert!(median < BOUND, "{times:?}");
}

/// Sends and receives as fast as possible on one connection.
fn echo_much(address: SocketAddr, done: &AtomicBool) {
    let stream = Peer::connect(address).into_inner();
    let (mut sender, mut receiver) = (&stream, &stream);
    let bytes = pattern(1 << 20);
    thread::scope(|scope| {
        scope.spawn(|| while sender.write_all(&bytes).is_ok() {});
        let mut buffer = vec![0; 1 << 20];
        while !done.load(Ordering::Relaxed) {
            assert_ne!(receiver.read(&mut buffer).expect("bytes"), 0);
        }
        // The sender's write fails.
        let _ = stream.shutdown(Shutdown::Both);
    });
}

/// Receives a response as fast as possible.
fn receive_much(mut stream: impl Read + Write, done: &AtomicBool) {
    let request = b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).expect("a request");
    let mut buffer = vec![0; 1 << 20];
    while !done.load(Ordering::Relaxed) {
        assert_ne!(stream.read(&mut buffer).expect("bytes"), 0);
    }
}

fn ping(peer: &mut TcpPeer) {
    peer.send(b"ping");
    assert_eq!(peer.take(4), b"ping");
}

#[test]
fn a_connection_that_moves_much_leaves_others_their_turn() {
    for guest in ["echo", "relay-echo", "stream-echo", "stream-relay"] {
        let server = Run::guest(guest).tcp().start();
        let address = server.address("tcp");
        let mut peer = server.connect();
        beside(|done| echo_much(address, done), || ping(&mut peer));
    }
}

#[test]
fn a_program_s_connection_that_moves_much_leaves_others_their_turn() {
    let (_command, address) = Run::socket_echo();
    let mut peer = Peer::connect(address);
    beside(|done| echo_much(address, done), || ping(&mut peer));
}

#[test]
fn a_proxied_connection_that_moves_much_leaves_others_their_turn() {
    let upstream = Run::guest("relay-echo").tcp().start();
    let upstream = (upstream.address("tcp").to_string(), upstream);
    let server = Run::guest("proxy")
        .tcp()
        .args(["--allow-connect", &upstream.0])
        .guest_args(&[&upstream.0])
        .start();
    let address = server.address("tcp");
    let mut peer = server.connect();
    beside(|done| echo_much(address, done), || ping(&mut peer));
}

#[test]
fn a_tls_connection_that_moves_much_leaves_others_their_turn() {
    let server = Run::guest("echo").tcp().tls().start();
    let address = server.address("tls");
    let mut peer = server.connect();
    let busy = |done: &AtomicBool| {
        let mut bulk = Client::of("localhost").connect(address);
        let bytes = pattern(256 << 10);
        while !done.load(Ordering::Relaxed) {
            bulk.echoes_by(64 << 10, &bytes);
        }
    };
    beside(busy, || ping(&mut peer));
}

/// Starts a server of files, one of which is too large ever to be sent whole.
fn files() -> (tempfile::TempDir, Server) {
    let scratch = directory();
    let file = std::fs::File::create(scratch.path().join("big")).expect("a file");
    file.set_len(1 << 40).expect("a long file");
    harness::write(scratch.path(), "small", "small");
    let server = Run::guest("static")
        .http()
        .https()
        .args(["--dir", &format!("{}::/", text(scratch.path()))])
        .start();
    (scratch, server)
}

#[test]
fn a_file_that_is_sent_leaves_others_their_turn() {
    let (_scratch, server) = files();
    let mut peer = server.connect_http();
    let fetch = |peer: &mut TcpPeer| drop(peer.fetch("/small").is(200, "small"));

    let address = server.address("http");
    let clear = |done: &AtomicBool| receive_much(Peer::connect(address).into_inner(), done);
    beside(clear, || fetch(&mut peer));

    let address = server.address("https");
    let secure = |done: &AtomicBool| {
        receive_much(Client::of("localhost").connect(address).into_inner(), done);
    };
    beside(secure, || fetch(&mut peer));
}

#[test]
fn a_body_that_a_guest_makes_leaves_others_their_turn() {
    for guest in ["proxy-probe", "service-probe"] {
        let server = Run::guest(guest).http().start();
        let address = server.address("http");
        let mut peer = server.connect_http();
        let busy = |done: &AtomicBool| {
            let mut stream = Peer::connect(address).into_inner();
            let request = b"GET /bytes?1000000000000 HTTP/1.1\r\nHost: x\r\n\r\n";
            stream.write_all(request).expect("a request");
            let mut buffer = vec![0; 1 << 20];
            while !done.load(Ordering::Relaxed) {
                assert_ne!(stream.read(&mut buffer).expect("bytes"), 0);
            }
        };
        beside(busy, || drop(peer.fetch("/hello").is(200, "hello")));
    }
}

/// Runs `computing`, the requests of one connection that take a guest long, and
/// checks that the requests of another are answered in between. This may fail twice:
/// other programs may hold one request up, too.
#[track_caller]
fn in_between(computing: impl Fn() + Sync, mut ask: impl FnMut()) {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (longest, all) = longest_beside(&computing, &mut ask);
        if longest < all / 3 {
            return;
        }
        seen.push((longest, all));
    }
    panic!("the longest request, and all: {seen:?}");
}

/// Asks while `computing` runs. Returns the time of the longest request, and of
/// `computing`.
fn longest_beside(computing: &(impl Fn() + Sync), mut ask: impl FnMut()) -> (Duration, Duration) {
    let (times, all) = thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let begun = Instant::now();
            computing();
            begun.elapsed()
        });
        let mut times = Vec::new();
        while !busy.is_finished() {
            let begun = Instant::now();
            ask();
            times.push(begun.elapsed());
        }
        (times, busy.join().expect("they are answered"))
    });
    let longest: Option<Duration> = times.into_iter().max();
    (longest.expect("some were made"), all)
}

/// Pipelines requests on one connection, and returns the status of each
/// response.
fn pipelined(address: SocketAddr, target: &str, count: usize) -> Vec<u16> {
    let mut peer = Peer::connect(address);
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    peer.send(request.repeat(count).as_bytes());
    (0..count).map(|_| peer.response().status).collect()
}

#[test]
fn many_requests_that_take_a_guest_long_leave_others_their_turn() {
    for (guest, busy, small) in [
        ("probe", format!("/busy?ms={CALL}"), "/request"),
        ("proxy-probe", format!("/busy?{CALL}"), "/hello"),
        ("service-probe", format!("/busy?{CALL}"), "/hello"),
    ] {
        let server = Run::guest(guest).http().start();
        let address = server.address("http");
        let mut peer = server.connect_http();
        let mut ask = || assert_eq!(peer.fetch(small).status, 200);
        ask();
        let ahead = || assert_eq!(pipelined(address, &busy, CALLS), [200; CALLS]);
        in_between(ahead, &mut ask);
        let streams = || {
            for response in Http2::connect(address).fetch_at_once(&busy, CALLS) {
                assert_eq!(response.status, 200);
            }
        };
        in_between(streams, ask);
    }
}

#[test]
fn requests_that_run_into_the_time_out_leave_others_their_turn() {
    for (guest, small) in [
        ("probe", "/request"),
        ("proxy-probe", "/hello"),
        ("service-probe", "/hello"),
    ] {
        let server = Run::guest(guest).http().start();
        let address = server.address("http");
        let mut peer = server.connect_http();
        let mut ask = || assert_eq!(peer.fetch(small).status, 200);
        ask();
        let late = || {
            let statuses = pipelined(address, "/loop", LOOPS);
            assert!(statuses.iter().all(|&it| it >= 500), "{statuses:?}");
        };
        in_between(late, &mut ask);
    }
}

#[test]
fn a_second_signal_does_not_wait_for_calls_that_run_into_the_time_out() {
    for guest in ["probe", "proxy-probe", "service-probe"] {
        let mut server = Run::guest(guest).http().start();
        let mut peer = server.connect_http();
        peer.send(
            "GET /loop HTTP/1.1\r\nHost: x\r\n\r\n"
                .repeat(300)
                .as_bytes(),
        );
        assert!(peer.response().status >= 500);
        server.signal(Signal::TERM);
        server.log.wait_for(&["draining"]);
        server.signal(Signal::TERM);
        let begun = Instant::now();
        server.wait();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{guest}: {took:?}");
    }
}
