//! Tests of what event handlers open by themselves: connections that a pool keeps,
//! datagram sockets, and the authorities and certificates that they choose.

mod datagrams;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Run, Server, TcpPeer, datagram_echo, eventually};

fn probe(options: &[&str]) -> Server {
    Run::guest("dial-probe").tcp().args(options).start()
}

/// A server that sends back what it gets, until the client ends the connection
/// or says `bye`. Counts the connections that it took.
fn echo() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            let stream = stream.expect("a connection");
            std::thread::spawn(move || answer(stream));
        }
    });
    (address, taken)
}

fn answer(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if buffer.starts_with(b"bye") || stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn open(peer: &mut TcpPeer, server: SocketAddr, size: usize) -> String {
    peer.ask(&format!("pool {} {} {size}", server.ip(), server.port()))
}

/// Gets a connection of a pool.
fn get(peer: &mut TcpPeer, token: usize, pool: &str) {
    assert_eq!(peer.ask(&format!("get {token} {pool}")), "ok");
    assert_eq!(peer.line(), format!("{token} connected"));
}

/// Checks that a connection carries bytes both ways.
fn carries(peer: &mut TcpPeer, token: usize) {
    assert_eq!(peer.ask(&format!("send {token} hello")), "ok");
    assert_eq!(peer.line(), format!("{token} data hello"));
}

/// Opens a connected socket, and returns its local address.
fn bound(peer: &mut TcpPeer, token: usize, server: SocketAddr) -> SocketAddr {
    let (host, port) = (server.ip(), server.port());
    assert_eq!(peer.ask(&format!("udp {token} {host} {port}")), "ok");
    let line = peer.line();
    let local = line.strip_prefix(&format!("{token} bound "));
    let local = local.and_then(|rest| rest.strip_suffix(&format!(" {server}")));
    local
        .unwrap_or_else(|| panic!("{line}"))
        .parse()
        .expect("an address")
}

#[test]
fn a_connection_that_is_put_back_is_used_again_without_an_event_of_its_end() {
    let (server, taken) = echo();
    let host = probe(&["--allow-connect", "127.0.0.1:*"]);
    let mut peer = host.connect();
    let pool = open(&mut peer, server, 2);
    assert_eq!(open(&mut peer, server, 2), pool, "it is the same pool");
    for round in 0..3 {
        get(&mut peer, round, &pool);
        carries(&mut peer, round);
        assert_eq!(
            peer.ask(&format!("counts {pool}")),
            format!("1 0 0 1 {round} 0")
        );
        assert_eq!(peer.ask(&format!("put {round}")), "ok");
        assert_eq!(
            peer.ask(&format!("counts {pool}")),
            format!("0 1 0 1 {round} 0")
        );
    }
    assert_eq!(taken.load(Ordering::SeqCst), 1);
    // Its number means nothing any more.
    assert_eq!(peer.ask("send 0 lost"), "ok");
    assert_eq!(peer.ask("option 0 no-delay 1"), "error: invalid-state");
    drop(peer);
    // The host keeps it after the instance has ended, for any other.
    let mut other = host.connect();
    let pool = open(&mut other, server, 2);
    get(&mut other, 7, &pool);
    carries(&mut other, 7);
    assert_eq!(taken.load(Ordering::SeqCst), 1);
    drop(other);
    host.stop();
}

#[test]
fn callers_of_all_instances_wait_their_turn_for_a_pool() {
    let (server, taken) = echo();
    let host = probe(&["--allow-connect", "127.0.0.1:*"]);
    let (mut first, mut second) = (host.connect(), host.connect());
    let pool = open(&mut first, server, 1);
    let same = open(&mut second, server, 1);
    get(&mut first, 1, &pool);
    assert_eq!(second.ask(&format!("get 1 {same} 50")), "ok");
    assert_eq!(second.line(), "1 error: timeout");
    assert_eq!(second.ask(&format!("get 1 {same}")), "ok");
    assert_eq!(
        second.ask(&format!("get 1 {same}")),
        "error: invalid-state",
        "the token is in use"
    );
    eventually("it waits", || {
        (first.ask(&format!("counts {pool}")) == "1 0 1 1 0 0").then_some(())
    });
    // A caller that gives up leaves its place in the queue to others.
    let mut third = host.connect();
    let again = open(&mut third, server, 1);
    assert_eq!(third.ask(&format!("get 5 {again}")), "ok");
    assert_eq!(third.ask("cancel 5"), "ok");
    assert_eq!(first.ask("put 1"), "ok");
    assert_eq!(second.line(), "1 connected");
    carries(&mut second, 1);
    // A client that leaves with its connection frees the place.
    drop(second);
    get(&mut first, 2, &pool);
    carries(&mut first, 2);
    assert!(taken.load(Ordering::SeqCst) <= 2);
    drop((first, third));
    host.stop();
}

#[test]
fn a_connection_that_cannot_be_used_again_is_closed_without_an_event() {
    let (server, taken) = echo();
    let host = probe(&["--allow-connect", "127.0.0.1:*"]);
    let mut peer = host.connect();
    let pool = open(&mut peer, server, 4);
    // One that the server has closed is not handed out.
    get(&mut peer, 1, &pool);
    carries(&mut peer, 1);
    assert_eq!(peer.ask("send 1 bye"), "ok");
    assert_eq!(peer.line(), "1 lost");
    get(&mut peer, 2, &pool);
    eventually("the second", || {
        (taken.load(Ordering::SeqCst) == 2).then_some(())
    });
    // One that is closing is not kept.
    assert_eq!(peer.ask("close 2\nput 2"), "ok");
    assert_eq!(peer.line(), "ok");
    assert_eq!(peer.ask(&format!("counts {pool}")), "0 0 0 2 0 0");
    // Nor is one that no pool gave.
    let (host_name, port) = (server.ip(), server.port());
    assert_eq!(peer.ask(&format!("connect 3 {host_name} {port}")), "ok");
    assert_eq!(peer.line(), "3 connected");
    assert_eq!(peer.ask("put 3"), "ok");
    assert_eq!(peer.ask("put 99"), "ok", "a number that was never given");
    assert_eq!(peer.ask(&format!("counts {pool}")), "0 0 0 2 0 0");
    // A closed pool keeps nothing.
    get(&mut peer, 4, &pool);
    assert_eq!(peer.ask(&format!("close-pool {pool}")), "ok");
    assert_eq!(peer.ask("put 4"), "ok");
    assert_eq!(peer.ask(&format!("get 5 {pool}")), "ok");
    assert_eq!(peer.line(), "5 error: connection-aborted");
    assert_eq!(peer.ask("get 6 12345"), "error: invalid-state");
    assert_eq!(peer.ask("counts 12345"), "0 0 0 0 0 0");
    let before = host.descriptors();
    drop(peer);
    host.wait_for_descriptors(before - 1);
    host.stop();
}

#[test]
fn what_a_pool_may_connect_to_is_denied_by_default() {
    let (server, _) = echo();
    let host = probe(&[]);
    let mut peer = host.connect();
    assert_eq!(open(&mut peer, server, 1), "error: access-denied");
    host.log
        .wait_for(&["not allowed", &format!("--allow-connect {server}")]);
    assert_eq!(open(&mut peer, server, 0), "error: invalid-argument");
    drop(peer);
    host.stop();
}

#[test]
fn options_of_sockets_are_set_and_others_refused() {
    let (server, _) = echo();
    let datagram = datagram_echo();
    let host = probe(&[
        "--allow-connect",
        "127.0.0.1:*",
        "--allow-udp",
        "127.0.0.1:*",
    ]);
    let mut peer = host.connect();
    let (ip, port) = (server.ip(), server.port());
    assert_eq!(peer.ask(&format!("connect 1 {ip} {port}")), "ok");
    assert_eq!(peer.line(), "1 connected");
    bound(&mut peer, 2, datagram);
    for (option, of_connection, of_datagrams) in [
        ("no-delay 0", "ok", "error: not-supported"),
        ("keep-alive 7", "ok", "error: not-supported"),
        (
            "keep-alive 0",
            "error: invalid-argument",
            "error: not-supported",
        ),
        (
            "hop-limit 0",
            "error: invalid-argument",
            "error: invalid-argument",
        ),
        ("hop-limit 3", "ok", "ok"),
        ("traffic-class 184", "ok", "ok"),
        ("receive-buffer-size 65536", "ok", "ok"),
        (
            "send-buffer-size 0",
            "error: invalid-argument",
            "error: invalid-argument",
        ),
    ] {
        assert_eq!(
            peer.ask(&format!("option 1 {option}")),
            of_connection,
            "{option}"
        );
        assert_eq!(
            peer.ask(&format!("option 2 {option}")),
            of_datagrams,
            "{option}"
        );
    }
    carries(&mut peer, 1);
    assert_eq!(peer.ask("udp-send 2 still"), "ok");
    assert_eq!(peer.line(), format!("2 datagram {datagram} still"));
    drop(peer);
    host.stop();
}

#[test]
fn a_guest_chooses_an_authority_and_a_certificate_by_name() {
    let certs = concat!(env!("CARGO_MANIFEST_DIR"), "/../certs");
    let server = Run::guest("echo")
        .tls()
        .certificate("cert.pem", "key.pem")
        .args(["--client-ca", &format!("{certs}/ca.pem")])
        .start();
    let port = server.address("tls").port();
    let host = probe(&[
        "--allow-connect",
        "localhost:*",
        "--tls-authority",
        &format!("own={certs}/ca.pem"),
        "--tls-authority",
        &format!("other={certs}/self.pem"),
        "--tls-identity",
        &format!("me={certs}/client.pem,{certs}/client.key"),
    ]);
    let mut peer = host.connect();
    let mut token = 0;
    let mut connect = |authority: &str, identity: &str| {
        token += 1;
        let command = format!("connect {token} localhost {port} {authority} {identity}");
        match peer.ask(&command).as_str() {
            "ok" => {}
            refused => return refused.to_owned(),
        }
        let line = peer.line();
        let line = line.strip_prefix(&format!("{token} ")).expect("its event");
        if line != "connected" {
            return line.to_owned();
        }
        // A server of TLS 1.3 refuses a client only after that.
        peer.say(&format!("send {token} hello"));
        let lines = [peer.line(), peer.line()];
        let event = lines.iter().find(|line| *line != "ok").expect("an event");
        event
            .strip_prefix(&format!("{token} "))
            .expect("its event")
            .to_owned()
    };
    assert_eq!(connect("own", "me"), "data hello");
    let refused = connect("own", "-");
    assert!(refused.starts_with("lost tls: "), "{refused}");
    for (authority, identity) in [("other", "me"), ("-", "me")] {
        let refused = connect(authority, identity);
        assert!(refused.starts_with("error: tls: "), "{refused}");
    }
    assert_eq!(connect("own", "me"), "data hello", "and again");
    assert_eq!(connect("nobody", "me"), "error: access-denied");
    assert_eq!(connect("own", "nobody"), "error: access-denied");
    host.log
        .wait_for(&["'nobody'", "--tls-authority nobody=FILE"]);
    host.log
        .wait_for(&["'nobody'", "--tls-identity nobody=CERT,KEY"]);
    drop(peer);
    host.stop();
    server.stop();
}
