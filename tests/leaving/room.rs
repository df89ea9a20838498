//! Connections that make room for others, and what is left behind.

use std::time::Duration;

use super::{PROBES, close, get, probe};
use crate::harness::{Http2, Run, Server, eventually};

/// Fills the three places of a server with idle connections, and checks that
/// the first makes room for one more.
fn makes_room(server: &Server, mut fill: impl FnMut(), mut is_first_ended: impl FnMut()) {
    for _ in 0..3 {
        fill();
        // Each is idle for longer than the next.
        std::thread::sleep(Duration::from_millis(250));
    }
    let mut peer = server.connect_http();
    assert_eq!(peer.fetch("/").status, 200);
    is_first_ended();
    server.log.wait_for(&["--max-connections is reached"]);
    server.log.wait_for(&["closing an idle connection"]);
}

#[test]
fn idle_clients_do_not_lock_new_ones_out() {
    for workers in ["1", "3"] {
        let server = Run::guest("hello")
            .http()
            .args(["--max-connections", "3", "--workers", workers])
            .start();
        let mut idle = Vec::new();
        for number in 0..3 {
            let mut peer = server.connect_http();
            // A silent connection is idle, too.
            if number != 1 {
                assert_eq!(peer.fetch("/").status, 200);
            }
            idle.push(peer);
        }
        for _ in 0..6 {
            let mut peer = server.connect_http();
            assert_eq!(peer.fetch("/").status, 200);
            idle.push(peer);
        }
        server.log.wait_for(&["--max-connections is reached"]);
        let log = server.log.clone();
        drop(idle);
        server.stop();
        let ended = log.wait_for(&["ended", "reclaimed="]);
        assert!(!ended.contains("reclaimed=0 "), "{ended}");
    }
}

#[test]
fn the_longest_idle_connection_makes_room_first() {
    let run = |run: Run| {
        // A short time-out makes the clock fine enough to tell them apart.
        run.args(["--max-connections", "3", "--workers", "1"])
            .args(["--handshake-timeout", "300ms"])
            .start()
    };
    let server = run(Run::guest("hello").http());
    let idle = std::cell::RefCell::new(Vec::new());
    makes_room(
        &server,
        || {
            let mut peer = server.connect_http();
            assert_eq!(peer.fetch("/").status, 200);
            idle.borrow_mut().push(peer);
        },
        || {
            idle.borrow_mut().remove(0).lost();
        },
    );
    for peer in idle.borrow_mut().iter_mut() {
        assert_eq!(peer.fetch("/").status, 200);
    }
    let server = run(Run::guest("hello").http());
    let idle = std::cell::RefCell::new(Vec::new());
    makes_room(
        &server,
        || {
            let mut peer = Http2::connect(server.address("http"));
            assert_eq!(peer.fetch("/").status, 200);
            idle.borrow_mut().push(peer);
        },
        || {
            // GOAWAY says that nothing was under way.
            idle.borrow_mut().remove(0).ends().expect("an orderly end");
        },
    );
}

#[test]
fn connections_that_are_at_work_make_no_room() {
    let server = probe("service-probe")
        .http()
        .args(["--max-connections", "1"])
        .start();
    let mut peer = server.connect_http();
    peer.send(&get("/late?600"));
    let mut waiting = server.connect_http();
    waiting.send(&get("/hello"));
    peer.response().is(200, "late");
    // Only now is the connection idle.
    waiting.response().is(200, "hello");
    drop(peer);
    drop(waiting);
    server.stop();
}

#[test]
fn outgoing_connections_have_a_limit_of_their_own() {
    let behind = Run::guest("echo").tcp().start();
    let address = behind.address("tcp").to_string();
    let proxy = |limits: [&str; 4]| {
        Run::guest("proxy")
            .tcp()
            .args(limits)
            .args(["--allow-connect", &address])
            .guest_args(&[&address])
            .start()
    };
    // Each accepted connection takes one outgoing connection.
    let server = proxy(["--max-connections", "2", "--max-outgoing", "2"]);
    let mut peers = [server.connect(), server.connect()];
    for peer in &mut peers {
        peer.send(b"both ways");
        assert_eq!(peer.take(9), b"both ways");
    }
    let server = proxy(["--max-connections", "2", "--max-outgoing", "1"]);
    let mut first = server.connect();
    first.send(b"one");
    assert_eq!(first.take(3), b"one");
    assert_eq!(server.connect().lost(), b"");
    first.send(b"one");
    assert_eq!(first.take(3), b"one");
}

#[test]
fn what_a_guest_leaves_behind_is_bounded_by_time() {
    for guest in PROBES {
        for isolation in ["request", "connection"] {
            let server = probe(guest)
                .http()
                .args(["--isolation", isolation, "--background-timeout", "300ms"])
                .start();
            let mut peer = server.connect_http();
            peer.fetch("/after?60000").is(200, "before");
            drop(peer);
            server.log.wait_for(&["--background-timeout"]);
            let log = server.log.clone();
            server.stop();
            log.wait_for(&["ended", "left_behind=1", "left_behind_ended=1"]);
        }
    }
    let server = Run::guest("stream-probe")
        .tcp()
        .args(["--background-timeout", "300ms"])
        .start();
    assert_eq!(server.connect().ask("linger"), "ok");
    server.log.wait_for(&["--background-timeout"]);
    server.stop();
}

#[test]
fn what_guests_leave_behind_is_bounded_by_number() {
    for guest in PROBES {
        let server = probe(guest)
            .http()
            .args(["--isolation", "request", "--max-background", "2"])
            .args(["--max-connections", "1"])
            .start();
        for _ in 0..8 {
            let mut peer = server.connect_http();
            peer.fetch("/after?60000").is(200, "before");
        }
        eventually("all but two end", || {
            (server.log.count("--max-background") == 6).then_some(())
        });
    }
}

#[test]
fn a_client_that_leaves_takes_no_state_along() {
    let server = probe("service-probe")
        .http()
        .args([
            "--isolation",
            "worker",
            "--max-instance-reuse-count",
            "1000",
        ])
        .start();
    let count = || -> u32 {
        let response = server.connect_http().fetch("/count");
        response.text().parse().expect("a number")
    };
    assert_eq!((count(), count()), (1, 2));
    for how in ["reset", "close"] {
        let before = count();
        let mut peer = server.connect_http();
        peer.send(&get("/never"));
        peer.taken();
        peer.is_held();
        let left = server.log.count("the client left within a request");
        match how {
            "reset" => peer.reset(),
            _ => close(peer),
        }
        eventually("it is noticed", || {
            (server.log.count("the client left within a request") > left).then_some(())
        });
        assert_eq!(count(), before + 2, "{how}");
    }
    server.stop();
}

#[test]
fn calls_that_never_end_do_not_pile_up_in_a_shared_instance() {
    let server = probe("service-probe")
        .http()
        .args(["--isolation", "worker", "--background-timeout", "300ms"])
        .args(["--max-instance-concurrent-reuse-count", "2"])
        .start();
    for _ in 0..2 {
        let mut peer = server.connect_http();
        peer.send(&get("/never"));
        peer.taken();
        peer.is_held();
        peer.reset();
    }
    server.log.wait_for(&["the shared instance is replaced"]);
    server.connect_http().fetch("/count").is(200, "1");
    server.stop();
}
