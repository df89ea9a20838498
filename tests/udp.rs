//! Tests of datagrams.

use std::collections::HashSet;
use std::net::UdpSocket;

use crate::harness::{
    Run, Server, Strace, UdpPeer, datagram_handler, directory, eventually, in_own_network, pattern,
    set_mtu, with_ipv6,
};

/// Longest payload of an IPv4 datagram in bytes.
const MOST: usize = 65_507;

fn echo() -> Server {
    Run::guest("echo").udp().start()
}

#[test]
fn an_empty_datagram_is_one_and_not_an_end() {
    let server = echo();
    let peer = server.datagrams();
    assert_eq!(peer.ask(b""), b"");
    assert_eq!(peer.ask(b"and on"), b"and on");
    server.stop();
}

#[test]
fn the_longest_datagram_comes_back() {
    let server = echo();
    let bytes = pattern(MOST);
    assert!(server.datagrams().ask(&bytes) == bytes);
}

#[test]
fn datagrams_of_all_sizes_keep_their_borders() {
    let server = echo();
    let peer = server.datagrams();
    for size in [1, 2, 63, 64, 1471, 1472, 1473, 9000, 16_383, 16_384, 65_000] {
        let bytes = pattern(size);
        assert!(peer.ask(&bytes) == bytes, "{size} bytes");
    }
}

#[test]
fn datagrams_larger_than_a_packet_are_sent_in_fragments() {
    if !in_own_network("udp::datagrams_larger_than_a_packet_are_sent_in_fragments") {
        return;
    }
    set_mtu(1500);
    // The length field of IPv6 does not count the header.
    for (any, longest) in [("127.0.0.1:0", MOST), ("[::1]:0", 65_527)] {
        let server = Run::guest("echo").listen("--udp", any).start();
        let peer = server.datagrams();
        for size in [0, 1232, 1452, 1453, 1472, 1473, 9000, 60_000, longest] {
            let bytes = pattern(size);
            assert!(peer.ask(&bytes) == bytes, "{size} bytes over {any}");
        }
        server.stop();
    }
}

#[test]
fn a_burst_of_datagrams_larger_than_a_packet_comes_back() {
    if !in_own_network("udp::a_burst_of_datagrams_larger_than_a_packet_comes_back") {
        return;
    }
    set_mtu(1000);
    let server = echo();
    let peer = server.datagrams();
    // The longer ones fit no packet here as segments of one system call.
    for size in [900, 1232, 3000] {
        comes_back(&peer, size);
    }
    server.stop();
}

/// Sends a burst of datagrams of one size, and waits for the echo of each.
fn comes_back(peer: &UdpPeer, size: usize) {
    let datagrams: HashSet<Vec<u8>> = (0..32_u8)
        .map(|number| {
            let mut bytes = pattern(size);
            bytes[0] = number;
            bytes
        })
        .collect();
    let mut seen = HashSet::new();
    eventually("a whole burst", || {
        // Lost datagrams are sent again.
        for datagram in datagrams.difference(&seen) {
            peer.send(datagram);
        }
        while seen.len() < datagrams.len() {
            let datagram = peer.receive()?;
            assert!(datagrams.contains(&datagram), "{size} bytes that differ");
            seen.insert(datagram);
        }
        Some(())
    });
}

#[test]
fn a_kernel_that_takes_no_more_for_now_does_not_use_the_queue_up() {
    let server = Run::guest("echo").udp().args(["--workers", "1"]).start();
    let peer = server.datagrams();
    let trace = ["-e", "trace=sendmsg", "-e"];
    let attach = |inject: &str| Strace::attach(&server, &[&trace[..], &[inject]].concat());
    // A device without segmentation offload says so once, by EIO.
    let Some(strace) = attach("inject=sendmsg:error=EIO:when=1") else {
        return;
    };
    peer.ask(b"first");
    strace.detach();
    // Now datagrams go one by one, and every second one has to wait. The queue
    // has room for 4 MiB.
    let Some(strace) = attach("inject=sendmsg:error=EAGAIN:when=2+2") else {
        return;
    };
    for _ in 0..200 {
        comes_back(&peer, 1200);
    }
    let trace = strace.detach();
    assert!(trace.iter().any(|line| line.contains("EAGAIN")), "injected");
    assert_eq!(server.log.count("datagrams were dropped"), 0);
    server.stop();
}

#[test]
fn a_burst_comes_back_whole_and_to_the_one_who_sent_it() {
    let server = echo();
    let peers: Vec<_> = (0..20).map(|_| server.datagrams()).collect();
    for (number, peer) in (0_u8..).zip(&peers) {
        for index in 0..32_u8 {
            peer.send(&[number, index, index]);
        }
    }
    for (number, peer) in (0_u8..).zip(&peers) {
        let mut seen = HashSet::new();
        // A lost datagram is sent again.
        eventually("all of a burst", || {
            while let Some(datagram) = peer.receive() {
                assert_eq!(datagram.first(), Some(&number), "somebody else's datagram");
                seen.insert(datagram);
                if seen.len() == 32 {
                    return Some(());
                }
            }
            for index in 0..32_u8 {
                peer.send(&[number, index, index]);
            }
            None
        });
    }
}

