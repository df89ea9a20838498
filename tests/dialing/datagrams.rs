//! Datagram sockets.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;

use super::{bound, probe};
use crate::harness::{datagram_echo, eventually, free_port, refusing_datagrams};

#[test]
fn a_connected_socket_sends_to_its_peer_and_hears_nobody_else() {
    let server = datagram_echo();
    let host = probe(&["--allow-udp", "127.0.0.1:*"]);
    let mut peer = host.connect();
    let local = bound(&mut peer, 1, server);
    for text in ["one", "two"] {
        assert_eq!(peer.ask(&format!("udp-send 1 {text}")), "ok");
        assert_eq!(peer.line(), format!("1 datagram {server} {text}"));
    }
    assert_eq!(peer.ask(&format!("udp-send-to 1 {server} three")), "ok");
    assert_eq!(peer.line(), format!("1 datagram {server} three"));
    assert_eq!(
        peer.ask("udp-send-to 1 127.0.0.1:9 x"),
        "error: invalid-state"
    );
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    stranger.send_to(b"stranger", local).expect("a datagram");
    assert_eq!(peer.ask("udp-send 1 four"), "ok");
    assert_eq!(peer.line(), format!("1 datagram {server} four"));
    assert_eq!(peer.ask("udp-close 1"), "ok");
    assert_eq!(peer.line(), "1 closed");
    assert_eq!(peer.ask("udp-send 1 five"), "error: invalid-state");
    drop(peer);
    host.stop();
}

#[test]
fn a_peer_that_does_not_listen_is_reported_and_the_socket_stays() {
    let nobody = refusing_datagrams();
    let host = probe(&["--allow-udp", "127.0.0.1:*"]);
    let mut peer = host.connect();
    bound(&mut peer, 1, nobody.0);
    for _ in 0..2 {
        assert_eq!(peer.ask("udp-send 1 anybody"), "ok");
        assert_eq!(peer.line(), "1 refused connection-refused");
    }
    drop(peer);
    host.stop();
}

#[test]
fn a_bound_socket_hears_those_that_it_may_send_to_or_all_where_it_may_listen() {
    let (friend, stranger) = (
        UdpSocket::bind("127.0.0.1:0").expect("a socket"),
        UdpSocket::bind("127.0.0.1:0").expect("a socket"),
    );
    for socket in [&friend, &stranger] {
        let timeout = Some(Duration::from_secs(30));
        socket.set_read_timeout(timeout).expect("a timeout");
    }
    let (friendly, strange) = (
        friend.local_addr().expect("an address"),
        stranger.local_addr().expect("an address"),
    );
    let own = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let host = probe(&[
        "--allow-udp",
        &friendly.to_string(),
        "--allow-listen",
        &own.to_string(),
    ]);
    let mut peer = host.connect();

    let picked: SocketAddr = peer.ask("bind 1 127.0.0.1:0").parse().expect("an address");
    stranger.send_to(b"strange", picked).expect("a datagram");
    friend.send_to(b"friendly", picked).expect("a datagram");
    assert_eq!(peer.line(), format!("1 datagram {friendly} friendly"));
    assert_eq!(peer.ask(&format!("udp-send-to 1 {friendly} back")), "ok");
    let mut buffer = [0; 64];
    assert_eq!(
        friend.recv_from(&mut buffer).expect("a datagram"),
        (4, picked)
    );
    assert_eq!(
        peer.ask(&format!("udp-send-to 1 {strange} x")),
        "error: access-denied"
    );
    host.log
        .wait_for(&["not allowed", &format!("--allow-udp {strange}")]);
    assert_eq!(peer.ask("udp-send 1 x"), "error: invalid-state");

    assert_eq!(peer.ask(&format!("bind 2 {own}")), own.to_string());
    stranger.send_to(b"strange", own).expect("a datagram");
    assert_eq!(peer.line(), format!("2 datagram {strange} strange"));
    assert_eq!(peer.ask(&format!("udp-send-to 2 {strange} hello")), "ok");
    assert_eq!(
        stranger.recv_from(&mut buffer).expect("a datagram"),
        (5, own)
    );
    assert_eq!(
        peer.ask(&format!("bind 3 {own}")),
        "error: address-not-bindable"
    );

    assert_eq!(peer.ask("bind 4 127.0.0.1:9"), "error: access-denied");
    host.log
        .wait_for(&["not allowed", "--allow-listen 127.0.0.1:9"]);
    drop(peer);
    host.stop();
}

