//! Numbers, lists and strings that a guest should not have passed.

use crate::harness::{Run, directory, handler, handler_that_has};

/// Runs `misbehaviour` in a hand-made guest on one connection, and checks that
/// another is unharmed.
fn traps_alone(misbehaviour: &str, reason: &str) {
    let scratch = directory();
    let guest = handler(scratch.path(), misbehaviour);
    let server = Run::component(&guest)
        .tcp()
        .args([
            "--workers",
            "1",
            "--event-timeout",
            "500ms",
            "--max-memory",
            "4MiB",
        ])
        .start();
    let mut other = server.connect();
    other.echoes(b"before");
    let mut peer = server.connect();
    peer.send(b"!");
    peer.cut();
    server.log.wait_for(&["misbehaving", reason]);
    other.echoes(b"after");
    server.serves_echo();
    drop(other);
    server.stop();
}

#[test]
fn a_trap_ends_only_its_own_connection() {
    traps_alone("unreachable", "unreachable");
}

#[test]
fn numbers_that_the_host_never_gave_mean_nothing() {
    let scratch = directory();
    // Others' numbers are equal or near, and reach nobody else.
    let guest = handler(
        scratch.path(),
        "(local $number i64)
         (loop $next
           (local.set $number (i64.add (local.get $number) (i64.const 1)))
           (call $write (local.get $number) (local.get $data) (i32.const 1))
           (call $close (local.get $number))
           (br_if $next (i64.lt_u (local.get $number) (i64.const 1000))))
         (call $close (i64.const -1))
         (call $close (i64.const 0x100000000))
         (call $write (global.get $transport) (local.get $data) (i32.const 1))",
    );
    let server = Run::component(&guest)
        .tcp()
        .args(["--workers", "1"])
        .start();
    let mut others: Vec<_> = (0..3).map(|_| server.connect()).collect();
    let mut peer = server.connect();
    peer.echoes(b"!");
    for other in &mut others {
        other.echoes(b"echo");
    }
    drop((peer, others));
    server.stop();
}

#[test]
fn the_number_of_a_lost_connection_is_not_that_of_the_next() {
    let scratch = directory();
    // The connection of one client, kept until another one comes.
    let guest = handler_that_has(
        scratch.path(),
        "(global $first (mut i64) (i64.const -1))",
        "(if (i64.eq (global.get $first) (i64.const -1))
           (then (global.set $first (global.get $transport)))
           (else
             (call $write (global.get $first) (local.get $data) (i32.const 1))
             (call $close (global.get $first))))
         (call $write (global.get $transport) (local.get $data) (i32.const 1))",
    );
    let server = Run::component(&guest)
        .tcp()
        .args(["--isolation", "worker", "--workers", "1"])
        .start();
    let mut first = server.connect();
    first.echoes(b"!");
    first.finish();
    assert_eq!(first.rest(), b"");
    let mut second = server.connect();
    second.echoes(b"!");
    second.send(b"echo");
    assert_eq!(second.take(4), b"echo", "and nothing before it");
    drop(second);
    server.stop();
}

#[test]
fn a_list_that_lies_outside_of_memory_is_a_trap() {
    traps_alone(
        "(call $write (global.get $transport) (i32.const 0x7fffffff) (i32.const 10))",
        "misbehaving",
    );
}

#[test]
fn a_huge_list_is_a_trap() {
    traps_alone(
        "(call $write (global.get $transport) (i32.const 16) (i32.const 0xfffffff0))",
        "misbehaving",
    );
    traps_alone(
        "(call $writelines (global.get $transport) (i32.const 16) (i32.const 0x3fffffff))",
        "misbehaving",
    );
}

#[test]
fn a_list_of_many_overlapping_lists_is_bounded() {
    // 1 MiB that is listed 100,000 times: 100 GB to send, out of 1.8 MiB of
    // memory.
    traps_alone(
        "(local $at i32)
         (local.set $at (i32.const 1100000))
         (loop $fill
           (i32.store (local.get $at) (i32.const 0))
           (i32.store offset=4 (local.get $at) (i32.const 1048576))
           (local.set $at (i32.add (local.get $at) (i32.const 8)))
           (br_if $fill (i32.lt_u (local.get $at) (i32.const 1900000))))
         (call $writelines (global.get $transport) (i32.const 1100000) (i32.const 100000))",
        "misbehaving",
    );
}

#[test]
fn a_string_that_is_not_utf8_is_a_trap() {
    traps_alone(
        "(i32.store8 (i32.const 16) (i32.const 0xff))
         (call $log (i32.const 2) (i32.const 16) (i32.const 1))",
        "utf-8",
    );
}

#[test]
fn a_huge_string_is_cut_or_a_trap() {
    let scratch = directory();
    let guest = handler(
        scratch.path(),
        "(memory.fill (i32.const 131072) (i32.const 0x61) (i32.const 1900000))
         (call $log (i32.const 2) (i32.const 131072) (i32.const 1900000))
         (call $write (global.get $transport) (local.get $data) (i32.const 1))",
    );
    let server = Run::component(&guest).tcp().start();
    let mut peer = server.connect();
    peer.send(b"!");
    peer.take(1);
    let line = server.log.wait_for(&["misbehaving", "aaaaaa"]);
    assert!(line.len() < 5000, "{} bytes in one line", line.len());
}
