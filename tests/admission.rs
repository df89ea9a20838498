//! Clients that may connect, and limits of each client: `--allow-from`,
//! `--deny-from` and `--max-client-*`.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::harness::{DEADLINE, Run, Server, UdpPeer, administered, eventually, scrape};

/// Connects from an address of loopback, as another client would.
fn connect_from(client: &str, server: SocketAddr) -> TcpStream {
    try_connect_from(client, server).expect("a connection")
}

/// Like [`connect_from`]. If connect(2) returns late, it reports itself that the server
/// has reset the connection.
fn try_connect_from(client: &str, server: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).expect("a socket");
    let from: SocketAddr = client.parse().expect("an address");
    socket.bind(&from.into()).expect("an address of its own");
    socket.connect(&server.into())?;
    let stream = TcpStream::from(socket);
    stream
        .set_read_timeout(Some(DEADLINE))
        .expect("a time limit");
    Ok(stream)
}

/// True if the server echoes, and false if it resets the connection.
fn is_served(mut stream: &TcpStream) -> bool {
    let sent = stream.write_all(b"hello");
    let mut echoed = [0; 5];
    match sent.and_then(|()| stream.read_exact(&mut echoed)) {
        Ok(()) => echoed == *b"hello",
        Err(error) => {
            let kind = error.kind();
            let reset = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(reset.contains(&kind), "{error}");
            false
        }
    }
}

/// Like [`is_served`], for a connection of its own.
fn serves(client: &str, server: SocketAddr) -> bool {
    match try_connect_from(client, server) {
        Ok(stream) => is_served(&stream),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            false
        }
    }
}

fn counted(server: Server, needles: &[&str]) {
    let log = server.log.clone();
    server.stop();
    log.wait_for(needles);
}

#[test]
fn clients_of_a_denied_network_are_reset() {
    let run = Run::guest("echo").tcp().udp();
    let networks = ["--deny-from=127.0.0.0/8", "--allow-from=127.0.0.1"];
    let (server, admin) = administered(run.args(networks));
    let address = server.address("tcp");
    assert!(serves("127.0.0.1:0", address));
    assert!(!serves("127.0.0.2:0", address));
    server
        .log
        .wait_for(&["connection refused", "127.0.0.2", "--deny-from"]);
    let datagrams = UdpPeer::connect(server.address("udp"));
    assert_eq!(datagrams.ask(b"a datagram"), b"a datagram");
    let refused =
        format!("netwasm_listener_refused_total{{service=\"echo\",listener=\"tcp://{address}\"}}");
    assert_eq!(scrape(admin)[&refused], 1.0);
    counted(server, &["ended", "clients_refused=1"]);
}

#[test]
fn datagrams_of_a_denied_client_are_dropped() {
    let server = Run::guest("echo")
        .udp()
        .args(["--deny-from=127.0.0.1", "-v"])
        .start();
    let peer = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    peer.connect(server.address("udp")).expect("a peer");
    peer.send(b"a datagram").expect("sent");
    server.log.wait_for(&["a datagram is dropped"]);
    counted(server, &["ended", "clients_refused=1"]);
}

#[test]
fn a_client_has_so_many_connections_and_another_one_its_own() {
    let server = Run::guest("echo")
        .tcp()
        .args(["--max-client-connections=2", "--workers=2"])
        .start();
    let address = server.address("tcp");
    let one = connect_from("127.0.0.1:0", address);
    let two = connect_from("127.0.0.1:0", address);
    assert!(is_served(&one) && is_served(&two));
    assert!(!serves("127.0.0.1:0", address));
    server
        .log
        .wait_for(&["connection refused", "--max-client-connections"]);
    assert!(serves("127.0.0.2:0", address));
    drop(one);
    eventually("a place", || serves("127.0.0.1:0", address).then_some(()));
    assert!(is_served(&two));
    drop(two);
    server.stop();
}

#[test]
fn a_client_that_connects_too_often_is_reset() {
    let server = Run::guest("echo")
        .tcp()
        .args(["--max-client-rate=3"])
        .start();
    let address = server.address("tcp");
    // However slow the machine is, the first three are served, and one is not.
    let served = (0..1000).take_while(|_| serves("127.0.0.1:0", address));
    let served = served.count();
    assert!((3..1000).contains(&served), "{served}");
    assert!(serves("127.0.0.2:0", address));
    server
        .log
        .wait_for(&["connection refused", "--max-client-rate"]);
    eventually("another token", || {
        serves("127.0.0.1:0", address).then_some(())
    });
    server.stop();
}

#[test]
fn a_client_that_asks_too_often_gets_429() {
    let server = Run::guest("router")
        .http()
        .args(["--max-client-requests=5"])
        .start();
    let mut peer = server.connect_http();
    let mut limited = 0;
    let mut sent = 0;
    // On a slow machine, more are allowed meanwhile.
    while limited < 5 && sent < 1000 {
        sent += 1;
        let post = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
        let response = peer.exchange(post);
        if response.status == 429 {
            assert_eq!(response.header("Retry-After"), Some("1"));
            limited += 1;
        }
        if response.closes() {
            peer = server.connect_http();
        }
    }
    assert!(limited == 5 && sent >= 10, "{limited} of {sent}");
    server
        .log
        .wait_for(&["request refused", "--max-client-requests"]);
    eventually("another request", || {
        let response = server.connect_http().fetch("/about");
        (response.status == 200).then_some(())
    });
    server.stop();
}

#[test]
fn a_network_that_is_none_is_explained() {
    let run = Run::guest("echo").tcp().args(["--deny-from=10.0.0.1/8"]);
    run.output().refused(
        2,
        &[
            "10.0.0.1/8",
            "write 10.0.0.1 for the address, or 10.0.0.0/8",
        ],
    );
}

#[test]
fn a_program_does_not_hear_of_clients_that_are_turned_away() {
    let any = "127.0.0.1:0";
    let server = Run::guest("socket-echo")
        .args(["--allow-listen", any, "--deny-from=127.0.0.2"])
        .guest_args(&[any])
        .start_command();
    let address = server.own_listener();
    for _ in 0..3 {
        assert!(!serves("127.0.0.2:0", address));
    }
    assert!(serves("127.0.0.1:0", address));
    server.stop();
}
