//! Connections that are kept between their users: which of them are handed out
//! again, and what they cost meanwhile.

use std::io::Write;
use std::net::TcpListener;

use super::{Echo, pooled, probe, wait_for_counts};
use crate::harness::{Run, Strace, TlsServer, cert, text};

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
    server.idles();
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
