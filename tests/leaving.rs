//! Tests of clients that leave or are slow, and of connections that make room
//! for others.

mod room;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::harness::http2::ask;
use crate::harness::{
    self, Client, Http2, Peer, Run, TcpPeer, directory, eventually, message, text,
};

const PROBES: [&str; 2] = ["proxy-probe", "service-probe"];

fn probe(guest: &str) -> Run {
    Run::guest(guest).args(["--workers", "1"])
}

/// Connects over TLS for HTTP/1.1.
fn secure(address: SocketAddr) -> harness::TlsPeer {
    https().connect(address)
}

fn https() -> Client {
    Client::of("localhost").alpn("http/1.1")
}

fn get(target: &str) -> Vec<u8> {
    message("GET", target, &[]).into_bytes()
}

fn close<S: Read + Write>(peer: Peer<S>) {
    // Sends a FIN, and nothing else.
    drop(peer);
}

#[test]
fn a_client_that_closes_is_noticed_while_a_guest_has_no_answer_yet() {
    for guest in PROBES {
        for isolation in ["request", "connection"] {
            let server = probe(guest)
                .http()
                .https()
                .args(["--isolation", isolation])
                .start();
            let before = server.descriptors_at_rest();
            let mut peer = server.connect_http();
            peer.send(&get("/never"));
            peer.is_held();
            close(peer);
            let mut peer = secure(server.address("https"));
            peer.send(&get("/never"));
            close(peer);
            let left = || server.log.count("the client left within a request");
            eventually("both are noticed", || (left() == 2).then_some(()));
            server.wait_for_descriptors(before);
            server.stop();
        }
    }
}

#[test]
fn a_client_that_closes_is_noticed_in_the_midst_of_a_silent_response() {
    for limit in ["10m", "none"] {
        let server = probe("service-probe")
            .http()
            .https()
            .args(["--half-close-timeout", limit])
            .start();
        let before = server.descriptors_at_rest();
        let mut peer = server.connect_http();
        peer.send(&get("/stall?5"));
        while peer.line() != "xxxxx" {}
        close(peer);
        let mut peer = secure(server.address("https"));
        peer.send(&get("/stall?5"));
        while peer.line() != "xxxxx" {}
        close(peer);
        server.wait_for_descriptors(before);
        drop(server);
    }
}

#[test]
fn a_client_that_half_closes_gets_what_takes_long() {
    for guest in PROBES {
        let server = probe(guest).http().start();
        let mut peer = server.connect_http();
        peer.send(&get("/late?5000"));
        peer.finish();
        // The server sends it to see whether the client is still there.
        peer.goes_on();
        let mut line = peer.line();
        while line != "HTTP/1.1 200 OK" {
            line = peer.line();
        }
        assert!(peer.rest().ends_with(b"late\n"));
        server.stop();
    }
}

#[test]
fn a_client_that_half_closes_is_not_answered_for_ever() {
    let server = probe("service-probe")
        .http()
        .args(["--half-close-timeout", "300ms"])
        .start();
    let mut peer = server.connect_http();
    peer.send(b"GET /never HTTP/1.0\r\n\r\n");
    peer.finish();
    peer.ends();
    server.log.wait_for(&["--half-close-timeout"]);
    // A client of HTTP/1.1, which is sent 100 Continue, is not kept either.
    let mut peer = server.connect_http();
    peer.send(&get("/stall?5"));
    peer.finish();
    let rest = String::from_utf8_lossy(&peer.lost()).into_owned();
    assert!(!rest.ends_with("0\r\n\r\n"), "{rest}");
    server.stop();
}

#[test]
fn a_response_that_does_not_go_on_ends_at_its_time() {
    let server = probe("service-probe")
        .http()
        .https()
        .args(["--response-body-timeout", "300ms"])
        .start();
    let mut peer = server.connect_http();
    peer.send(&get("/stall?5"));
    let rest = String::from_utf8_lossy(&peer.lost()).into_owned();
    assert!(
        rest.contains("xxxxx") && !rest.ends_with("0\r\n\r\n"),
        "{rest}"
    );
    let why = "does not go on in time (--response-body-timeout)";
    server.log.wait_for(&[why]);
    let mut peer = Http2::connect(server.address("http"));
    let response = peer.try_exchange(ask("GET", "/stall?5"), b"");
    assert!(response.is_err(), "it is not whole");
    eventually("both are logged", || {
        (server.log.count(why) == 2).then_some(())
    });
    server.stop();
}

#[test]
fn a_connection_whose_peer_has_ended_its_side_is_not_kept_for_ever() {
    for tls in [false, true] {
        let run = Run::guest("probe").args(["--half-close-timeout", "400ms"]);
        let server = if tls { run.tls() } else { run.tcp() }.start();
        if tls {
            let mut peer = Client::of("localhost").connect(server.address("tls"));
            assert_eq!(peer.ask("half-close on"), "ok");
            peer.finish();
            peer.lost();
        } else {
            let mut peer = server.connect();
            assert_eq!(peer.ask("half-close on"), "ok");
            peer.finish();
            peer.lost();
        }
        server.log.wait_for(&["--half-close-timeout"]);
        server.stop();
    }
}

