//! Tests of Unix domain sockets.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;

use crate::harness::{self, Peer, Run, directory, pattern, unix_address};

#[test]
fn an_echo_over_a_unix_socket() {
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    let address = unix_address(&path);
    let server = Run::guest("echo").listen("--tcp", &address).start();
    assert_eq!(server.listening, [address]);
    let mut peer = Peer::connect_unix(&path);
    let bytes = pattern(100_000);
    peer.send(&bytes);
    peer.finish();
    assert!(peer.rest() == bytes);
    server.stop();
}

#[test]
fn the_file_is_removed_at_the_end() {
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    let server = Run::guest("echo")
        .listen("--tcp", &unix_address(&path))
        .start();
    assert!(path.metadata().expect("the file").file_type().is_socket());
    server.stop();
    assert!(!path.exists());
}

#[test]
fn a_stale_file_is_replaced() {
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "the file outlives its listener");
    let server = Run::guest("echo")
        .listen("--tcp", &unix_address(&path))
        .start();
    let mut peer = Peer::connect_unix(&path);
    peer.send(b"fresh");
    assert_eq!(peer.take(5), b"fresh");
    drop(peer);
    server.stop();
}

#[test]
fn the_file_of_a_server_that_lives_is_left_to_it() {
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    let server = Run::guest("echo")
        .listen("--tcp", &unix_address(&path))
        .start();
    let second = Run::guest("echo")
        .listen("--tcp", &unix_address(&path))
        .output();
    second.refused(1, &["echo.sock", "another program listens"]);
    let mut peer = Peer::connect_unix(&path);
    peer.send(b"the first");
    assert_eq!(peer.take(9), b"the first");
    drop(peer);
    server.stop();
}

#[test]
fn a_file_that_is_no_socket_is_not_touched() {
    let scratch = directory();
    let path = harness::write(scratch.path(), "precious.txt", "precious");
    Run::guest("echo")
        .listen("--tcp", &unix_address(&path))
        .output()
        .refused(1, &["precious.txt"]);
    assert_eq!(
        std::fs::read_to_string(&path).expect("the file"),
        "precious"
    );
}

#[test]
fn all_workers_serve_one_unix_socket() {
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    let server = Run::guest("echo")
        .listen("--tcp", &unix_address(&path))
        .args(["--workers", "3"])
        .start();
    let mut peers: Vec<_> = (0..24).map(|_| Peer::connect_unix(&path)).collect();
    for peer in &mut peers {
        peer.send(b"whoever");
    }
    for peer in &mut peers {
        assert_eq!(peer.take(7), b"whoever");
    }
    drop(peers);
    server.stop();
}

#[test]
fn a_guest_sees_the_path_it_is_reached_at() {
    let scratch = directory();
    let path = scratch.path().join("probe.sock");
    let _server = Run::guest("probe")
        .listen("--tcp", &unix_address(&path))
        .start();
    let info = Peer::connect_unix(&path).ask("info");
    assert!(info.contains(harness::text(&path)), "{info}");
}

#[test]
fn datagrams_are_not_for_unix_sockets() {
    let finished = Run::guest("echo")
        .listen("--udp", "unix:/tmp/x.sock")
        .output();
    finished.refused(2, &["--udp", "unix"]);
}