#[test]
fn datagrams_of_different_lengths_in_one_burst_are_not_glued_together() {
    let server = echo();
    let peer = server.datagrams();
    let datagrams: HashSet<Vec<u8>> = (1..=40).map(|length| pattern(length * 7)).collect();
    let mut seen = HashSet::new();
    eventually("all lengths", || {
        for datagram in &datagrams {
            peer.send(datagram);
        }
        while let Some(datagram) = peer.receive() {
            assert!(
                datagrams.contains(&datagram),
                "{} bytes were not sent",
                datagram.len()
            );
            seen.insert(datagram);
            if seen == datagrams {
                return Some(());
            }
        }
        None
    });
}

#[test]
fn a_refused_answer_is_reported_and_the_socket_stays_open() {
    let scratch = directory();
    let guest = datagram_handler(scratch.path(), "");
    let server = Run::component(&guest)
        .udp()
        .args(["--workers", "1"])
        .start();
    let peer = server.datagrams();
    eventually("error-received", || {
        // The socket is gone before the answer comes, so that ICMP tells the
        // server.
        let gone = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for _ in 0..8 {
            gone.send_to(b"no need to answer", server.address("udp"))
                .expect("a datagram");
        }
        drop(gone);
        (peer.ask(b"?") > b"0".to_vec()).then_some(())
    });
    assert_eq!(peer.ask(b"it stays open"), b"it stays open");
}

#[test]
fn an_answer_to_nobody_does_not_stop_the_echo() {
    let server = echo();
    for _ in 0..100 {
        let gone = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        gone.send_to(b"no need to answer", server.address("udp"))
            .expect("a datagram");
    }
    assert_eq!(server.datagrams().ask(b"still there?"), b"still there?");
    server.stop();
}

#[test]
fn a_datagram_too_long_to_send_is_an_error_to_the_guest() {
    if !with_ipv6("udp::a_datagram_too_long_to_send_is_an_error_to_the_guest") {
        return;
    }
    let scratch = directory();
    for (any, length) in [("127.0.0.1:0", 65_508), ("[::1]:0", 65_528)] {
        // invalid-argument is the third case of error-code; 0 is success.
        let guest = datagram_handler(
            scratch.path(),
            &format!("(call $answer-digit (call $answer (global.get $data) (i32.const {length})))"),
        );
        let server = Run::component(&guest).listen("--udp", any).start();
        assert_eq!(server.datagrams().ask(b"!"), b"3", "{any}");
        server.stop();
    }
}

#[test]
fn datagrams_to_strangers_need_a_rule_of_their_own() {
    let scratch = directory();
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = stranger.local_addr().expect("its address");
    // Sends to the stranger, then tells the peer the outcome: 0 for success, or
    // 1 plus the case of error-code, of which access-denied is the first.
    let guest = datagram_handler(
        scratch.path(),
        &format!(
            "(global.get $p1)
             (global.set $p1 (i32.const {}))
             (i32.store8 (i32.const 2048) (call $answer (global.get $data) (i32.const 1)))
             (global.set $p1)
             (call $answer-digit (i32.load8_u (i32.const 2048)))",
            address.port()
        ),
    );
    let run = |flag: &str| {
        let run = Run::component(&guest).udp();
        run.args([flag, &address.to_string()]).start()
    };
    let server = run("--allow-connect");
    assert_eq!(server.datagrams().ask(b"!"), b"1");
    server
        .log
        .wait_for(&["sending datagrams", &format!("--allow-udp {address}")]);
    assert_eq!(run("--allow-udp").datagrams().ask(b"!"), b"0");
    let mut buffer = [0; 2];
    assert_eq!(stranger.recv(&mut buffer).expect("a datagram"), 1);
}

#[test]
fn a_trap_ends_the_instance_and_a_fresh_one_takes_the_next_datagram() {
    let scratch = directory();
    let guest = datagram_handler(scratch.path(), "unreachable");
    let server = Run::component(&guest).udp().start();
    let peer = server.datagrams();
    assert_eq!(peer.ask(b"before"), b"before");
    peer.send(b"!");
    server.log.wait_for(&["misbehaving", "unreachable"]);
    assert_eq!(peer.ask(b"after"), b"after");
    server.stop();
}

#[test]
fn a_loop_over_a_datagram_ends_with_its_time() {
    let scratch = directory();
    let guest = datagram_handler(scratch.path(), "(loop (br 0))");
    let server = Run::component(&guest)
        .udp()
        .args(["--event-timeout", "200ms"])
        .start();
    let peer = server.datagrams();
    peer.send(b"!");
    server.log.wait_for(&["misbehaving", "--event-timeout"]);
    assert_eq!(peer.ask(b"after"), b"after");
}

#[test]
fn several_workers_answer_from_one_address() {
    let server = Run::guest("echo").udp().args(["--workers", "4"]).start();
    let peers: Vec<UdpPeer> = (0..32).map(|_| server.datagrams()).collect();
    for peer in &peers {
        assert_eq!(peer.ask(b"whoever it is"), b"whoever it is");
    }
    server.stop();
}

#[test]
fn a_guest_for_datagrams_is_reached_over_ipv6() {
    if !with_ipv6("udp::a_guest_for_datagrams_is_reached_over_ipv6") {
        return;
    }
    let server = Run::guest("echo").listen("--udp", "[::1]:0").start();
    assert_eq!(server.datagrams().ask(b"six"), b"six");
}
