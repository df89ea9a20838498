//! The PROXY protocol before connections: `--proxy-protocol-from`.

use std::io::Write;
use std::net::Shutdown;

use crate::harness::{Client, Peer, Run, Server, cert, directory, eventually, message, text};

/// The header of version 2 for a client at 192.0.2.9:1234.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\
    \xc0\0\x02\x09\xc6\x33\x64\x01\x04\xd2\x01\xbb";

/// The header of version 1 for the same client.
const LINE: &[u8] = b"PROXY TCP4 192.0.2.9 198.51.100.1 1234 443\r\n";

/// Starts a server that takes clients' addresses from proxies on loopback.
fn behind_proxy() -> Server {
    Run::guest("router")
        .http()
        .args(["--access-log", "-", "--proxy-protocol-from", "127.0.0.0/8"])
        .start()
}

/// Waits for a line of the access log.
fn logged(server: &Server, begin: &str) {
    eventually("a line of the access log", || {
        let lines = server.stdout.lines();
        lines
            .iter()
            .any(|line| line.starts_with(begin))
            .then_some(())
    });
}

#[test]
fn the_address_of_the_header_is_the_clients() {
    let server = behind_proxy();
    for header in [LINE, BINARY] {
        let mut peer = server.connect_http();
        let request = message("GET", "/about", &[]);
        peer.exchange([header, request.as_bytes()].concat())
            .is(200, "<h1>About</h1>");
        // The header comes once.
        peer.fetch("/about").is(200, "<h1>About</h1>");
    }
    logged(&server, "192.0.2.9 - - [");
    let log = server.stdout.lines();
    assert!(
        !log.iter().any(|line| line.starts_with("127.0.0.1 ")),
        "{log:?}"
    );
    server.stop();
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let server = behind_proxy();
    for header in [LINE, BINARY] {
        let mut peer = server.connect_http();
        for byte in header {
            peer.send(&[*byte]);
        }
        peer.fetch("/about").is(200, "<h1>About</h1>");
    }
    server.stop();
}

#[test]
fn a_proxy_that_does_not_know_the_client_is_the_peer_itself() {
    let server = behind_proxy();
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    // The specification lets anything follow an unspecified family.
    let unspecified = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\x05\x01\0\xffab";
    for header in [&b"PROXY UNKNOWN\r\n"[..], local, unspecified] {
        let request = message("GET", "/about", &[]);
        let bytes = [header, request.as_bytes()].concat();
        server
            .connect_http()
            .exchange(bytes)
            .is(200, "<h1>About</h1>");
    }
    logged(&server, "127.0.0.1 - - [");
    server.stop();
}

#[test]
fn the_header_precedes_tls() {
    let server = Run::guest("router")
        .https()
        .args(["--access-log", "-", "--proxy-protocol-from", "127.0.0.1"])
        .start();
    let mut stream = std::net::TcpStream::connect(server.address("https")).expect("a connection");
    stream.write_all(BINARY).expect("it is sent");
    let mut peer = Client::of("localhost").over(stream).expect("a session");
    peer.fetch("/about").is(200, "<h1>About</h1>");
    logged(&server, "192.0.2.9 - - [");
    server.stop();
}

#[test]
fn a_proxy_without_a_header_is_refused_and_so_is_a_malformed_one() {
    let server = behind_proxy();
    for bytes in [
        message("GET", "/about", &[]).as_bytes(),
        b"PROXY TCP4 192.0.2.9\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
        &[b'P'; 200],
    ] {
        let mut peer = server.connect_http();
        // It may be cut off while it sends.
        let _ = peer.get().write_all(bytes);
        peer.lost();
    }
    // One that ends, and one that says nothing.
    let mut ended = server.connect_http();
    ended.send(b"PROXY TCP4");
    ended.get().shutdown(Shutdown::Write).expect("an end");
    ended.lost();
    server.log.wait_for_count("--proxy-protocol-from", 5);
    let idle = server.connect_http();
    server.idles();
    drop(idle);
    server.stop();
}

#[test]
fn a_header_that_takes_too_long_ends_its_connection_alone() {
    let server = Run::guest("router")
        .http()
        .args([
            "--proxy-protocol-from",
            "127.0.0.1",
            "--handshake-timeout",
            "300ms",
        ])
        .start();
    let mut silent = server.connect_http();
    silent.send(b"PROXY ");
    silent.lost();
    server
        .log
        .wait_for(&["the header of the proxy takes too long (--handshake-timeout)"]);
    let request = [LINE, message("GET", "/about", &[]).as_bytes()].concat();
    server
        .connect_http()
        .exchange(request)
        .is(200, "<h1>About</h1>");
    server.stop();
}

#[test]
fn others_than_the_proxies_speak_as_always() {
    let scratch = directory();
    let socket = scratch.path().join("s");
    let server = Run::guest("router")
        .http()
        .listen("--http", &format!("unix:{}", socket.display()))
        .args([
            "--proxy-protocol-from",
            "10.0.0.0/8",
            "--proxy-protocol-from",
            "unix",
        ])
        .start();
    server
        .connect_http()
        .fetch("/about")
        .is(200, "<h1>About</h1>");
    let request = [LINE, message("GET", "/about", &[]).as_bytes()].concat();
    // A header of somebody who may not send one is no request.
    assert_eq!(server.connect_http().exchange(request.clone()).status, 400);
    let mut unix = Peer::connect_unix(&socket);
    unix.exchange(request).is(200, "<h1>About</h1>");
    server.stop();
}

#[test]
fn what_is_no_network_is_told() {
    let cert = cert("cert.pem");
    let run = Run::guest("router").args(["--http", "0", "--proxy-protocol-from", text(&cert)]);
    run.output()
        .refused(2, &["is not a network: write one such as 10.0.0.0/8"]);
}
