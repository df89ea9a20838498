//! Tests of connection pools: by the guest `pool`, and each rule by the probe.
//! There, each client has its own instance, and all share the host's pools.

mod kept;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{DEADLINE, Run, Server, TcpPeer, eventually, full_backlog, refusing};
use socket2::SockRef;

/// An echo in the test's own process, which counts its connections and closes
/// each after a number of reads.
struct Echo {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Echo {
    fn new(reads: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&accepted);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || serve(&stream, reads));
            }
        });
        Self { address, accepted }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Starts the probe, which may connect here, with this many workers.
    fn client(&self, workers: &str) -> Server {
        probe(self.address, workers)
    }

    fn target(&self) -> String {
        format!("tcp:{}", self.address)
    }
}

fn serve(mut stream: &TcpStream, reads: usize) {
    let mut buffer = [0; 4096];
    stream.set_nodelay(true).expect("TCP_NODELAY");
    for number in 1..=reads {
        let Ok(count @ 1..) = stream.read(&mut buffer) else {
            return;
        };
        if number == reads {
            // The cork sends the answer and the end together.
            SockRef::from(stream).set_tcp_cork(true).expect("TCP_CORK");
        }
        let Some(Ok(())) = buffer.get(..count).map(|it| stream.write_all(it)) else {
            return;
        };
    }
}

fn probe(to: SocketAddr, workers: &str) -> Server {
    Run::guest("stream-probe")
        .tcp()
        .args(["--allow-connect", &to.to_string()])
        .args(["--workers", workers])
        .start()
}

/// Connects to an instance that runs commands on the client interface.
fn session(server: &Server) -> TcpPeer {
    let mut peer = server.connect();
    peer.say("client");
    peer
}

/// Like [`session`], with a pool.
fn pooled(server: &Server, pool: &str) -> TcpPeer {
    let mut peer = session(server);
    assert_eq!(peer.ask(&format!("pool {pool}")), "ok");
    peer
}

fn wait_for_counts(peer: &mut TcpPeer, wanted: &str) {
    let mut last = String::new();
    let start = Instant::now();
    while !last.contains(wanted) {
        assert!(start.elapsed() < DEADLINE, "{last}, not {wanted}");
        last = peer.ask("counts");
    }
}

#[test]
fn ten_thousand_messages_take_three_connections() {
    let echo = Echo::new(usize::MAX);
    let (host, port) = (
        echo.address.ip().to_string(),
        echo.address.port().to_string(),
    );
    let finished = Run::guest("pool")
        .args(["--allow-connect", &echo.address.to_string()])
        .guest_args(&[&host, &port, "3", "10000"])
        .output();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let last = finished.stdout.lines().last();
    assert_eq!(last, Some("10000 messages, 3 connections"));
    let mut replies: Vec<_> = finished.stdout.lines().collect();
    replies.pop();
    replies.sort_unstable();
    replies.dedup();
    assert_eq!(replies.len(), 10_000, "each is answered, by its own answer");
    assert_eq!(echo.accepted(), 3);
}

#[test]
fn a_thousand_messages_get_through_where_servers_close_what_is_kept() {
    let echo = Echo::new(7);
    let (host, port) = (
        echo.address.ip().to_string(),
        echo.address.port().to_string(),
    );
    let finished = Run::guest("pool")
        .args(["--allow-connect", &echo.address.to_string()])
        .guest_args(&[&host, &port, "3", "1000"])
        .output();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert_eq!(finished.stdout.lines().count(), 1001);
    let opened = echo.accepted();
    assert!((143..=160).contains(&opened), "{opened} connections");
    let last = format!("1000 messages, {opened} connections");
    assert_eq!(finished.stdout.lines().last(), Some(&*last));
}

#[test]
fn the_pool_has_ten_messages_and_three_connections_by_default() {
    let echo = Run::guest("echo").tcp().start();
    let address = echo.address("tcp");
    let finished = Run::guest("pool")
        .args(["--allow-connect", &format!("localhost:{}", address.port())])
        .guest_args(&["localhost", &address.port().to_string()])
        .output();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.stdout.ends_with("10 messages, 3 connections\n"));

    let finished = Run::guest("pool").guest_args(&["localhost"]).output();
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("usage: pool HOST PORT"));
}

