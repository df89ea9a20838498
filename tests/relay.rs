//! Tests of relays, whose bytes the host copies itself.

use crate::harness::{
    self, Client, Peer, Run, Strace, TcpPeer, directory, echoes, eventually, pattern, spliced,
    unix_address,
};

#[test]
fn a_hundred_mebibytes_are_relayed_and_the_end_with_them() {
    let server = Run::guest("relay-echo").tcp().start();
    echoes(server.connect(), &pattern(100 << 20));
    server.stop();
}

#[test]
fn small_and_empty_streams_are_relayed() {
    let server = Run::guest("relay-echo").tcp().start();
    server.echoes_little(&[0, 1, 63, 65_536, 65_537]);
    server.stop();
}

#[test]
fn the_kernel_moves_the_bytes_of_a_bulk_transfer() {
    let server = Run::guest("relay-echo").tcp().start();
    let Some(strace) = Strace::attach(&server, &["-e", "trace=splice"]) else {
        return;
    };
    let bytes = pattern(32 << 20);
    echoes(server.connect(), &bytes);
    let moved = spliced(&strace.detach());
    assert!(moved > bytes.len(), "{moved} bytes by splice(2)");
}

#[test]
fn a_relay_works_where_splice_does_not() {
    let server = Run::guest("relay-echo").tcp().start();
    let options = ["-e", "trace=splice", "-e", "inject=splice:error=EINVAL"];
    let Some(strace) = Strace::attach(&server, &options) else {
        return;
    };
    echoes(server.connect(), &pattern(2 << 20));
    strace.wait_for(&["INJECTED"]);
    strace.detach();
    server.stop();
}

#[test]
fn what_a_pipe_holds_is_copied_where_its_target_refuses_splice() {
    let server = Run::guest("relay-echo").tcp().start();
    // The first call fills the pipe. The second, which would empty it, fails.
    let options = [
        "-e",
        "trace=splice",
        "-e",
        "inject=splice:error=EINVAL:when=2",
    ];
    let Some(strace) = Strace::attach(&server, &options) else {
        return;
    };
    echoes(server.connect(), &pattern(8 << 20));
    strace.wait_for(&["INJECTED"]);
    strace.detach();
    server.stop();
}

#[test]
fn a_relay_works_inside_tls() {
    let server = Run::guest("relay-echo").tls().start();
    let mut peer = Client::of("localhost").connect(server.address("tls"));
    let bytes = pattern(4 << 20);
    peer.echoes_by(64 << 10, &bytes);
    peer.finish();
    assert_eq!(peer.rest(), b"");
    server.stop();
}

#[test]
fn a_relay_works_over_a_unix_socket() {
    let scratch = directory();
    let path = scratch.path().join("relay.sock");
    let server = Run::guest("relay-echo")
        .listen("--tcp", &unix_address(&path))
        .start();
    let mut peer = Peer::connect_unix(&path);
    let bytes = pattern(64 << 10);
    for _ in 0..32 {
        peer.echoes(&bytes);
    }
    peer.finish();
    assert_eq!(peer.rest(), b"");
    drop(peer);
    server.stop();
}

/// Number of descriptors that a worker may keep for later relays: a few pipes.
const KEPT: usize = 16;

#[test]
fn a_relay_that_is_reset_leaves_nothing_behind() {
    let server = Run::guest("relay-echo")
        .tcp()
        .args(["--workers", "1"])
        .start();
    let mut other = server.connect();
    other.echoes(b"before");
    let before = server.descriptors_at_rest();
    for _ in 0..50 {
        let mut peer = server.connect();
        peer.send(&pattern(300_000));
        peer.take(100);
        peer.reset();
    }
    server.log.wait_for(&["reset"]);
    server.wait_for_descriptors(before + KEPT);
    other.echoes(b"after");
}

#[test]
fn a_relay_to_a_client_that_never_reads_is_bounded() {
    let server = Run::guest("relay-echo")
        .tcp()
        .args(["--write-timeout", "1s"])
        .start();
    let descriptors = server.descriptors_at_rest();
    let before = server.resident();
    let mut peer = TcpPeer::connect_narrow(server.address("tcp"));
    peer.fill();
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes");
    server.log.wait_for(&["--write-timeout"]);
    server.wait_for_descriptors(descriptors);
}

#[test]
fn many_relays_at_once() {
    harness::raise_descriptor_limit();
    let server = Run::guest("relay-echo").tcp().start();
    let before = server.descriptors_at_rest();
    let mut peers: Vec<_> = (0..300).map(|_| server.connect()).collect();
    for _ in 0..3 {
        for peer in &mut peers {
            peer.send(b"one of many");
        }
        for peer in &mut peers {
            assert_eq!(peer.take(11), b"one of many");
        }
    }
    drop(peers);
    server.wait_for_descriptors(before);
    server.stop();
}

#[test]
fn an_idle_relay_ends_at_its_time() {
    let server = Run::guest("relay-echo")
        .tcp()
        .args(["--idle-timeout", "500ms"])
        .start();
    let mut peer = server.connect();
    peer.echoes(b"then nothing");
    peer.cut();
    server.log.wait_for(&["--idle-timeout"]);
    eventually("a fresh relay", || {
        let mut peer = server.connect();
        peer.send(b"x");
        (peer.take(1) == b"x").then_some(())
    });
}
