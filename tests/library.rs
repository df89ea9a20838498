//! The library for guests, where no example uses it: pools, datagram sockets,
//! socket options, requests whose handlers wait, the types of the crate `http`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::harness::{Run, TcpPeer};

fn probe() -> Run {
    Run::guest("library-probe")
}

/// A server that sends back what the clients of one connection after another
/// send.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
        }
    });
    address
}

/// A socket that sends back what it gets.
fn datagram_echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("its address");
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..count], peer).expect("it is sent");
        }
    });
    address
}

#[test]
fn a_pool_hands_out_a_connection_that_was_put_back() {
    let server = echo();
    let host = probe()
        .tcp()
        .args(["--allow-connect", "127.0.0.1:*"])
        .start();
    let mut peer = host.connect();
    assert_eq!(peer.ask(&format!("pool {server} hello")), "hello hello 1 1");
    // The next client's instance finds the pool of the first one.
    let mut next = host.connect();
    assert_eq!(next.ask(&format!("pool {server} again")), "again again 1 3");
    drop((peer, next));
    host.stop();
}

#[test]
fn datagram_sockets_are_connected_or_bound() {
    let server = datagram_echo();
    let host = probe().tcp().args(["--allow-udp", "127.0.0.1:*"]).start();
    let mut peer = host.connect();
    let answer = format!("hello {server}");
    assert_eq!(peer.ask(&format!("udp {server} hello")), answer);
    assert_eq!(peer.ask(&format!("udp {server} hello")), answer);
    assert_eq!(peer.ask(&format!("bound {server} hello")), answer);
    assert_eq!(
        peer.ask(&format!("udp 127.0.0.2:{} hello", server.port())),
        { "error: the command line does not allow it" }
    );
    drop(peer);
    host.stop();
}

#[test]
fn options_of_a_connection_are_set() {
    let host = probe().tcp().start();
    let mut peer = host.connect();
    assert_eq!(peer.ask("options"), "ok");
    drop(peer);
    host.stop();
}

#[test]
fn a_handler_reads_its_request_after_it_has_waited() {
    let host = probe().http().start();
    let mut peer = TcpPeer::connect(host.address("http"));
    let request = "POST /late/you?q HTTP/1.1\r\nHost: example.org\r\nX-A: 1\r\n\
         Content-Length: 4\r\n\r\nbody";
    for _ in 0..2 {
        let answer = peer.exchange(request);
        answer.is(200, "POST /late/you?q you 1 example.org body");
    }
    drop(peer);
    host.stop();
}

#[test]
fn a_handler_takes_and_returns_the_types_of_the_crate_http() {
    let host = probe().http().start();
    let mut peer = TcpPeer::connect(host.address("http"));
    let request = "POST /types HTTP/1.1\r\nHost: example.org\r\nX-A: 1\r\n\
         Content-Length: 4\r\n\r\nbody";
    let answer = peer.exchange(request).is(202, "body");
    assert_eq!(answer.header("x-b"), Some("1"));
    drop(peer);
    host.stop();
}
