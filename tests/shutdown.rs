//! Shutdown of a server.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{
    self, Client, Run, Server, directory, eventually, pattern, same, took_less, took_more,
    unix_address,
};
use rustix::process::Signal;

fn echo(options: &[&str]) -> Server {
    Run::guest("echo").tcp().args(options).start()
}

/// Waits until nobody can connect any more.
fn refuses(server: &Server) {
    let address = server.address("tcp");
    eventually("a closed listener", || {
        TcpStream::connect_timeout(&address, Duration::from_secs(1))
            .is_err()
            .then_some(())
    });
}

#[test]
fn an_idle_server_ends_at_once_on_either_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = echo(&["--workers", "2"]);
        let start = Instant::now();
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0));
        took_less(start, Duration::from_secs(8));
    }
}

#[test]
fn the_drain_says_what_is_left_for_how_long_and_how_to_abort() {
    let mut server = echo(&["--shutdown-timeout", "90s"]);
    let mut peers = [server.connect(), server.connect()];
    for peer in &mut peers {
        peer.echoes(b"x");
    }
    server.signal(Signal::TERM);
    server.log.wait_for(&[
        "draining: no new connections; a second signal aborts what is left",
        "connections=2",
        "limit=1m 30s",
    ]);
    drop(peers);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_transfer_that_runs_is_finished_before_the_end() {
    for isolation in ["connection", "worker"] {
        let mut server = echo(&["--isolation", isolation]);
        let mut peer = server.connect();
        let bytes = pattern(8 << 20);
        let (first, last) = bytes.split_at(4 << 20);
        for chunk in first.chunks(64 << 10) {
            peer.send(chunk);
            same(&peer.take(chunk.len()), chunk);
        }
        server.signal(Signal::TERM);
        server.log.wait_for(&["drain"]);
        refuses(&server);
        for chunk in last.chunks(64 << 10) {
            peer.send(chunk);
            same(&peer.take(chunk.len()), chunk);
        }
        peer.finish();
        assert_eq!(peer.rest(), b"");
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn a_transfer_inside_tls_is_finished_before_the_end() {
    let mut server = Run::guest("echo").tcp().tls().start();
    let mut peer = Client::of("localhost").connect(server.address("tls"));
    peer.echoes(b"before");
    server.signal(Signal::TERM);
    refuses(&server);
    peer.echoes(b"after");
    peer.finish();
    assert_eq!(peer.rest(), b"");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_relay_is_finished_before_the_end() {
    let mut server = Run::guest("relay-echo").tcp().start();
    let mut peer = server.connect();
    peer.echoes(b"before");
    server.signal(Signal::TERM);
    refuses(&server);
    let bytes = pattern(64 << 10);
    peer.echoes(&bytes);
    peer.finish();
    assert_eq!(peer.rest(), b"");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn what_does_not_end_in_time_is_aborted() {
    let mut server = echo(&["--shutdown-timeout", "300ms"]);
    let mut peer = server.connect();
    peer.echoes(b"here to stay");
    let start = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(1));
    took_more(start, Duration::from_millis(290));
    peer.cut();
    server.log.wait_for(&["--shutdown-timeout"]);
}

/// Starts a server with a connection that stays open, and tells it to end.
/// Also returns when.
fn draining(first: Signal) -> (Server, harness::TcpPeer, Instant) {
    let server = echo(&["--shutdown-timeout", "10m"]);
    let mut peer = server.connect();
    peer.echoes(b"here to stay");
    let told = Instant::now();
    server.signal(first);
    server.log.wait_for(&["drain"]);
    (server, peer, told)
}

#[test]
fn a_second_signal_forces_the_end() {
    for second in [Signal::TERM, Signal::INT] {
        let (mut server, mut peer, told) = draining(Signal::TERM);
        eventually("the end", || {
            let ended = server.has_ended();
            if !ended {
                server.signal(second);
            }
            ended.then_some(())
        });
        assert!(told.elapsed() >= Duration::from_secs(1), "it was too soon");
        assert_eq!(server.wait().code(), Some(1));
        peer.cut();
    }
}

/// timeout(1) sends a signal to its command, then to their process group.
#[test]
fn a_signal_that_comes_again_within_a_second_is_no_second_one() {
    for signal in [Signal::TERM, Signal::INT] {
        // A slow machine may need several attempts to be within the second.
        let (mut server, mut peer) = eventually("a signal in time", || {
            let (server, peer, told) = draining(signal);
            server.signal(signal);
            (told.elapsed() < Duration::from_millis(900)).then_some((server, peer))
        });
        server.log.wait_for(&["not another"]);
        peer.echoes(b"still here");
        peer.finish();
        assert_eq!(peer.rest(), b"");
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn a_guest_that_loops_does_not_keep_the_server_alive() {
    let mut server = Run::guest("probe")
        .tcp()
        .args([
            "--event-timeout",
            "1s",
            "--shutdown-timeout",
            "200ms",
            "--workers",
            "1",
        ])
        .start();
    let mut peer = server.connect();
    peer.say("spin");
    server.signal(Signal::TERM);
    server.wait();
    peer.lost();
}

#[test]
fn a_stalled_handshake_does_not_keep_the_server_alive() {
    let mut server = Run::guest("echo")
        .tls()
        .args(["--handshake-timeout", "500ms", "--shutdown-timeout", "10m"])
        .start();
    let mut silent = harness::Peer::connect(server.address("tls"));
    server.signal(Signal::TERM);
    silent.lost();
    server.wait();
}

#[test]
fn datagrams_do_not_keep_the_server_alive() {
    let mut server = Run::guest("echo").udp().start();
    assert_eq!(server.datagrams().ask(b"hello"), b"hello");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_file_of_a_unix_socket_is_gone_after_a_forced_end_too() {
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    let mut server = Run::guest("echo")
        .listen("--tcp", &unix_address(&path))
        .args(["--shutdown-timeout", "100ms"])
        .start();
    let mut peer = harness::Peer::connect_unix(&path);
    peer.echoes(b"x");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(1));
    assert!(!path.exists());
}

#[test]
fn the_last_line_counts_what_happened() {
    let mut server = Run::guest("probe")
        .tcp()
        .args(["--log-format", "json"])
        .start();
    let mut peer = server.connect();
    assert_eq!(
        peer.ask("connect 127.0.0.1:1 hello"),
        "error: access-denied"
    );
    peer.finish_and_wait();
    let mut peer = server.connect();
    peer.say("panic");
    peer.lost();
    let mut peer = server.connect();
    assert_eq!(peer.ask("size"), "0");
    peer.reset();
    server.log.wait_for(&["reset"]);
    server.signal(Signal::TERM);
    server.wait();
    let line = server.log.wait_for(&["\"ended\""]);
    let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    for (counter, count) in [
        ("accepted", 3),
        ("closed", 1),
        ("lost", 2),
        ("traps", 1),
        ("denied", 1),
    ] {
        assert_eq!(entry[counter], count, "{counter} in {line}");
    }
    // Only what is not zero.
    assert!(entry.get("aborted").is_none(), "{line}");
}

#[test]
fn a_log_that_nobody_reads_any_more_does_not_end_the_server() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let server = Run::guest("echo").tcp().args(["-v"]).log_to(writer).start();
    server.serves_echo();
    drop(reader);
    for _ in 0..10 {
        let mut peer = server.connect();
        peer.send(b"some");
        peer.take(4);
        peer.reset();
    }
    server.serves_echo();
    server.stop();
}
