//! Tests of connection pools: by the guest `pool`, and each rule by the probe.
//! There, each client has its own instance, and all share the host's pools.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    DEADLINE, Run, Server, Strace, TcpPeer, TlsServer, cert, eventually, refusing, text,
};
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
    let echo = Echo::new(usize::MAX);
    let server = echo.client("1");
    let before = server.descriptors_at_rest();
    let mut peer = pooled(&server, &echo.target());
    // Giving up while connecting.
    assert_eq!(peer.ask("give-up get"), "given up");
    wait_for_counts(&mut peer, "in-use 0 idle 0 waiting 0");
    // Giving up while waiting.
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
fn a_connection_that_its_peer_closed_is_not_handed_out() {
    let echo = Echo::new(1);
    let server = echo.client("1");
    let mut peer = pooled(&server, &echo.target());
    for number in 1..=5 {
        assert_eq!(peer.ask("get"), "ok");
        assert_eq!(peer.ask("ask hello"), "hello");
        assert_eq!(peer.ask("put"), "ok");
        assert_eq!(echo.accepted(), number);
    }
    // No `get` is needed for that: the descriptor is closed in time.
    wait_for_counts(
        &mut peer,
        "in-use 0 idle 0 waiting 0 opened 5 reused 0 expired 5",
    );
    drop(peer);
    server.stop();
}

#[test]
fn what_was_said_unasked_is_not_read_by_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let server = probe(address, "1");
    let mut peer = pooled(&server, &format!("tcp:{address}"));
    assert_eq!(peer.ask("get"), "ok");
    let (mut first, _) = listener.accept().expect("a connection");
    first.write_all(b"for the one before").expect("it is sent");
    assert_eq!(peer.ask("put"), "ok");
    wait_for_counts(&mut peer, "idle 0 waiting 0 opened 1 reused 0 expired 1");
    assert_eq!(peer.ask("get"), "ok");
    let (mut second, _) = listener.accept().expect("another connection");
    second.write_all(b"new").expect("it is sent");
    assert_eq!(peer.ask("take 3"), "new");
    drop(peer);
    server.stop();
}

#[test]
fn what_cannot_be_used_again_is_closed_when_it_is_put_back() {
    let echo = Echo::new(usize::MAX);
    let server = echo.client("1");
    let mut peer = pooled(&server, &echo.target());
    assert_eq!(peer.ask("get"), "ok");
    assert_eq!(peer.ask("end-sending"), "ok");
    assert_eq!(peer.ask("put"), "ok");
    wait_for_counts(&mut peer, "in-use 0 idle 0 waiting 0 opened 1");
    // A connection of another pool, or of none.
    assert_eq!(peer.ask(&format!("connect {}", echo.target())), "ok");
    assert_eq!(peer.ask("put"), "ok");
    wait_for_counts(&mut peer, "in-use 0 idle 0 waiting 0 opened 1");
    // A connection whose read was given up can still be put back.
    assert_eq!(peer.ask("get"), "ok");
    assert_eq!(peer.ask("give-up read"), "given up");
    assert_eq!(peer.ask("put"), "ok");
    wait_for_counts(&mut peer, "in-use 0 idle 1 waiting 0 opened 2");
    assert_eq!(peer.ask("get"), "ok");
    assert_eq!(peer.ask("ask hello"), "hello");
    drop(peer);
    server.stop();
}

#[test]
fn neither_the_old_nor_the_long_idle_are_handed_out() {
    for limit in ["idle=50", "age=50"] {
        let echo = Echo::new(usize::MAX);
        let server = echo.client("1");
        let mut peer = pooled(&server, &format!("{} {limit}", echo.target()));
        for number in 1..=2 {
            assert_eq!(peer.ask("get"), "ok");
            assert_eq!(peer.ask("put"), "ok");
            let expired = format!("idle 0 waiting 0 opened {number} reused 0 expired {number}");
            wait_for_counts(&mut peer, &expired);
        }
        drop(peer);
        server.stop();
    }
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
fn connections_that_are_kept_cost_no_system_calls() {
    let echo = Echo::new(usize::MAX);
    let server = echo.client("1");
    let pool = format!("{} size=5", echo.target());
    let mut peers: Vec<_> = (0..5).map(|_| pooled(&server, &pool)).collect();
    for peer in &mut peers {
        assert_eq!(peer.ask("get"), "ok");
    }
    for peer in &mut peers {
        assert_eq!(peer.ask("put"), "ok");
    }
    assert!(peers[0].ask("counts").starts_with("in-use 0 idle 5"));
    let calls = "trace=recvfrom,recvmsg,/epoll_p?wait";
    let Some(strace) = Strace::attach(&server, &["-e", calls]) else {
        return;
    };
    // The lookout polls twice a second, and asks for more events at a time than
    // the runtimes do.
    strace.wait_for_several(&["epoll", ", 256, "], 4);
    let trace = strace.detach();
    let looks = trace.iter().filter(|line| line.contains("recv")).count();
    assert_eq!(looks, 0, "{trace:#?}");
}

#[test]
fn a_pool_of_tls_sessions_keeps_them_and_notices_their_end() {
    let tls = TlsServer::new("cert.pem", "key.pem", &[]);
    let port = tls.address.port();
    let server = Run::guest("stream-probe")
        .tcp()
        .args(["--workers", "2", "--ca", text(&cert("ca.pem"))])
        .args(["--allow-connect", &format!("localhost:{port}")])
        .start();
    let pool = format!("tls:localhost:{port}");
    let mut peer = pooled(&server, &pool);
    peer.say("get");
    let mut accepted = tls.accept().expect("a session");
    assert_eq!(peer.line(), "ok");
    for number in 0..10 {
        // In another instance each time, perhaps on another worker.
        peer.say("ask hello");
        assert_eq!(accepted.take(5), b"hello");
        accepted.send(b"hello");
        assert_eq!(peer.line(), "hello");
        assert_eq!(peer.ask("put"), "ok");
        peer = pooled(&server, &pool);
        assert_eq!(peer.ask("get"), "ok");
        let counts = peer.ask("counts");
        assert!(
            counts.ends_with(&format!("opened 1 reused {} expired 0", number + 1)),
            "{counts}"
        );
    }
    // The server sends bytes unasked.
    assert_eq!(peer.ask("put"), "ok");
    accepted.send(b"unasked");
    wait_for_counts(&mut peer, "idle 0 waiting 0 opened 1 reused 10 expired 1");

    // The server sends close_notify, and keeps the socket open.
    peer.say("get");
    let mut accepted = tls.accept().expect("a session");
    assert_eq!(peer.line(), "ok");
    assert_eq!(
        accepted.get().conn.handshake_kind(),
        Some(rustls::HandshakeKind::Resumed)
    );
    assert_eq!(peer.ask("put"), "ok");
    accepted.finish();
    wait_for_counts(&mut peer, "idle 0 waiting 0 opened 2 reused 10 expired 2");
    drop(peer);
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
