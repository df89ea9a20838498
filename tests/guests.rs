//! Tests of guests that misbehave: each loses its own connection, and no other.

mod components;
mod values;

use std::time::{Duration, Instant};

use crate::harness::{Run, Server, TcpPeer, directory, handler, took_less, write};

/// Makes a run of the guest `probe`, which runs commands.
fn probe() -> Run {
    Run::guest("probe")
        .tcp()
        .args(["--workers", "1", "--event-timeout", "500ms"])
}

/// Checks that a connection answers.
fn answers(peer: &mut TcpPeer) {
    assert_eq!(peer.ask("half-close off"), "ok");
}

/// Misbehaves on one connection beside another. Checks that the other and a new
/// connection work, and that the log has a line with `reason` under the guest's
/// name.
fn misbehaves_alone(server: Server, command: &str, reason: &str) {
    let mut other = server.connect();
    answers(&mut other);
    let before = server.descriptors_at_rest();

    let mut peer = server.connect();
    peer.say(command);
    peer.cut();

    server.log.wait_for(&["probe", reason]);
    server.wait_for_descriptors(before);
    answers(&mut other);
    answers(&mut server.connect());
    drop(other);
    server.stop();
}

#[test]
fn a_panic_ends_only_its_own_connection() {
    misbehaves_alone(probe().start(), "panic", "panicked");
}

#[test]
fn an_endless_loop_ends_with_its_time() {
    let start = Instant::now();
    misbehaves_alone(probe().start(), "spin", "--event-timeout");
    assert!(start.elapsed() >= Duration::from_millis(490));
}

#[test]
fn a_stack_overflow_ends_only_its_own_connection() {
    misbehaves_alone(probe().start(), "overflow", "stack");
}

#[test]
fn a_flood_of_host_calls_ends_with_its_time() {
    misbehaves_alone(probe().start(), "flood", "--event-timeout");
}

