//! Clients that may connect, and limits of each client: `--allow-from`,
//! `--deny-from` and `--max-client-*`.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::harness::{DEADLINE, Run, Server, UdpPeer, administered, eventually, scrape};

/// Connects from an address of loopback, as another client would.
fn connect_from(client: &str, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).expect("a socket");
    let from: SocketAddr = client.parse().expect("an address");
    socket.bind(&from.into()).expect("an address of its own");
    socket.connect(&server.into()).expect("a connection");
    let stream = TcpStream::from(socket);
    stream
        .set_read_timeout(Some(DEADLINE))
        .expect("a time limit");
    stream
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
    assert!(is_served(&connect_from("127.0.0.1:0", address)));
    assert!(!is_served(&connect_from("127.0.0.2:0", address)));
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
    assert!(!is_served(&connect_from("127.0.0.1:0", address)));
    server
        .log
        .wait_for(&["connection refused", "--max-client-connections"]);
    assert!(is_served(&connect_from("127.0.0.2:0", address)));
    drop(one);
    eventually("a place", || {
        is_served(&connect_from("127.0.0.1:0", address)).then_some(())
    });
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
    let served = (0..30).filter(|_| is_served(&connect_from("127.0.0.1:0", address)));
    let served = served.count();
    // However slow the machine is, the first three are served.
    assert!((3..30).contains(&served), "{served}");
    assert!(is_served(&connect_from("127.0.0.2:0", address)));
    server
        .log
        .wait_for(&["connection refused", "--max-client-rate"]);
    eventually("another token", || {
        is_served(&connect_from("127.0.0.1:0", address)).then_some(())
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
    for _ in 0..40 {
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
    assert!((1..=35).contains(&limited), "{limited}");
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
        assert!(!is_served(&connect_from("127.0.0.2:0", address)));
    }
    assert!(is_served(&connect_from("127.0.0.1:0", address)));
    server.stop();
}