#[test]
fn instances_of_a_run_share_a_pool_on_all_workers() {
    let echo = Echo::new(usize::MAX);
    let server = echo.client("2");
    let pool = format!("{} size=1", echo.target());
    // The kernel chooses the worker of each connection. Of this many, both get
    // some.
    for _ in 0..32 {
        let mut peer = pooled(&server, &pool);
        assert_eq!(peer.ask("get"), "ok");
        assert_eq!(peer.ask("ask hello"), "hello");
        assert_eq!(peer.ask("put"), "ok");
    }
    let counts = pooled(&server, &pool).ask("counts");
    assert_eq!(
        counts,
        "in-use 0 idle 1 waiting 0 opened 1 reused 31 expired 0"
    );
    assert_eq!(echo.accepted(), 1);
    // Other options make another pool.
    let other = pooled(&server, &format!("{} size=2", echo.target())).ask("counts");
    assert_eq!(
        other,
        "in-use 0 idle 0 waiting 0 opened 0 reused 0 expired 0"
    );
    server.stop();
}

#[test]
fn those_who_wait_are_served_in_order() {
    let echo = Echo::new(usize::MAX);
    let server = echo.client("2");
    let pool = echo.target();
    let mut first = pooled(&server, &pool);
    assert_eq!(first.ask("get"), "ok");
    let mut waiting = Vec::new();
    for number in 1..=5 {
        let mut peer = pooled(&server, &pool);
        peer.say("get");
        wait_for_counts(&mut first, &format!("waiting {number} "));
        waiting.push(peer);
    }
    assert_eq!(first.ask("put"), "ok");
    for (number, mut peer) in waiting.into_iter().enumerate() {
        assert_eq!(peer.line(), "ok");
        wait_for_counts(&mut first, &format!("waiting {} ", 4 - number));
        assert_eq!(peer.ask("ask hello"), "hello");
        assert_eq!(peer.ask("put"), "ok");
    }
    assert_eq!(echo.accepted(), 1);
    drop(first);
    server.stop();
}

#[test]
fn who_waits_too_long_gets_an_error_and_takes_no_place() {
    let echo = Echo::new(usize::MAX);
    let server = echo.client("1");
    let mut first = pooled(&server, &echo.target());
    assert_eq!(first.ask("get"), "ok");
    let mut second = pooled(&server, &echo.target());
    let start = Instant::now();
    assert_eq!(second.ask("get 100"), "ErrorCode::Timeout");
    assert!(start.elapsed() >= Duration::from_millis(100));
    wait_for_counts(&mut first, "in-use 1 idle 0 waiting 0");
    assert_eq!(first.ask("put"), "ok");
    assert_eq!(second.ask("get 100"), "ok");
    drop((first, second));
    server.stop();
}

#[test]
fn giving_up_leaves_no_place_taken_and_no_descriptor() {
    // Giving up while connecting, which takes time there.
    let (silent, _kept) = full_backlog([127, 0, 0, 1].into());
    let server = probe(silent, "1");
    let before = server.descriptors_at_rest();
    let mut peer = pooled(&server, &format!("tcp:{silent}"));
    assert_eq!(peer.ask("give-up get"), "given up");
    wait_for_counts(&mut peer, "in-use 0 idle 0 waiting 0");
    drop(peer);
    server.wait_for_descriptors(before);
    server.stop();
    // Giving up while waiting.
    let echo = Echo::new(usize::MAX);
    let server = echo.client("1");
    let before = server.descriptors_at_rest();
    let mut peer = pooled(&server, &echo.target());
    let mut holder = pooled(&server, &echo.target());
    assert_eq!(holder.ask("get"), "ok");
    assert_eq!(peer.ask("give-up get"), "given up");
    wait_for_counts(&mut peer, "in-use 1 idle 0 waiting 0");
    // A waiting client gets the connection that is put back.
    let mut leaver = pooled(&server, &echo.target());
    leaver.say("get");
    wait_for_counts(&mut peer, "waiting 1 ");
    assert_eq!(holder.ask("put"), "ok");
    assert_eq!(leaver.line(), "ok");
    // It leaves without putting the connection back.
    drop(leaver);
    wait_for_counts(&mut peer, "in-use 0 idle 0 waiting 0");
    assert_eq!(peer.ask("get"), "ok");
    assert_eq!(peer.ask("drop"), "ok");
    wait_for_counts(&mut peer, "in-use 0 idle 0 waiting 0");
    assert_eq!(peer.ask("close"), "ok");
    drop((peer, holder));
    server.wait_for_descriptors(before);
    server.stop();
}

