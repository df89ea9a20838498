//! Datagrams of async guests.

use std::net::UdpSocket;

use super::{probe, session};
use crate::harness::{DEADLINE, Run, in_own_network, refusing_datagrams, set_mtu};

#[test]
fn datagrams_go_to_and_fro() {
    let echo = Run::guest("echo").udp().start();
    let address = echo.address("udp");
    let allowed = format!("localhost:{}", address.port());
    let server = probe(&["--allow-udp", &allowed, "--allow-udp", &address.to_string()]);
    let mut peer = session(&server);
    // A connected socket, by address: `localhost` leads to an IPv6 address
    // first if there is one, and the echo has none.
    assert_eq!(peer.ask(&format!("socket {address}")), "ok");
    for message in ["one", "two", ""] {
        assert_eq!(peer.ask(&format!("datagram {message}")), "ok");
        let answer = peer.ask("receive");
        assert_eq!(answer.trim_end(), format!("{address} {message}").trim_end());
    }
    // The longest datagram, and one byte more.
    assert_eq!(peer.ask("long-datagram 65507"), "ok");
    assert_eq!(peer.ask("receive"), format!("{address} 65507"));
    assert_eq!(
        peer.ask("long-datagram 65508"),
        "ErrorCode::InvalidArgument"
    );
    assert_eq!(
        peer.ask("datagram-to 127.0.0.1:9 x"),
        "ErrorCode::InvalidState"
    );

    // A socket that is not connected.
    assert_eq!(peer.ask("bind 127.0.0.1:0"), "ok");
    assert_eq!(peer.ask("datagram x"), "ErrorCode::InvalidState");
    assert_eq!(peer.ask(&format!("datagram-to {address} hello")), "ok");
    assert_eq!(peer.ask("receive"), format!("{address} hello"));
    assert_eq!(
        peer.ask("datagram-to 127.0.0.1:9 x"),
        "ErrorCode::AccessDenied"
    );
    server.log.wait_for(&["--allow-udp 127.0.0.1:9 would"]);
    assert_eq!(
        peer.ask("datagram-to 127.0.0.1:0 x"),
        "ErrorCode::InvalidArgument"
    );
    drop(peer);
    server.stop();
}

#[test]
fn datagrams_larger_than_a_packet_arrive_and_those_too_long_are_an_error() {
    if !in_own_network(
        "client::datagrams::datagrams_larger_than_a_packet_arrive_and_those_too_long_are_an_error",
    ) {
        return;
    }
    set_mtu(1500);
    // `localhost` leads to an IPv6 address first.
    for (any, host, longest) in [
        ("127.0.0.1:0", "127.0.0.1", 65_507),
        ("[::1]:0", "localhost", 65_527),
    ] {
        let echo = Run::guest("echo").listen("--udp", any).start();
        let address = echo.address("udp");
        let target = format!("{host}:{}", address.port());
        let server = probe(&["--allow-udp", &target]);
        let mut peer = session(&server);
        assert_eq!(peer.ask(&format!("socket {target}")), "ok");
        for size in [1453, 9000, longest] {
            assert_eq!(peer.ask(&format!("long-datagram {size}")), "ok");
            let received = peer.ask("receive");
            assert!(received.ends_with(&format!(" {size}")), "{received}");
        }
        let too_long = format!("long-datagram {}", longest + 1);
        assert_eq!(peer.ask(&too_long), "ErrorCode::InvalidArgument");
        drop(peer);
        server.stop();
        echo.stop();
    }
}

#[test]
fn whoever_sent_a_datagram_may_be_answered() {
    let server = probe(&["--allow-listen", "127.0.0.1:0"]);
    let mut peer = session(&server);
    assert_eq!(peer.ask("bind 127.0.0.1:0"), "ok");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    let local = socket.local_addr().expect("an address");
    let answer = format!("datagram-to {local} answer");
    assert_eq!(peer.ask(&answer), "ErrorCode::AccessDenied");
    let address = peer.ask("socket-address");
    socket.send_to(b"question", &*address).expect("it is sent");
    assert_eq!(peer.ask("receive"), format!("{local} question"));
    assert_eq!(peer.ask(&answer), "ok");
    let mut buffer = [0; 64];
    let (count, _) = socket.recv_from(&mut buffer).expect("an answer");
    assert_eq!(buffer.get(..count), Some(&b"answer"[..]));
    drop(peer);
    server.stop();
}

#[test]
fn strangers_are_not_heard_where_nobody_listens() {
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let friend = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let allowed = friend.local_addr().expect("an address").to_string();
    let server = probe(&["--allow-udp", &allowed, "--allow-listen", "127.0.0.2:0"]);
    let mut peer = session(&server);
    // The first socket may listen. The second may not.
    assert_eq!(peer.ask("bind 127.0.0.2:0"), "ok");
    assert_eq!(peer.ask("bind 127.0.0.1:0"), "ok");
    let address = peer.ask("socket-address");
    for (socket, message) in [(&stranger, "strange"), (&friend, "known")] {
        socket
            .send_to(message.as_bytes(), &*address)
            .expect("it is sent");
    }
    assert_eq!(peer.ask("receive"), format!("{allowed} known"));
    drop(peer);
    server.stop();
}

#[test]
fn a_datagram_that_reaches_nobody_is_told_and_the_socket_stays() {
    let (address, socket) = refusing_datagrams();
    let server = probe(&["--allow-udp", &address.to_string()]);
    let mut peer = session(&server);
    assert_eq!(peer.ask(&format!("socket {address}")), "ok");
    assert_eq!(peer.ask("datagram x"), "ok");
    assert_eq!(peer.ask("receive"), "ErrorCode::ConnectionRefused");
    // Now the address takes datagrams from the program.
    let program = peer.ask("socket-address");
    socket.connect(&*program).expect("another peer");
    assert_eq!(peer.ask("datagram x"), "ok");
    let mut buffer = [0; 2];
    assert_eq!(socket.recv(&mut buffer).expect("a datagram"), 1);
    drop(peer);
    server.stop();
}
