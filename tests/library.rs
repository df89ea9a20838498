//! The library for guests, where no example uses it: pools, datagram sockets,
//! socket options, requests whose handlers wait, the types of the crate `http`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use crate::harness::{Run, TcpPeer, datagram_echo};

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

#[test]
fn a_handler_streams_a_body_that_it_reads_piece_by_piece() {
    let host = probe().http().args(["--max-body", "1GiB"]).start();
    let before = host.resident();
    let mut peer = TcpPeer::connect(host.address("http"));
    let body: Vec<u8> = (0..48 << 20).map(|at: u32| (at % 251) as u8).collect();
    let head = format!(
        "POST /copy HTTP/1.1\r\nHost: example.org\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    peer.send(head.as_bytes());
    let mut most = 0;
    std::thread::scope(|scope| {
        let mut sender = peer.get().try_clone().expect("a second handle");
        let bytes = &body;
        let sending = scope.spawn(move || sender.write_all(bytes).expect("it is sent"));
        // Nobody reads the response, so the client is stopped after a while.
        host.idles();
        most = host.resident();
        assert!(peer.response().body == body, "it comes back changed");
        sending.join().expect("it is sent");
    });
    let grown = most.saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more");
    drop(peer);
    host.stop();
}

#[test]
fn a_handler_that_reads_no_pieces_gets_the_body_whole() {
    let host = probe().http().start();
    let mut peer = TcpPeer::connect(host.address("http"));
    let request = "POST /whole HTTP/1.1\r\nHost: example.org\r\nContent-Length: 8\r\n\r\n";
    peer.send((request.to_owned() + "half").as_bytes());
    peer.send(b"rest");
    peer.response().is(200, "8");
    drop(peer);
    host.stop();
}

#[test]
fn a_handler_may_answer_before_the_body_has_come() {
    let host = probe().http().start();
    let mut peer = TcpPeer::connect(host.address("http"));
    let request = "POST /begin HTTP/1.1\r\nHost: example.org\r\nContent-Length: 8\r\n\r\nhalf";
    peer.send(request.as_bytes());
    peer.response().is(200, "half");
    // The rest is dropped, and the connection goes on.
    peer.send(b"rest");
    peer.exchange("GET /hint HTTP/1.1\r\nHost: example.org\r\n\r\n");
    drop(peer);
    host.stop();
}

#[test]
fn the_task_of_a_client_that_leaves_ends() {
    let host = probe().http().start();
    let before = host.descriptors_at_rest();
    let mut peer = TcpPeer::connect(host.address("http"));
    let request = "POST /copy HTTP/1.1\r\nHost: example.org\r\nContent-Length: 8\r\n\r\nhalf";
    peer.send(request.as_bytes());
    assert_eq!(peer.line(), "HTTP/1.1 200 OK");
    drop(peer);
    host.wait_for_descriptors(before);
    host.stop();
}

#[test]
fn interim_responses_are_sent_before_and_after_a_handler_waits() {
    let host = probe().http().args(["--send-informational"]).start();
    let mut peer = TcpPeer::connect(host.address("http"));
    peer.send(b"GET /hint HTTP/1.1\r\nHost: example.org\r\n\r\n");
    for style in ["a", "b"] {
        assert_eq!(peer.line(), "HTTP/1.1 103 Early Hints");
        assert_eq!(peer.line(), format!("link: {style}.css"));
        assert_eq!(peer.line(), "");
    }
    let answer = peer.response();
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body).expect("text");
    assert_eq!(text, "invalid argument");
    drop(peer);
    host.stop();
}
