//! Tests of datagrams.

use std::net::UdpSocket;

use crate::harness::{DEADLINE, refusing_datagrams};

use super::{LISTENS, probe, says};

/// Returns a socket that the program may send to, and its address.
fn known() -> (UdpSocket, String) {
    let known = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    known.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    let address = known.local_addr().expect("its address");
    (known, address.to_string())
}

#[test]
fn datagrams_go_both_ways_and_those_of_strangers_are_dropped() {
    let (known, at) = known();
    let command = probe(&[
        "u = open inet datagram",
        "bind u 127.0.0.1:0",
        "say-listener u",
        &format!("send-to u hello {at}"),
        "receive-from u 100",
        "receive-from u 3",
        "local u",
    ])
    .args(["--allow-udp", &at])
    .start_command();
    let mut buffer = [0; 16];
    let (count, program) = known.recv_from(&mut buffer).expect("a datagram");
    assert_eq!(buffer.get(..count), Some(&b"hello"[..]));
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    stranger.send_to(b"stranger", program).expect("a datagram");
    known.send_to(b"", program).expect("an empty datagram");
    known.send_to(b"friend", program).expect("a datagram");
    command
        .stdout
        .wait_for(&[&format!("receive-from u 100: \"\" from {at}")]);
    command
        .stdout
        .wait_for(&[&format!("receive-from u 3: \"fri\" from {at} truncated")]);
}

#[test]
fn a_socket_that_listens_answers_whom_it_hears_and_no_other_socket_does() {
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    stranger
        .set_read_timeout(Some(DEADLINE))
        .expect("a time-out");
    let at = stranger.local_addr().expect("its address").to_string();
    let command = probe(&[
        "u = open inet datagram",
        "bind u 127.0.0.1:0",
        "say-listener u",
        "receive-from u 100",
        &format!("send-to u answer {at}"),
        "other = open inet datagram",
        &format!("send-to other x {at}"),
    ])
    .args(LISTENS)
    .start_command();
    let program = command.own_listener();
    stranger.send_to(b"hello", program).expect("a datagram");
    let mut buffer = [0; 16];
    let (count, from) = stranger.recv_from(&mut buffer).expect("an answer");
    assert_eq!((buffer.get(..count), from), (Some(&b"answer"[..]), program));
    command
        .stdout
        .wait_for(&[&format!("send-to other x {at}: access")]);
    command
        .log
        .wait_for(&["the guest listens on udp://127.0.0.1:"]);
}

#[test]
fn a_program_sends_datagrams_to_itself() {
    says(
        &LISTENS,
        &[
            ("s = open inet datagram", "1000000"),
            ("bind s 127.0.0.1:0", "ok"),
            ("c = open inet datagram", "1000001"),
            ("connect c $s", "ok"),
            ("send c hello", "5"),
            ("receive-from s 100", "\"hello\" from 127.0.0.1:…"),
            ("send-to s answer $c", "6"),
            ("receive c 100", "\"answer\""),
            ("receive-now c 100", "again"),
        ],
    );
}

#[test]
fn a_datagram_that_reaches_nobody_is_told() {
    let (nowhere, _gone) = refusing_datagrams();
    says(
        &["--allow-udp", "localhost:*"],
        &[
            ("u = open inet datagram", "1000000"),
            (&format!("connect u {nowhere}"), "ok"),
            ("send u x", "1"),
            ("receive u 10", "connection-refused"),
        ],
    );
}

#[test]
fn a_datagram_behind_a_flood_of_strangers_is_reported_to_who_watches_for_changes() {
    let (known, at) = known();
    let command = probe(&[
        "u = open inet datagram",
        "bind u 127.0.0.1:0",
        "k = open inet datagram",
        "bind k 127.0.0.1:0",
        "l = watch-list",
        "watch l u 2147483649",
        &format!("send-to u first {at}"),
        &format!("send-to k second {at}"),
        "receive-from k 10",
        "wait l 10 5000",
        "receive-now u 10",
        "wait l 10 5000",
        "receive-now u 10",
    ])
    .args(["--allow-udp", &at])
    .start_command();
    let mut buffer = [0; 16];
    let (_, flooded) = known.recv_from(&mut buffer).expect("a datagram");
    let (_, other) = known.recv_from(&mut buffer).expect("a datagram");
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for _ in 0..70 {
        stranger.send_to(b"x", flooded).expect("a datagram");
    }
    known.send_to(b"friend", flooded).expect("a datagram");
    known.send_to(b"go", other).expect("a datagram");
    for said in [
        "wait l 10 5000: u 1",
        "receive-now u 10: again",
        "receive-now u 10: \"friend\"",
    ] {
        command.stdout.wait_for(&[said]);
    }
    assert_eq!(command.stdout.count("wait l 10 5000: u 1"), 2);
}
