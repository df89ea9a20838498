//! Tests of async guests: connections as streams, through the guest and past
//! it.

mod faults;
mod files;
mod tls;

use std::time::Duration;

use crate::harness::{
    self, Peer, Run, Server, Strace, TcpPeer, directory, echoes, pattern, same, slowly, spliced,
    unix_address,
};

const MIB: usize = 1 << 20;

/// Starts servers of a guest, one with each isolation.
fn servers(guest: &str) -> impl Iterator<Item = Server> {
    ["connection", "worker"].into_iter().map(move |isolation| {
        Run::guest(guest)
            .tcp()
            .args(["--workers", "1", "--isolation", isolation])
            .start()
    })
}

/// Makes a run of the guest `stream-probe`, which runs commands.
fn probe() -> Run {
    Run::guest("stream-probe")
        .tcp()
        .args(["--workers", "1", "--event-timeout", "500ms"])
}

fn holding(server: &Server) -> TcpPeer {
    let mut peer = server.connect();
    assert_eq!(peer.ask("hold"), "ok");
    peer
}

#[test]
fn ten_mebibytes_come_back_through_the_guest() {
    for server in servers("stream-echo") {
        echoes(server.connect(), &pattern(10 * MIB));
        server.stop();
    }
}

#[test]
fn ten_mebibytes_come_back_past_the_guest() {
    for server in servers("stream-relay") {
        echoes(server.connect(), &pattern(10 * MIB));
        server.stop();
    }
}

#[test]
fn small_and_empty_streams_come_back() {
    for guest in ["stream-echo", "stream-relay"] {
        for server in servers(guest) {
            server.echoes_little(&[0, 1, 63, 16_384, 65_536, 65_537]);
            server.stop();
        }
    }
}

#[test]
fn connections_of_one_instance_do_not_mix() {
    for guest in ["stream-echo", "stream-relay"] {
        let server = Run::guest(guest)
            .tcp()
            .args(["--isolation", "worker", "--workers", "1"])
            .start();
        server.keeps_clients_apart();
        server.stop();
    }
}

#[test]
fn what_came_before_a_half_close_is_all_sent_back() {
    for guest in ["stream-echo", "stream-relay"] {
        for server in servers(guest) {
            let mut peer = server.connect();
            let bytes = pattern(100_000);
            peer.send(&bytes);
            peer.finish();
            same(&peer.rest(), &bytes);
            server.stop();
        }
    }
}

#[test]
fn streams_work_over_a_unix_socket() {
    for guest in ["stream-echo", "stream-relay"] {
        let scratch = directory();
        let path = scratch.path().join("stream.sock");
        let server = Run::guest(guest)
            .listen("--tcp", &unix_address(&path))
            .start();
        let mut peer = Peer::connect_unix(&path);
        let bytes = pattern(64 << 10);
        for _ in 0..16 {
            peer.echoes(&bytes);
        }
        peer.finish();
        assert_eq!(peer.rest(), b"");
        drop(peer);
        server.stop();
    }
}

#[test]
fn the_kernel_moves_what_is_passed_on_unread() {
    let server = Run::guest("stream-relay").tcp().start();
    let Some(strace) = Strace::attach(&server, &["-e", "trace=splice"]) else {
        return;
    };
    let bytes = pattern(32 * MIB);
    echoes(server.connect(), &bytes);
    let moved = spliced(&strace.detach());
    assert!(moved > bytes.len(), "{moved} bytes by splice(2)");
}

#[test]
fn a_reset_in_mid_stream_leaves_the_others_alone() {
    for guest in ["stream-echo", "stream-relay"] {
        for server in servers(guest) {
            let mut other = server.connect();
            other.echoes(b"before");
            let before = server.descriptors_at_rest();
            for _ in 0..16 {
                let mut peer = server.connect();
                peer.send(&pattern(200_000));
                assert_eq!(peer.take(1).len(), 1);
                peer.reset();
            }
            server.wait_for_descriptors(before + KEPT);
            other.echoes(b"after");
            server.serves_echo();
            drop(other);
            server.stop();
        }
    }
}

/// Number of descriptors that a worker may keep for later relays: a few pipes.
const KEPT: usize = 16;

#[test]
fn a_client_that_never_reads_is_bounded_and_ends_at_its_time() {
    for guest in ["stream-echo", "stream-relay"] {
        let server = Run::guest(guest)
            .tcp()
            .args(["--workers", "1", "--write-timeout", "1s"])
            .start();
        let descriptors = server.descriptors_at_rest();
        let before = server.resident();
        let mut peer = TcpPeer::connect_narrow(server.address("tcp"));
        peer.fill();
        let grown = server.resident().saturating_sub(before);
        assert!(grown < 4 << 20, "{grown} bytes");
        server.log.wait_for(&["--write-timeout"]);
        server.wait_for_descriptors(descriptors);
        server.serves_echo();
    }
}

#[test]
fn the_guest_learns_who_is_there() {
    let server = probe().start();
    let mut peer = server.connect();
    let line = peer.ask("info");
    let port = peer.get().local_addr().expect("an address").port();
    assert!(line.contains(&format!("port: {port}")), "{line}");
    assert!(line.ends_with("None"), "{line}");
    server.stop();
}

