//! Tests of watch lists and signals, and of whole programs that loop on them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Peer, directory, eventually, pattern, text};

use super::{LISTENS, probe, says};

#[test]
fn a_watch_list_tells_what_is_ready_until_it_is_used() {
    says(
        &[],
        &[
            ("l = watch-list", "1000000"),
            ("a b = pair", "1000001 1000002"),
            ("watch l a 1", "ok"),
            ("wait l 10 0", "nothing"),
            ("wait l 10 20", "nothing"),
            ("send b x", "1"),
            ("wait l 10 -", "a 1"),
            ("wait l 10 -", "a 1"),
            ("receive-now a 10", "\"x\""),
            ("wait l 10 0", "nothing"),
            ("watch l a 5", "ok"),
            ("wait l 10 -", "a 4"),
            // Once only.
            ("watch l a 1073741828", "ok"),
            ("wait l 10 -", "a 4"),
            ("wait l 10 0", "nothing"),
            ("watch l a 8193", "ok"),
            ("shutdown b sending", "ok"),
            ("wait l 10 -", "a 8193"),
            ("close b", "ok"),
            ("wait l 10 -", "a 8209"),
            ("forget l a", "ok"),
            ("forget l a", "no-entry"),
            ("wait l 10 0", "nothing"),
            // A watch list in another.
            ("m = watch-list", "1000002"),
            ("watch m l 1", "ok"),
            ("watch l a 4", "ok"),
            ("wait m 10 -", "l 1"),
            ("watch l m 1", "invalid"),
            ("watch l l 1", "invalid"),
            ("watch l a 268435457", "invalid"),
        ],
    );
}

#[test]
fn what_is_closed_is_not_watched_any_more() {
    says(
        &[],
        &[
            ("l = watch-list", "1000000"),
            ("a b = pair", "1000001 1000002"),
            ("d = duplicate a", "1000003"),
            ("watch l a 4", "ok"),
            ("watch l d 4", "ok"),
            ("wait l 10 -", "a 4, d 4"),
            // Its duplicate keeps the socket open.
            ("close a", "ok"),
            ("wait l 10 -", "d 4"),
            ("send d x", "1"),
            ("receive b 10", "\"x\""),
            ("close d", "ok"),
            ("wait l 10 0", "nothing"),
            ("receive b 10", "end"),
            // The number is another socket's now.
            ("n = open inet stream", "1000001"),
            ("wait l 10 0", "nothing"),
            ("close l", "ok"),
            ("wait l 10 0", "bad-descriptor"),
        ],
    );
}

#[test]
fn signals_are_the_programs_to_act_on() {
    for (signal, number) in [(Signal::TERM, 15), (Signal::INT, 2)] {
        let mut command = probe(&[
            "s = signals",
            "take-signal s",
            "p = open inet datagram",
            "bind p 127.0.0.1:0",
            "say-listener p",
            "await-signal s",
        ])
        .start_command();
        command.own_listener();
        command.signal(signal);
        assert_eq!(command.wait().code(), Some(0));
        command.stdout.wait_for(&["take-signal s: again"]);
        command
            .stdout
            .wait_for(&[&format!("await-signal s: {number}")]);
    }
}

#[test]
fn a_program_that_ignores_its_signals_is_ended_in_time() {
    let mut command = probe(&[
        "s = signals",
        "p = open inet datagram",
        "bind p 127.0.0.1:0",
        "say-listener p",
        "l = watch-list",
        "wait l 1 -",
    ])
    .args(["--shutdown-timeout", "300ms"])
    .start_command();
    command.own_listener();
    command.signal(Signal::TERM);
    assert_eq!(command.wait().code(), Some(1));
    command.log.wait_for(&["--shutdown-timeout"]);
}

#[test]
fn a_turn_costs_what_is_ready_and_not_what_is_watched() {
    let cost = |watched: u32| {
        let finished = probe(&[&format!("turns {watched} 3000")])
            .args(["--max-handles", "10000"])
            .output();
        let (_, said) = finished.stdout.trim().rsplit_once(": ").expect("a line");
        let nanoseconds = said.strip_suffix(" ns").map(str::parse::<u64>);
        nanoseconds
            .and_then(Result::ok)
            .unwrap_or_else(|| panic!("{finished:#?}"))
    };
    let mut seen = Vec::new();
    // Other programs may hold one of them up.
    let is_cheap = (0..3).any(|_| {
        let (few, many) = (cost(1), cost(400));
        seen.push((few, many));
        // A scan of 400 sockets takes some 100 µs.
        many < few * 2 + 20_000
    });
    assert!(is_cheap, "nanoseconds: {seen:?}");
}

#[test]
fn a_loop_that_never_waits_does_not_keep_the_worker() {
    let mut command = probe(&[
        "p = open inet datagram",
        "bind p 127.0.0.1:0",
        "say-listener p",
        "spin 4294967295",
    ])
    .args(["--shutdown-timeout", "100ms"])
    .start_command();
    command.own_listener();
    command.signal(Signal::TERM);
    // The worker sees the end.
    assert_eq!(command.wait().code(), Some(1));
}

