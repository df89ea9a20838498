//! Tests of byte streams over TCP: echo, half-close, resets, and each operation
//! of a transport.

mod chat;
mod options;

use std::io::{Read, Write};
use std::net::Ipv6Addr;

use crate::harness::{Client, Peer, Run, TcpPeer, echoes, pattern, with_ipv6};

const MIB: usize = 1 << 20;

#[test]
fn ten_mebibytes_come_back_with_an_instance_for_each_connection() {
    let server = Run::guest("echo")
        .tcp()
        .args(["--isolation", "connection"])
        .start();
    echoes(server.connect(), &pattern(10 * MIB));
    server.stop();
}

#[test]
fn ten_mebibytes_come_back_with_an_instance_for_each_worker() {
    let server = Run::guest("echo")
        .tcp()
        .args(["--isolation", "worker"])
        .start();
    echoes(server.connect(), &pattern(10 * MIB));
    server.stop();
}

#[test]
fn connections_of_one_instance_do_not_mix() {
    let server = Run::guest("echo")
        .tcp()
        .args(["--isolation", "worker", "--workers", "1"])
        .start();
    server.keeps_clients_apart();
    server.stop();
}

#[test]
fn a_port_alone_listens_on_both_loopback_addresses_with_one_port() {
    if !with_ipv6("tcp::a_port_alone_listens_on_both_loopback_addresses_with_one_port") {
        return;
    }
    let server = Run::guest("echo").listen("--tcp", "0").start();
    let v4 = server.address("tcp");
    assert!(v4.is_ipv4(), "{:?}", server.listening);
    server.serves_echo();
    let v6 = format!("tcp://[::1]:{}", v4.port());
    assert_eq!(server.listening, [format!("tcp://{v4}"), v6]);
    let mut peer = Peer::connect((Ipv6Addr::LOCALHOST, v4.port()).into());
    peer.echoes(b"six");
}

#[test]
fn several_listeners_serve_at_once() {
    let server = Run::guest("echo").tcp().tcp().tls().udp().start();
    assert_eq!(server.listening.len(), 4);
    for url in server
        .listening
        .iter()
        .filter_map(|url| url.strip_prefix("tcp://"))
    {
        let mut peer = Peer::connect(url.parse().expect("an address"));
        peer.echoes(b"one of several");
    }
    let mut peer = Client::of("localhost").connect(server.address("tls"));
    peer.echoes(b"in TLS");
    assert_eq!(server.datagrams().ask(b"a datagram"), b"a datagram");
    drop(peer);
    server.stop();
}

#[test]
fn several_workers_serve_one_address() {
    let server = Run::guest("echo").tcp().args(["--workers", "4"]).start();
    let mut peers: Vec<_> = (0..32).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.send(b"whoever it is");
    }
    for peer in &mut peers {
        assert_eq!(peer.take(13), b"whoever it is");
    }
    drop(peers);
    server.stop();
}

#[test]
fn what_came_before_a_half_close_is_all_sent_back() {
    let server = Run::guest("echo").tcp().start();
    let mut peer = server.connect();
    let bytes = pattern(100_000);
    peer.send(&bytes);
    peer.finish();
    assert!(peer.rest() == bytes);
}

#[test]
fn a_guest_may_go_on_sending_after_a_half_close() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    assert_eq!(peer.ask("half-close on"), "ok");
    peer.say("timer 50");
    peer.finish();
    assert_eq!(peer.line(), "fired");
    // The guest has to close now, and does not.
    peer.is_held();
}

#[test]
fn a_guest_may_end_its_side_and_still_receive() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    peer.say("write-eof last words");
    assert_eq!(peer.rest(), b"last words\n");
    // No answer can come back any more, so the log shows what was received.
    peer.say("print heard after the end");
    server.log.wait_for(&["heard after the end"]);
    peer.finish();
    server.stop();
}