#[test]
fn a_direction_is_begun_once() {
    let server = probe().start();
    let mut peer = server.connect();
    assert_eq!(peer.ask("again"), "Dropped Err(ErrorCode::InvalidState)");
    assert_eq!(peer.line(), "1 Err(ErrorCode::InvalidState)");
    drop(peer);
    server.stop();
}

#[test]
fn the_guest_learns_how_either_direction_ended() {
    let server = probe().start();
    let mut peer = server.connect();
    assert_eq!(peer.ask("outcome"), "ok");
    peer.finish();
    assert_eq!(peer.rest(), b"");
    server.log.wait_for(&["received Ok(()), sent Ok(())"]);

    let mut peer = server.connect();
    assert_eq!(peer.ask("outcome"), "ok");
    peer.reset();
    server
        .log
        .wait_for(&["received Err(ErrorCode::ConnectionReset), sent Err("]);
    server.stop();
}

#[test]
fn a_task_of_the_guest_goes_on_after_the_call_returned() {
    for isolation in ["connection", "worker"] {
        let server = probe().args(["--isolation", isolation]).start();
        let mut peer = server.connect();
        peer.say("later");
        peer.send(b"!");
        assert_eq!(peer.line(), "later");
        drop(peer);
        server.stop();
    }
}

#[test]
fn more_than_a_thousand_connections_await_at_once() {
    harness::raise_descriptor_limit();
    for isolation in ["connection", "worker"] {
        let server = Run::guest("stream-echo")
            .tcp()
            .args(["--workers", "1", "--isolation", isolation])
            .args(["--max-memory", "256MiB"])
            .start();
        let mut peers: Vec<_> = (0..1200).map(|_| server.connect()).collect();
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.send(format!("number {number:04}").as_bytes());
        }
        for (number, peer) in peers.iter_mut().enumerate() {
            assert_eq!(peer.take(11), format!("number {number:04}").as_bytes());
        }
        drop(peers);
        server.stop();
    }
}

#[test]
fn a_write_that_was_given_up_has_no_deadline() {
    let server = probe().args(["--write-timeout", "300ms"]).start();
    let mut peer = server.connect();
    peer.say("give-up");
    for _ in slowly(Duration::from_millis(100), 0..10) {
        peer.send(b"x");
    }
    peer.finish();
    server.log.wait_for(&["10 after that, received Ok(())"]);
    peer.rest();
    server.stop();
}

#[test]
fn a_read_that_was_given_up_loses_nothing() {
    for isolation in ["connection", "worker"] {
        let server = probe().args(["--isolation", isolation]).start();
        let mut peer = server.connect();
        assert_eq!(peer.ask("impatient"), "ok");
        let bytes = pattern(50_000);
        peer.echoes_by(1000, &bytes);
        peer.finish();
        assert_eq!(peer.rest(), b"");
        server.stop();
    }
}

#[test]
fn a_stream_that_was_read_in_part_is_passed_on_from_there() {
    let bytes = pattern(4 * MIB);
    for isolation in ["connection", "worker"] {
        let server = probe().args(["--isolation", isolation]).start();
        let mut peer = server.connect();
        peer.say("rest");
        echoes(peer, &bytes);
        server.log.wait_for(&["received Ok(()), sent Ok(())"]);
        server.stop();
    }
}

#[test]
fn handles_are_dropped_in_any_order_and_leave_nothing() {
    for isolation in ["connection", "worker"] {
        let server = probe().args(["--isolation", isolation]).start();
        let before = server.descriptors_at_rest();
        for _ in 0..8 {
            let mut peer = server.connect();
            peer.say("drop-all");
            assert_eq!(peer.rest(), b"");

            let mut peer = server.connect();
            assert_eq!(peer.ask("drop-reader"), "Ok(())");
            assert_eq!(peer.rest(), b"");
        }
        server.log.wait_for(&["sent Ok(())"]);
        server.wait_for_descriptors(before);
        server.stop();
    }
}

#[test]
fn an_abort_of_streams_is_a_reset() {
    let server = Run::guest("stream-probe").tcp().start();
    let mut peer = server.connect();
    peer.say("abort");
    let whole = peer.cut();
    assert!(whole.is_empty() || whole == b"whole\n", "{whole:?}");
    let both = "received Err(ErrorCode::ConnectionAborted), sent Err(ErrorCode::ConnectionAborted)";
    server.log.wait_for(&[both]);
    server.stop();
}

#[test]
fn a_guest_with_streams_sets_its_own_idle_time_and_options() {
    let server = Run::guest("stream-probe").tcp().start();
    let mut peer = server.connect();
    assert_eq!(peer.ask("idle-timeout"), "ok");
    peer.lost();
    server.log.wait_for(&["received Err(ErrorCode::Timeout)"]);
    let mut peer = server.connect();
    assert_eq!(
        peer.ask("options"),
        "[Ok(()), Err(ErrorCode::InvalidArgument), Ok(())]"
    );
    drop(peer);
    server.stop();
}