#[test]
fn datagram_sockets_need_a_permission_and_are_limited() {
    let server = datagram_echo();
    let host = probe(&["--max-handles", "3"]);
    let mut peer = host.connect();
    let (ip, port) = (server.ip(), server.port());
    assert_eq!(
        peer.ask(&format!("udp 1 {ip} {port}")),
        "error: access-denied"
    );
    host.log
        .wait_for(&["not allowed", &format!("--allow-udp {server}")]);
    assert_eq!(peer.ask("udp 1 localhost 0"), "error: invalid-argument");
    for token in 0..3 {
        assert!(
            !peer
                .ask(&format!("bind {token} 127.0.0.1:0"))
                .starts_with("error")
        );
    }
    assert_eq!(peer.ask("bind 3 127.0.0.1:0"), "error: limit-exceeded");
    assert_eq!(peer.ask("udp-close 0"), "ok");
    assert_eq!(peer.line(), "0 closed");
    assert!(!peer.ask("bind 3 127.0.0.1:0").starts_with("error"));
    drop(peer);
    host.stop();
}

#[test]
fn datagram_sockets_of_all_instances_count_as_outgoing() {
    let host = probe(&["--max-outgoing", "2"]);
    let (mut first, mut second) = (host.connect(), host.connect());
    assert!(!first.ask("bind 1 127.0.0.1:0").starts_with("error"));
    assert!(!second.ask("bind 1 127.0.0.1:0").starts_with("error"));
    assert_eq!(first.ask("bind 2 127.0.0.1:0"), "error: limit-exceeded");
    assert_eq!(second.ask("udp-close 1"), "ok");
    assert_eq!(second.line(), "1 closed");
    eventually("its place", || {
        (!first.ask("bind 2 127.0.0.1:0").starts_with("error")).then_some(())
    });
    drop((first, second));
    host.stop();
}

#[test]
fn datagram_sockets_end_with_their_instance_and_with_the_run() {
    let server = datagram_echo();
    let host = probe(&["--allow-udp", "127.0.0.1:*"]);
    let before = host.descriptors_at_rest();
    for _ in 0..3 {
        let mut peer = host.connect();
        bound(&mut peer, 1, server);
        bound(&mut peer, 2, server);
        assert!(!peer.ask("bind 3 127.0.0.1:0").starts_with("error"));
        assert!(host.descriptors() >= before + 4);
        drop(peer);
        host.wait_for_descriptors(before);
    }
    // A datagram that the guest sends in its last event is sent.
    let listener = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let timeout = Some(Duration::from_secs(30));
    listener.set_read_timeout(timeout).expect("a timeout");
    let mut peer = host.connect();
    bound(&mut peer, 1, listener.local_addr().expect("an address"));
    assert_eq!(peer.ask("last-words 1 farewell"), "ok");
    drop(peer);
    let mut buffer = [0; 64];
    let (count, _) = listener.recv_from(&mut buffer).expect("a datagram");
    assert_eq!(&buffer[..count], b"farewell");
    host.wait_for_descriptors(before);
    // So it is after a trap.
    let mut peer = host.connect();
    bound(&mut peer, 1, server);
    peer.say("nonsense");
    peer.cut();
    host.wait_for_descriptors(before);
    // A connection that goes on when the run is ending needs its sockets.
    let mut peer = host.connect();
    bound(&mut peer, 1, server);
    host.signal(Signal::TERM);
    host.log.wait_for(&["draining"]);
    assert_eq!(peer.ask("udp-send 1 still"), "ok");
    assert_eq!(peer.line(), format!("1 datagram {server} still"));
    drop(peer);
    host.stop();
}