#[test]
fn memory_beyond_the_limit_is_denied_to_the_guest() {
    let server = Run::guest("probe")
        .tcp()
        .args([
            "--workers",
            "1",
            "--event-timeout",
            "20s",
            "--max-memory",
            "8MiB",
        ])
        .start();
    answers(&mut server.connect());
    let before = server.resident();
    for _ in 0..8 {
        let mut peer = server.connect();
        peer.say("grow");
        peer.lost();
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes stayed");
    // Denied growth fails the allocation, and that ends a Rust guest.
    misbehaves_alone(server, "grow", "--max-memory");
}

#[test]
fn pending_look_ups_are_limited() {
    let server = probe()
        .args(["--max-handles", "100", "--allow-resolve", "*"])
        .start();
    let mut peer = server.connect();
    let answer = peer.ask("leak-questions");
    assert!(answer.contains("limit-exceeded"), "{answer}");
    let mut next = server.connect();
    answers(&mut next);
    drop((peer, next));
    server.stop();
}

#[test]
fn files_are_limited() {
    let scratch = directory();
    write(scratch.path(), "leak.txt", "x");
    let directory = format!("{}::/data", scratch.path().display());
    let server = probe()
        .args(["--max-handles", "20", "--dir", &directory])
        .start();
    let before = server.descriptors_at_rest();
    let mut peer = server.connect();
    let answer = peer.ask("leak-files /data/leak.txt");
    assert!(answer.contains("limit-exceeded"), "{answer}");
    assert!(
        server.descriptors() <= before + 30,
        "{}",
        server.descriptors()
    );
    drop(peer);
    server.wait_for_descriptors(before);
    answers(&mut server.connect());
}

#[test]
fn a_panic_in_the_constructor_ends_only_that_connection() {
    let server = probe().guest_args(&["panic-on-connect"]).start();
    let before = server.descriptors_at_rest();
    for _ in 0..20 {
        TcpPeer::connect_to_be_cut(server.address("tcp"));
    }
    server.log.wait_for(&["probe", "panicked"]);
    server.wait_for_descriptors(before);
    server.stop();
}

#[test]
fn a_guest_that_sleeps_is_refused_or_ended_and_holds_up_nobody_for_long() {
    let server = probe().start();
    let start = Instant::now();
    let mut peer = server.connect();
    peer.say("sleep 60000");
    answers(&mut server.connect());
    took_less(start, Duration::from_secs(20));
}

#[test]
fn one_instance_for_a_worker_is_replaced_after_a_trap() {
    let server = probe().args(["--isolation", "worker"]).start();
    let mut other = server.connect();
    answers(&mut other);
    let mut peer = server.connect();
    peer.say("panic");
    peer.cut();
    // Both shared the instance, so both connections end.
    other.cut();
    server.log.wait_for(&["probe", "panicked"]);
    answers(&mut server.connect());
    server.stop();
}

#[test]
fn connections_on_other_workers_do_not_notice_a_loop() {
    let server = Run::guest("probe")
        .tcp()
        .args(["--workers", "2", "--event-timeout", "2s"])
        .start();
    // Enough for both workers to have some.
    let mut peers: Vec<_> = (0..16).map(|_| server.connect()).collect();
    peers.iter_mut().for_each(answers);
    let mut looping = server.connect();
    looping.say("spin");
    let start = Instant::now();
    let mut quick = 0;
    for peer in &mut peers {
        let asked = Instant::now();
        answers(peer);
        quick += usize::from(asked.elapsed() < Duration::from_secs(1));
    }
    // The loop ends after two seconds of CPU time, or twenty of a busy machine.
    took_less(start, Duration::from_secs(25));
    assert!(
        quick >= 2,
        "only {quick} of 16 were served while the loop ran"
    );
    looping.cut();
}

#[test]
fn what_a_guest_prints_goes_to_the_log_and_never_to_the_peer() {
    let server = probe().start();
    let mut peer = server.connect();
    peer.say("print a word to the wise");
    server.log.wait_for(&["probe", "a word to the wise"]);
    peer.say("eprint a complaint");
    server.log.wait_for(&["probe", "a complaint"]);
    peer.say("log warn a warning");
    server.log.wait_for(&["WARN", "probe", "a warning"]);
    let events = peer.ask("half-close off");
    assert!(
        !events.contains("word") && !events.contains("complaint"),
        "{events}"
    );
    let mut peer = server.connect();
    peer.say("panic");
    let received = String::from_utf8_lossy(&peer.lost()).into_owned();
    assert!(!received.contains("panicked"), "{received}");
    server.log.wait_for(&["probe", "panicked"]);
    assert_eq!(
        server.listening.len(),
        1,
        "standard output is for the listeners"
    );
}

#[test]
fn a_flood_of_log_lines_is_cut() {
    let server = probe().start();
    let mut peer = server.connect();
    for number in 0..3000 {
        peer.say(&format!("log info line number {number}"));
    }
    answers_after_log(&mut peer);
    server.log.wait_for(&["lines a second", "only counted"]);
    let lines = server.log.count("line number");
    assert!(lines < 3000, "{lines} lines");
}

/// Waits for an answer, past the lines before it.
fn answers_after_log(peer: &mut TcpPeer) {
    peer.say("size");
    while peer.line() != "0" {}
}

#[test]
fn arguments_and_variables_reach_the_guest() {
    let server = Run::guest("probe")
        .tcp()
        .env("SHADE", "dark")
        .args(["--env", "COLOUR=green", "--env", "SHADE"])
        .guest_args(&["--looks-like", "a flag"])
        .start();
    let mut peer = server.connect();
    let args = peer.ask("args");
    assert!(
        args.contains("probe") && args.contains("--looks-like"),
        "{args}"
    );
    assert!(args.contains("a flag"), "{args}");
    assert_eq!(peer.ask("env COLOUR"), "green");
    assert_eq!(
        peer.ask("env SHADE"),
        "dark",
        "a name alone passes the host's value on"
    );
    let home = peer.ask("env HOME");
    assert!(
        !home.starts_with('/'),
        "the host's own variables are its own: {home}"
    );
}

#[test]
fn memory_growth_beyond_the_limit_fails_without_a_trap() {
    let scratch = directory();
    let guest = handler(
        scratch.path(),
        "(if (i32.eq (memory.grow (i32.const 100)) (i32.const -1))
           (then (call $write (global.get $transport) (local.get $data) (i32.const 1))))",
    );
    let server = Run::component(&guest)
        .tcp()
        .args(["--max-memory", "4MiB"])
        .start();
    let mut peer = server.connect();
    for _ in 0..3 {
        peer.send(b"!");
        assert_eq!(peer.take(1), b"!");
    }
    drop(peer);
    let line = server.log.wait_for(&["misbehaving", "--max-memory"]);
    assert!(line.contains("4.0 MiB"), "{line}");
    // It is logged once for each instance.
    assert_eq!(server.log.count("--max-memory"), 1);
    server.stop();
}