#[test]
fn a_guest_that_has_half_a_connection_learns_that_the_peer_is_gone() {
    let server = Run::guest("probe").tcp().start();
    let before = server.descriptors_at_rest();
    let mut peer = server.connect();
    assert_eq!(peer.ask("half-close on"), "ok");
    peer.finish();
    // This is long before --half-close-timeout.
    peer.reset();
    server.log.wait_for(&["reset by the peer"]);
    server.wait_for_descriptors(before);
    server.stop();
}

#[test]
fn a_guest_that_does_not_read_its_stream_does_not_keep_a_peer_that_left() {
    let server = Run::guest("stream-probe")
        .tcp()
        .args(["--half-close-timeout", "400ms"])
        .start();
    let before = server.descriptors_at_rest();
    for how in ["reset", "close"] {
        let mut peer = server.connect();
        assert_eq!(peer.ask("idle"), "ok");
        match how {
            "reset" => peer.reset(),
            _ => close(peer),
        }
        server.wait_for_descriptors(before);
    }
    server.stop();
}

/// Reads slowly but steadily for much longer than `--write-timeout`. Meanwhile
/// the server's socket has no room, or too little for poll(2) to report.
fn reads_slowly(peer: &mut Peer<impl Read + Write>) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(3500) {
        peer.take(8 << 10);
        std::thread::sleep(Duration::from_millis(40));
    }
}

#[test]
fn a_peer_that_reads_slowly_but_steadily_is_not_cut_off() {
    let site = directory();
    let file = std::fs::File::create(site.path().join("big.bin")).expect("a file");
    file.set_len(64 << 20).expect("its size");
    let dir = format!("{}::/", text(site.path()));
    let limits = ["--write-timeout", "1500ms", "--idle-timeout", "1600ms"];
    let site = || Run::guest("static").http().args(["--dir", &dir]);
    let serves = site().https().args(limits).start();
    // A relay reads only now and then, when its target has room.
    let behind = site().start();
    let relays = Run::guest("proxy")
        .tcp()
        .args(limits)
        .args(["--allow-connect", "127.0.0.1:*"])
        .guest_args(&[&behind.address("http").to_string()])
        .start();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut peer = TcpPeer::connect_narrow(serves.address("http"));
            peer.send(&get("/big.bin"));
            reads_slowly(&mut peer);
        });
        scope.spawn(|| {
            let socket = TcpPeer::connect_narrow(serves.address("https")).into_inner();
            let mut peer = https().over(socket).expect("a session");
            peer.send(&get("/big.bin"));
            reads_slowly(&mut peer);
        });
        scope.spawn(|| {
            let mut peer = TcpPeer::connect_narrow(relays.address("tcp"));
            peer.send(&get("/big.bin"));
            reads_slowly(&mut peer);
        });
    });
    for server in [serves, relays] {
        assert_eq!(server.log.count("-timeout"), 0);
        drop(server);
    }
}

/// Returns the timers of the established connections at a local port, from
/// /proc/net/tcp.
fn timers(port: u16) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the connections");
    let port = format!(":{port:04X}");
    let mut timers = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<_> = line.split_whitespace().collect();
        if let [_, local, _, "01", _, timer, ..] = fields[..]
            && local.ends_with(&port)
        {
            timers.push(timer.chars().take(2).collect());
        }
    }
    timers
}

#[test]
fn a_peer_that_vanishes_is_asked_whether_it_is_still_there() {
    let behind = Run::guest("echo").tcp().start();
    for (flag, expected) in [("60s", "02"), ("none", "00")] {
        let address = behind.address("tcp").to_string();
        let server = Run::guest("proxy")
            .tcp()
            .args(["--tcp-keepalive", flag, "--allow-connect", &address])
            .guest_args(&[&address])
            .start();
        let mut peer = server.connect();
        peer.send(b"x");
        assert_eq!(peer.take(1), b"x");
        let port = server.address("tcp").port();
        eventually("the timer of keepalive", || {
            (timers(port) == [expected]).then_some(())
        });
        let outgoing = || {
            let table = std::fs::read_to_string("/proc/net/tcp").expect("the connections");
            let remote = format!(":{:04X}", behind.address("tcp").port());
            table.lines().any(|line| {
                let fields: Vec<_> = line.split_whitespace().collect();
                matches!(fields[..], [_, _, to, "01", _, timer, ..]
                    if to.ends_with(&remote) && timer.starts_with(expected))
            })
        };
        eventually("that of the outgoing one", || outgoing().then_some(()));
    }
}
