//! Guests that misbehave, and calls that outlive their connections.

use std::time::{Duration, Instant};

use super::{holding, probe};
use crate::harness::{Run, eventually};

/// Misbehaves on one connection beside another, with an instance for each, and
/// checks that only this connection ends.
fn misbehaves_alone(command: &str, reason: &str) {
    let server = probe().start();
    let mut other = holding(&server);
    let before = server.descriptors_at_rest();
    let mut peer = server.connect();
    peer.say(command);
    peer.cut();
    server.log.wait_for(&["stream-probe", reason]);
    server.wait_for_descriptors(before);
    other.send(b"x");
    holding(&server);
    drop(other);
    server.stop();
}

#[test]
fn a_guest_that_exits_with_success_has_what_it_ended_sent() {
    for isolation in ["connection", "worker"] {
        let server = probe().args(["--isolation", isolation]).start();
        let before = server.descriptors_at_rest();
        let mut peer = server.connect();
        peer.say("exit");
        assert_eq!(peer.rest(), b"bye\n");
        server.log.wait_for(&["the guest exited"]);
        // A stream that it did not end is cut, because its data is not whole.
        let mut peer = server.connect();
        peer.say("exit-open");
        peer.cut();
        assert_eq!(server.log.count("trapped"), 0);
        drop(peer);
        server.wait_for_descriptors(before);
        drop(holding(&server));
        server.stop();
    }
}

#[test]
fn a_panic_ends_only_its_own_connection() {
    misbehaves_alone("panic", "the guest trapped");
}

#[test]
fn an_endless_loop_ends_with_its_time() {
    let start = Instant::now();
    misbehaves_alone("spin", "--event-timeout");
    assert!(start.elapsed() >= Duration::from_millis(450));
}

#[test]
fn memory_is_bounded() {
    misbehaves_alone("grow", "--max-memory");
}

#[test]
fn a_flood_of_streams_or_of_waits_is_a_trap() {
    for command in ["hoard-streams", "hoard-waits"] {
        // On a busy machine, it takes a while to have that many.
        let run = Run::guest("stream-probe").tcp().args(["--workers", "1"]);
        let server = run.args(["--event-timeout", "30s"]).start();
        holding(&server);
        let before = server.resident();
        let mut peer = server.connect();
        peer.say(command);
        peer.lost();
        let line = server.log.wait_for(&["the guest trapped"]);
        assert!(line.contains("--max-handles"), "{line}");
        let grown = server.resident().saturating_sub(before);
        assert!(grown < 32 << 20, "{command}: {grown} bytes");
        holding(&server);
        server.stop();
    }
}

#[test]
fn a_call_that_goes_on_without_its_connection_is_aborted_in_the_end() {
    for isolation in ["connection", "worker"] {
        let mut server = probe()
            .args(["--isolation", isolation, "--shutdown-timeout", "300ms"])
            .start();
        let before = server.descriptors_at_rest();
        let mut peer = server.connect();
        assert_eq!(peer.ask("linger"), "ok");
        drop(peer);
        server.wait_for_descriptors(before);
        server.signal(rustix::process::Signal::TERM);
        assert_eq!(server.wait().code(), Some(1), "it had to be aborted");
        assert!(server.log.text().contains("aborted=1"));
    }
}

#[test]
fn a_trap_ends_all_connections_of_its_instance_and_no_other() {
    let server = probe().args(["--isolation", "worker"]).start();
    let mut others: Vec<_> = (0..4).map(|_| holding(&server)).collect();
    let mut peer = server.connect();
    peer.say("panic");
    peer.cut();
    for other in &mut others {
        other.cut();
    }
    server.log.wait_for(&["the guest trapped"]);
    // The next connection gets a new instance.
    holding(&server);
    server.stop();
}

#[test]
fn instances_are_given_back_when_their_connections_end() {
    let server = Run::guest("stream-echo")
        .tcp()
        .args(["--workers", "1", "--max-connections", "8"])
        .start();
    for _ in 0..200 {
        server.serves_echo();
    }
    server.stop();
}

#[test]
fn draining_waits_for_connections_and_then_aborts_them() {
    let mut server = probe().args(["--shutdown-timeout", "1s"]).start();
    let mut peer = holding(&server);
    server.signal(rustix::process::Signal::TERM);
    server.log.wait_for(&["draining"]);
    peer.send(b"still");
    peer.cut();
    assert_eq!(server.wait().code(), Some(1), "one had to be aborted");
    eventually("the log's end", || {
        server.log.text().contains("aborted=1").then_some(())
    });
}