#[test]
fn table_growth_is_limited() {
    let scratch = directory();
    let guest = handler(
        scratch.path(),
        "(if (i32.eq (table.grow $table (ref.null func) (i32.const 0x7fffffff)) (i32.const -1))
           (then (call $write (global.get $transport) (local.get $data) (i32.const 1))))",
    );
    let server = Run::component(&guest).tcp().start();
    let mut peer = server.connect();
    peer.send(b"!");
    assert_eq!(peer.take(1), b"!");
}

#[test]
fn a_guest_that_writes_without_end_reaches_the_hard_limit() {
    let scratch = directory();
    let guest = handler(
        scratch.path(),
        "(local $times i32)
         (loop $more
           (call $write (global.get $transport) (i32.const 0) (i32.const 1048576))
           (local.set $times (i32.add (local.get $times) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get $times) (i32.const 64))))",
    );
    let server = Run::component(&guest)
        .tcp()
        .args(["--event-timeout", "20s", "--max-write-buffer", "4MiB"])
        .start();
    let before = server.resident();
    let mut other = server.connect();
    let mut peer = TcpPeer::connect_narrow(server.address("tcp"));
    peer.send(b"!");
    server.log.wait_for(&["--max-write-buffer"]);
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes");
    other.send(b"unharmed");
    assert_eq!(other.take(8), b"unharmed");
}

#[test]
fn a_guest_may_ask_for_events_when_it_is_made() {
    let server = Run::guest("probe")
        .tcp()
        .args(["--allow-resolve", "*"])
        .guest_args(&["ask-at-start"])
        .start();
    // The host makes an instance at its start, and one for each connection.
    for _ in 0..3 {
        assert_eq!(server.connect().ask("size"), "0");
    }
    server.stop();
}

#[test]
fn a_guest_is_not_ended_for_what_others_compute() {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    let run = Run::guest("probe").http();
    let run = run.args(["--workers", "1", "--event-timeout", "200ms"]);
    // All on one processor, the first of those that this process may use.
    let allowed = rustix::thread::sched_getaffinity(None).expect("the processors");
    let mut numbers = 0..rustix::thread::CpuSet::MAX_CPU;
    let one = numbers.find(|number| allowed.is_set(*number));
    let one = one.expect("a processor");
    let server = run.by("taskset", &["-c", &one.to_string()]).start();
    let (begun, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut set = rustix::thread::CpuSet::new();
                set.set(one);
                rustix::thread::sched_setaffinity(None, &set).expect("it is allowed");
                begun.fetch_add(1, Ordering::Relaxed);
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        while begun.load(Ordering::Relaxed) < 3 {
            std::thread::yield_now();
        }
        // By the wall clock.
        let response = server.connect_http().fetch("/busy?ms=400");
        over.store(true, Ordering::Relaxed);
        response.is(200, "done");
    });
    assert_eq!(server.connect_http().fetch("/loop").status, 500);
    server.stop();
}