#[test]
fn closing_a_pool_ends_it_for_all_who_share_it() {
    let echo = Echo::new(usize::MAX);
    let server = echo.client("1");
    let mut holder = pooled(&server, &echo.target());
    assert_eq!(holder.ask("get"), "ok");
    let mut waiter = pooled(&server, &echo.target());
    waiter.say("get");
    wait_for_counts(&mut holder, "waiting 1 ");
    assert_eq!(holder.ask("close"), "ok");
    assert_eq!(waiter.line(), "ErrorCode::ConnectionAborted");
    assert_eq!(holder.ask("ask still"), "still");
    assert_eq!(holder.ask("put"), "ok");
    wait_for_counts(&mut holder, "in-use 0 idle 0");
    assert_eq!(holder.ask("get"), "ErrorCode::ConnectionAborted");
    assert_eq!(holder.ask(&format!("pool {}", echo.target())), "ok");
    assert_eq!(holder.ask("get"), "ok");
    drop((holder, waiter));
    server.stop();
}

#[test]
fn a_pool_that_may_not_connect_is_denied() {
    let echo = Echo::new(usize::MAX);
    let server = Run::guest("stream-probe").tcp().start();
    let mut peer = session(&server);
    let pool = format!("pool {}", echo.target());
    assert_eq!(peer.ask(&pool), "ErrorCode::AccessDenied");
    server
        .log
        .wait_for(&[&format!("--allow-connect {}", echo.address)]);
    assert_eq!(
        peer.ask(&format!("{pool} size=0")),
        "ErrorCode::InvalidArgument"
    );
    assert_eq!(echo.accepted(), 0);
    drop(peer);
    server.stop();
}

#[test]
fn a_failure_to_connect_frees_the_place() {
    let (address, _bound) = refusing();
    let server = probe(address, "1");
    let mut peer = pooled(&server, &format!("tcp:{address}"));
    for _ in 0..3 {
        assert_eq!(peer.ask("get"), "ErrorCode::ConnectionRefused");
    }
    let counts = peer.ask("counts");
    assert_eq!(
        counts,
        "in-use 0 idle 0 waiting 0 opened 0 reused 0 expired 0"
    );
    eventually("nothing in use", || {
        peer.ask("counts").starts_with("in-use 0").then_some(())
    });
    drop(peer);
    server.stop();
}

#[test]
fn each_connection_that_was_made_is_counted_as_closed() {
    // The peer closes some while they are kept, one is closed instead of kept,
    // the guest closes one, and one is kept until the end.
    let echo = Echo::new(2);
    let server = echo.client("1");
    let mut peer = pooled(&server, &echo.target());
    for _ in 0..4 {
        assert_eq!(peer.ask("get"), "ok");
        assert_eq!(peer.ask("ask hello"), "hello");
        assert_eq!(peer.ask("put"), "ok");
    }
    assert_eq!(peer.ask("get"), "ok");
    assert_eq!(peer.ask("end-sending"), "ok");
    assert_eq!(peer.ask("put"), "ok");
    assert_eq!(peer.ask(&format!("connect {}", echo.target())), "ok");
    assert_eq!(peer.ask("put"), "ok");
    assert_eq!(peer.ask("get"), "ok");
    assert_eq!(peer.ask("put"), "ok");
    wait_for_counts(&mut peer, "in-use 0 idle 1");
    drop(peer);
    let log = server.log.clone();
    server.stop();
    let line = log.wait_for(&["ended", "accepted="]);
    let count = |name: &str| -> usize {
        let at = line.split_whitespace().find_map(|word| {
            let (key, value) = word.split_once('=')?;
            (key == name).then(|| value.parse().expect("a number"))
        });
        at.expect(name)
    };
    assert_eq!(count("made"), 5, "{line}");
    assert_eq!(count("accepted") + count("made"), count("closed"), "{line}");
}