#[test]
fn many_clients_are_served_by_one_loop_and_a_signal_ends_it() {
    let mut command = probe(&[
        "s = open inet stream",
        "bind s 127.0.0.1:0",
        "listen s 500",
        "say-listener s",
        "echo s",
    ])
    .args(LISTENS)
    .start_command();
    let address = command.own_listener();
    command
        .log
        .wait_for(&[&format!("the guest listens on tcp://{address}")]);
    let mut peers: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(address).expect("a connection"))
        .collect();
    for round in 0..3 {
        for (number, peer) in peers.iter_mut().enumerate() {
            let message = format!("{round} {number}");
            peer.write_all(message.as_bytes()).expect("sent");
            let mut answer = vec![0; message.len()];
            peer.read_exact(&mut answer).expect("an answer");
            assert_eq!(answer, message.as_bytes());
        }
    }
    let open = command.descriptors();
    drop(peers);
    eventually("closed connections", || {
        (command.descriptors() + 100 <= open).then_some(())
    });
    command.signal(Signal::INT);
    assert_eq!(command.wait().code(), Some(0));
    command.stdout.wait_for(&["echo s: signal 2 after 100"]);
}

#[test]
fn a_bulk_echo_loses_nothing() {
    let mut command = probe(&[
        "s = open inet stream",
        "bind s 127.0.0.1:0",
        "listen s 5",
        "say-listener s",
        "a = accept s",
        "receive-all a",
        "flood a 1000000 1",
        "close a",
        "b = accept s",
        "flood b 100000 1048576",
    ])
    .args(LISTENS)
    .start_command();
    let address = command.own_listener();
    let mut peer = TcpStream::connect(address).expect("a connection");
    peer.write_all(&pattern(5 << 20)).expect("sent");
    peer.shutdown(std::net::Shutdown::Write).expect("an end");
    command
        .stdout
        .wait_for(&[&format!("receive-all a: {} bytes", 5 << 20)]);
    let mut received = Vec::new();
    peer.read_to_end(&mut received).expect("an end");
    let line = command.stdout.wait_for(&["flood a 1000000 1: "]);
    assert!(
        line.contains(&format!("{} bytes", received.len())),
        "{line}"
    );
    let reader = TcpStream::connect(address).expect("a connection");
    // It does not read: there is no room at some time.
    let line = command.stdout.wait_for(&["flood b"]);
    assert!(line.ends_with("then again"), "{line}");
    drop(reader);
    assert_eq!(command.wait().code(), Some(0));
}

#[test]
fn connections_of_a_program_that_traps_are_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address").to_string();
    let accepting = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a time-out");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).map_err(|error| error.kind())
    });
    let finished = probe(&[
        "c = open inet stream",
        &format!("connect c {at}"),
        "connected c",
        "send c some",
        "panic",
    ])
    .args(["--allow-connect", &at])
    .output();
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    let read = accepting.join().expect("no panic");
    assert_eq!(read, Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn another_limit_of_memory_does_not_compile_a_program_again() {
    let scratch = directory();
    let cached = |limit: &str| {
        let finished = probe(&["open inet stream"])
            .env("XDG_CACHE_HOME", text(scratch.path()))
            .args(["--max-memory", limit])
            .output();
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        let code = scratch.path().join("netwasm/code");
        std::fs::read_dir(code).expect("the cache").count()
    };
    assert_eq!([cached("64MiB"), cached("2GiB"), cached("4MiB")], [1, 1, 1]);
}

#[test]
fn peers_that_only_connect_do_no_harm() {
    let mut command = probe(&[
        "s = open inet stream",
        "bind s 127.0.0.1:0",
        "listen s 5",
        "say-listener s",
        "echo s",
    ])
    .args(LISTENS)
    .start_command();
    let address = command.own_listener();
    for _ in 0..20 {
        let mut peer = Peer::connect(address);
        peer.send(b"x");
        peer.reset();
    }
    let mut peer = Peer::connect(address);
    peer.send(b"still there?");
    assert_eq!(peer.take(12), b"still there?");
    command.signal(Signal::TERM);
    assert_eq!(command.wait().code(), Some(0));
}

#[test]
fn standard_input_is_waited_for_beside_sockets() {
    let steps = [
        "l = watch-list",
        "a b = pair",
        "watch l a 1",
        "i = await-input",
        "watch l i 1",
        "wait l 10 -",
        "close i",
        // It was not read, and so is still there.
        "i = await-input",
        "watch l i 1",
        "wait l 10 -",
    ];
    for input in [&b"a line\n"[..], b""] {
        let finished = probe(&steps).input(input).output();
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        let said = finished.stdout.matches("wait l 10 -: i 1").count();
        assert_eq!(said, 2, "{finished:#?}");
    }
}