#[test]
fn a_reset_in_mid_stream_leaves_the_others_alone() {
    for isolation in ["connection", "worker"] {
        let server = Run::guest("echo")
            .tcp()
            .args(["--isolation", isolation])
            .start();
        let mut other = server.connect();
        other.echoes(b"before");
        let descriptors = server.descriptors_at_rest();

        let mut peer = server.connect();
        peer.send(&pattern(200_000));
        peer.take(1);
        peer.reset();
        server.log.wait_for(&["reset"]);

        server.wait_for_descriptors(descriptors);
        other.echoes(b"after");
        server.serves_echo();
        drop(other);
        server.stop();
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_call_harms_nobody() {
    let server = Run::guest("probe")
        .tcp()
        .args(["--event-timeout", "300ms", "--workers", "1"])
        .start();
    let mut other = server.connect();
    assert_eq!(other.ask("half-close off"), "ok");
    let descriptors = server.descriptors_at_rest();
    let mut peer = server.connect();
    peer.say("spin");
    peer.reset();
    server.wait_for_descriptors(descriptors);
    assert_eq!(other.ask("half-close on"), "ok");
}

#[test]
fn a_client_that_says_nothing_holds_up_nobody() {
    let server = Run::guest("echo").tcp().args(["--workers", "1"]).start();
    let silent: Vec<_> = (0..50).map(|_| server.connect()).collect();
    server.serves_echo();
    drop(silent);
    server.stop();
}

#[test]
fn close_sends_what_is_queued_first() {
    let server = Run::guest("probe")
        .tcp()
        .args(["--event-timeout", "10s"])
        .start();
    let mut peer = server.connect();
    peer.say("write 3000000");
    peer.say("close the end");
    let received = peer.rest();
    assert!(received.ends_with(b"the end\n"), "{} bytes", received.len());
    assert_eq!(
        received.iter().filter(|&&byte| byte == b'x').count(),
        3_000_000
    );
}

#[test]
fn a_reply_survives_what_the_client_still_sends() {
    let server = Run::guest("probe").tcp().start();
    for _ in 0..20 {
        let mut peer = server.connect();
        let mut bytes = b"close bye\n".to_vec();
        bytes.resize(1_000_000, b'\n');
        peer.send(&bytes);
        // Bytes left unread at a close would make the kernel send a reset.
        assert_eq!(peer.line(), "bye");
    }
    server.stop();
}

#[test]
fn abort_ends_the_connection_at_once() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    peer.say("abort");
    peer.cut();
    server.log.wait_for(&["abort"]);
    assert_eq!(server.connect().ask("half-close off"), "ok");
}

/// Receives a long stream from a guest that obeys its watermarks.
fn streams_to_the_end<S: Read + Write>(mut peer: Peer<S>, limits: &str) {
    const LENGTH: usize = 32 * MIB;
    assert_ne!(peer.ask(&format!("limits {limits}")), "");
    peer.say(&format!("stream {LENGTH}"));
    let mut buffer = vec![0; MIB];
    let mut received = 0;
    while received < LENGTH {
        let count = peer.read_some(&mut buffer).expect("it goes on");
        assert_ne!(count, 0, "it ends after {received} bytes");
        received += count;
    }
    assert_eq!(received, LENGTH);
}

#[test]
fn a_guest_that_obeys_the_watermarks_never_waits_in_vain() {
    let server = Run::guest("probe")
        .tcp()
        .tls()
        .args(["--event-timeout", "30s"])
        .start();
    // Passing the mark and draining coincide by chance: the lower the marks
    // are, the more often.
    for limits in ["65536 16384", "1000 1000", "0 0"] {
        streams_to_the_end(server.connect(), limits);
        let peer = Client::of("localhost").connect(server.address("tls"));
        streams_to_the_end(peer, limits);
    }
    server.stop();
}

#[test]
fn a_guest_that_exits_with_success_has_its_answer_sent() {
    let run = || Run::guest("probe").tcp().args(["-v"]);
    for isolation in ["connection", "worker"] {
        let server = run().args(["--isolation", isolation]).start();
        let before = server.descriptors_at_rest();
        let mut peer = TcpPeer::connect_narrow(server.address("tcp"));
        peer.say("write 1000000");
        peer.say("exit 0 bye");
        let answer = peer.rest();
        assert_eq!(answer.len(), 1_000_004);
        assert!(answer.ends_with(b"bye\n"));
        server.log.wait_for(&["the guest exited"]);
        server.wait_for_descriptors(before);
        assert_eq!(server.connect().ask("size"), "0");
        assert_eq!(server.log.count("trapped"), 0);
        server.stop();
    }
    let server = run().start();
    let mut peer = server.connect();
    peer.say("exit 3 bye");
    peer.cut();
    server
        .log
        .wait_for(&["the guest trapped", "exited with code"]);
    server.stop();
}

#[test]
fn writelines_sends_its_parts_in_order() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    peer.say("writelines one two three");
    assert_eq!(peer.take(11), b"onetwothree");
}

#[test]
fn the_buffer_is_empty_once_all_is_sent_and_its_limits_can_be_set() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    assert_eq!(peer.ask("size"), "0");
    assert_eq!(peer.ask("limits 5000 1000"), "5000 1000");
    assert_eq!(
        peer.ask("limits 10 20"),
        "10 10",
        "low above high counts as high"
    );
}

#[test]
fn reading_can_be_paused_and_resumed() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    let start = std::time::Instant::now();
    peer.say("pause 200");
    peer.taken();
    // This waits in the socket until the guest reads again.
    peer.say("size");
    assert_eq!(peer.line(), "resumed");
    assert!(start.elapsed().as_millis() >= 190, "{:?}", start.elapsed());
    assert_eq!(peer.line(), "0");
}

#[test]
fn a_guest_sees_both_addresses() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    let local = peer.get().local_addr().expect("an address").to_string();
    let info = peer.ask("info");
    assert!(info.contains(&local), "{info}: no peer {local}");
    assert!(
        info.contains(&server.address("tcp").to_string()),
        "{info}: no local address"
    );
}

#[test]
fn events_come_in_the_order_of_the_grammar() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    assert_eq!(peer.ask("half-close on"), "ok");
    assert_eq!(peer.ask("limits 1000 100"), "1000 100");
    let events = peer.ask("events");
    assert!(
        events.starts_with("connection-made data-received"),
        "{events}"
    );
    assert!(!events.contains("connection-lost"), "{events}");
}

#[test]
fn a_timer_fires_once_and_not_early_and_can_be_cancelled() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    let start = std::time::Instant::now();
    assert_eq!(peer.ask("timer 100"), "fired");
    assert!(start.elapsed().as_millis() >= 99, "{:?}", start.elapsed());
    // At once, because the first must not fire before it is cancelled.
    peer.say("timer 50\ncancel-timer\ntimer 2000");
    peer.finish();
    let rest = String::from_utf8(peer.rest()).expect("text");
    assert_eq!(rest.matches("fired").count(), 0, "closed by then: {rest}");
    let mut peer = server.connect();
    peer.say("timer 30\ncancel-timer\ntimer 120");
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line| line != "fired") {
        lines.push(peer.line());
    }
    assert_eq!(
        lines.iter().filter(|line| *line == "fired").count(),
        1,
        "{lines:?}"
    );
}
