//! Events of connections that only the newer half of the interface has: room,
//! the timer, TLS that begins later, idleness, tokens, the shutdown.

use std::io::Write as _;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Client, Run, Server};

fn probe(options: &[&str]) -> Server {
    Run::guest("probe").tcp().args(options).start()
}

#[test]
fn a_guest_that_asks_for_room_gets_an_event_each_time_and_others_have_their_turn() {
    const TIMES: usize = 20_000;
    let server = probe(&["--isolation", "worker", "--workers", "1"]);
    let mut peer = server.connect();
    let mut other = server.connect();
    peer.say(&format!("goad {TIMES}"));
    for _ in 0..20 {
        assert_eq!(other.ask("size"), "0");
    }
    let received = peer.take(TIMES);
    assert!(received.iter().all(|&byte| byte == b'x'));
    assert_eq!(peer.ask("size"), "0", "and no more");
    drop((peer, other));
    server.stop();
}

#[test]
fn the_clock_advances_and_a_time_that_has_passed_wakes_at_once() {
    let server = probe(&[]);
    let mut peer = server.connect();
    let mut now = || peer.ask("now").parse::<u64>().expect("nanoseconds");
    let first = now();
    assert!(now() > first);
    for _ in 0..100 {
        let start = Instant::now();
        assert_eq!(peer.ask("timer 0"), "fired");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    drop(peer);
    server.stop();
}

#[test]
fn timers_fire_in_the_order_of_their_times() {
    let server = probe(&[]);
    let mut peer = server.connect();
    let start = Instant::now();
    // The host's one timer moves nearer, farther, and goes. At once, because the second
    // must not fire before it is cancelled.
    assert_eq!(peer.ask("timer 1000\ntimer 50\ncancel-timer"), "ok");
    let paused = Instant::now();
    assert_eq!(peer.ask("pause 100"), "resumed");
    assert!(paused.elapsed() >= Duration::from_millis(99));
    assert_eq!(peer.line(), "fired");
    assert!(start.elapsed() >= Duration::from_millis(950));
    drop(peer);
    server.stop();
}

#[test]
fn the_end_of_a_handshake_is_an_event() {
    let server = Run::guest("probe")
        .tcp()
        .certificate("cert.pem", "key.pem")
        .start();
    let mut peer = server.connect();
    peer.say("start-tls");
    let mut peer = Client::of("localhost")
        .over(peer.into_inner())
        .expect("a handshake");
    let told = peer.line();
    assert!(told.starts_with("TLSv1.3 TLS13_"), "{told}");
    assert_eq!(
        peer.ask("events"),
        "connection-made data-received tls-started data-received"
    );
    drop(peer);
    server.stop();
}

#[test]
fn a_handshake_that_fails_is_the_end_and_no_other_event() {
    let server = Run::guest("probe")
        .tcp()
        .certificate("cert.pem", "key.pem")
        .args(["-v"])
        .start();
    let peer = server.connect();
    let mut socket = peer.into_inner();
    socket
        .write_all(b"start-tls\nthis is no TLS at all\n")
        .expect("it is sent");
    server.log.wait_for(&["connection lost", "TLS"]);
    assert_eq!(server.connect().ask("size"), "0");
    let log = server.log.clone();
    server.stop();
    log.wait_for(&["ended ", "handshakes_failed=1"]);
}

#[test]
fn a_guest_sets_how_long_its_connection_may_be_idle() {
    let server = probe(&["--idle-timeout", "1h"]);
    let mut idle = server.connect();
    let mut busy = server.connect();
    let mut back = server.connect();
    let start = Instant::now();
    assert_eq!(back.ask("idle 1500\nidle -"), "ok");
    assert_eq!(back.line(), "ok");
    for peer in [&mut idle, &mut busy] {
        assert_eq!(peer.ask("idle 1500"), "ok");
    }
    while server.log.count("set-idle-timeout") == 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "it stays");
        assert_eq!(busy.ask("size"), "0");
    }
    assert!(start.elapsed() >= Duration::from_secs(1));
    idle.cut();
    assert_eq!(busy.ask("size"), "0");
    assert_eq!(back.ask("size"), "0");
    drop((busy, back));
    server.stop();
}

#[test]
fn a_token_is_for_one_look_up_at_a_time() {
    let server = probe(&["--allow-resolve", "*"]);
    let mut peer = server.connect();
    assert_eq!(peer.ask("resolve-twice localhost"), "error: invalid-state");
    let answer = peer.ask("resolve localhost");
    assert!(answer.contains("127.0.0.1"), "{answer}");
    drop(peer);
    server.stop();
}

#[test]
fn every_guest_is_told_of_the_shutdown_and_how_long_it_has() {
    for isolation in ["connection", "worker"] {
        for (limit, told) in [("7s", "shutting down in 7000 ms"), ("0", "shutting down")] {
            let mut server = probe(&[
                "--isolation",
                isolation,
                "--workers",
                "2",
                "--shutdown-timeout",
                limit,
            ]);
            let mut peers: Vec<_> = (0..5).map(|_| server.connect()).collect();
            for peer in &mut peers {
                assert_eq!(peer.ask("size"), "0");
            }
            server.signal(Signal::TERM);
            for peer in &mut peers {
                assert_eq!(peer.line(), told, "{isolation}");
            }
            drop(peers);
            assert_eq!(server.wait().code(), Some(0));
        }
    }
}
