//! Many connections, slow connections, and exhausted limits: usage stays
//! bounded, and resources come back.

use std::time::{Duration, Instant};

use crate::harness::{
    Client, Http2, Run, Server, Strace, TcpPeer, UdpPeer, echoes, eventually, fill, message,
    pattern, raise_descriptor_limit, slowly,
};

/// Connects, gets a few bytes echoed, and closes in order.
fn one_round(server: &Server) {
    let mut peer = server.connect();
    peer.echoes(b"round trip");
    peer.finish();
    assert_eq!(peer.rest(), b"");
}

#[test]
fn a_thousand_connections_at_once() {
    raise_descriptor_limit();
    for isolation in ["connection", "worker"] {
        let server = Run::guest("echo")
            .tcp()
            .args(["--isolation", isolation])
            .start();
        one_round(&server);
        let before = server.descriptors_at_rest();
        let mut peers: Vec<_> = (0..1000).map(|_| server.connect()).collect();
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.send(format!("number {number:04}").as_bytes());
        }
        for (number, peer) in peers.iter_mut().enumerate() {
            assert_eq!(peer.take(11), format!("number {number:04}").as_bytes());
        }
        assert!(server.descriptors() >= before + 1000);
        drop(peers);
        server.wait_for_descriptors(before);
        server.stop();
    }
}

#[test]
fn descriptors_and_memory_are_back_after_ten_thousand_connections() {
    let server = Run::guest("echo").tcp().start();
    let connect = |count: usize| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let server = &server;
                scope.spawn(move || (0..count / 4).for_each(|_| one_round(server)));
            }
        });
    };
    connect(1000);
    let descriptors = server.descriptors_at_rest();
    let memory = server.resident();
    connect(10_000);
    server.wait_for_descriptors(descriptors);
    let grown = server.resident().saturating_sub(memory);
    assert!(grown < 8 << 20, "{grown} bytes stayed");
    server.stop();
}

#[test]
fn no_descriptor_left_on_accept_is_a_pause_and_not_the_end() {
    let server = Run::guest("echo").tcp().args(["--workers", "1"]).start();
    let mut working = server.connect();
    working.echoes(b"before");

    server.descriptors_at_rest();
    server.take_descriptors_away();
    // The kernel completes these connections, but nobody can accept them.
    let mut waiting: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for peer in &mut waiting {
        peer.send(b"patience");
    }
    server.log.wait_for(&["cannot accept"]);

    // Meanwhile the server must not spin, and must serve the connections it
    // has.
    let cpu = server.cpu_seconds();
    let start = Instant::now();
    for _ in slowly(Duration::from_millis(20), 0..30) {
        working.echoes(b"meanwhile");
    }
    let (used, time) = (server.cpu_seconds() - cpu, start.elapsed());
    assert!(
        used < time.as_secs_f64() * 0.6,
        "{used} s of CPU in {time:?}: it spins"
    );
    assert!(
        server.log.count("cannot accept") < 100,
        "a line for each attempt"
    );

    server.give_descriptors_back();
    for peer in &mut waiting {
        assert_eq!(peer.take(8), b"patience");
    }
    server.serves_echo();
}

#[test]
fn failures_of_accept_never_end_the_server() {
    for error in [
        "ECONNABORTED",
        "EMFILE",
        "ENFILE",
        "ENOBUFS",
        "ENOMEM",
        "EPERM",
        "EPROTO",
    ] {
        let server = Run::guest("echo").tcp().args(["--workers", "1"]).start();
        let inject = format!("inject=accept4:error={error}:when=1..2");
        let options = ["-e", "trace=accept4", "-e", &inject];
        let Some(strace) = Strace::attach(&server, &options) else {
            return;
        };
        server.serves_echo();
        strace.wait_for(&["INJECTED", error]);
        strace.detach();
        server.serves_echo();
        server.stop();
    }
}

#[test]
fn a_socket_option_that_fails_never_ends_the_server() {
    let server = Run::guest("echo").tcp().args(["--workers", "1"]).start();
    let options = [
        "-e",
        "trace=setsockopt",
        "-e",
        "inject=setsockopt:error=EINVAL",
    ];
    let Some(strace) = Strace::attach(&server, &options) else {
        return;
    };
    // This connection itself may be lost.
    server.connect().finish_and_wait();
    strace.detach();
    server.serves_echo();
    server.stop();
}

#[test]
fn beyond_the_most_connections_the_backlog_waits() {
    // A worker with nothing to accept must not hold a place that another needs.
    for workers in ["1", "4"] {
        let server = Run::guest("echo")
            .tcp()
            .args(["--max-connections", "3", "--workers", workers])
            .start();
        let mut served: Vec<_> = (0..3).map(|_| server.connect()).collect();
        for peer in &mut served {
            peer.echoes(b"served");
        }
        let mut waiting = server.connect();
        waiting.send(b"waiting");
        waiting.is_held();
        // A place becomes free.
        served.pop();
        assert_eq!(waiting.take(7), b"waiting");
        drop((served, waiting));
        server.stop();
    }
}

#[test]
fn a_client_that_never_reads_pauses_the_guest_and_bounds_memory() {
    // It writes all of it in one event, which may take long where others compute.
    let server = Run::guest("probe")
        .tcp()
        .args(["--event-timeout", "10s"])
        .start();
    let mut peer = TcpPeer::connect_narrow(server.address("tcp"));
    assert_eq!(peer.ask("limits 65536 16384"), "65536 16384");
    // More than all the buffers on the way hold.
    let before = server.resident();
    peer.say("write 12000000");
    peer.stalled();
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes");
    // Now the client reads.
    let received = peer.take(12_000_000);
    assert!(received.iter().all(|&byte| byte == b'x'));
    let events = eventually("room for more is told", || {
        Some(peer.ask("events")).filter(|events| events.contains("writable"))
    });
    // However often it wrote without room.
    assert_eq!(events.matches("writable").count(), 1, "{events}");
}

#[test]
fn an_echo_to_a_client_that_never_reads_is_held_at_the_watermark() {
    for flag in ["--tcp", "--tls"] {
        let server = Run::guest("echo")
            .listen(flag, "127.0.0.1:0")
            .certificate("cert.pem", "key.pem")
            .start();
        let scheme = flag.trim_start_matches('-');
        let mut peer = TcpPeer::connect_narrow(server.address(scheme));
        let before = server.resident();
        if flag == "--tls" {
            let socket = peer.into_inner();
            let mut peer = Client::of("localhost").over(socket).expect("a session");
            let socket = peer.get();
            socket
                .sock
                .set_write_timeout(Some(Duration::from_millis(500)))
                .expect("a timeout");
            fill(socket);
        } else {
            peer.fill();
        }
        let grown = server.resident().saturating_sub(before);
        assert!(
            grown < 2 << 20,
            "{grown} bytes for one connection over {scheme}"
        );
    }
}

#[test]
fn an_idle_connection_ends_at_its_time() {
    let server = Run::guest("echo")
        .tcp()
        .args(["--idle-timeout", "1s"])
        .start();
    let mut idle = server.connect();
    let mut busy = server.connect();
    for _ in slowly(Duration::from_millis(50), 0..32) {
        busy.echoes(b"tick");
    }
    idle.cut();
    server.log.wait_for(&["--idle-timeout"]);
    busy.echoes(b"tick");
}

#[test]
fn a_peer_that_takes_nothing_is_closed_at_its_time() {
    let server = Run::guest("probe")
        .tcp()
        .args(["--write-timeout", "700ms", "--event-timeout", "10s"])
        .start();
    let before = server.descriptors_at_rest();
    let mut peer = TcpPeer::connect_narrow(server.address("tcp"));
    peer.say("write 12000000");
    server.log.wait_for(&["--write-timeout"]);
    server.wait_for_descriptors(before);
    assert!(peer.cut().len() < 12_000_000);
    assert_eq!(server.connect().ask("size"), "0");
}

#[test]
fn a_peer_that_reads_slowly_is_not_closed() {
    let server = Run::guest("probe")
        .tcp()
        .args(["--write-timeout", "1200ms", "--event-timeout", "10s"])
        .start();
    let mut peer = TcpPeer::connect_narrow(server.address("tcp"));
    peer.say("close bye");
    assert_eq!(peer.rest(), b"bye\n");
    let mut peer = TcpPeer::connect_narrow(server.address("tcp"));
    peer.say("write 6000000");
    peer.say("close the end");
    let mut received = 0;
    // Twice the timeout, in small steps.
    for _ in slowly(Duration::from_millis(50), 0..50) {
        received += peer.take(100_000).len();
    }
    received += peer.rest().len();
    assert_eq!(received, 6_000_000 + "the end\n".len());
}

#[test]
fn many_datagram_peers_leave_nothing_behind() {
    let server = Run::guest("echo").udp().start();
    let ask = |count: usize| {
        for _ in 0..count {
            let peer: UdpPeer = server.datagrams();
            assert_eq!(peer.ask(b"once"), b"once");
        }
    };
    ask(200);
    let (descriptors, memory) = (server.descriptors_at_rest(), server.resident());
    ask(2000);
    server.wait_for_descriptors(descriptors);
    let grown = server.resident().saturating_sub(memory);
    assert!(grown < 4 << 20, "{grown} bytes stayed");
}

#[test]
#[ignore = "takes minutes: .ci/long soak"]
fn minutes_of_mixed_load_leave_nothing_behind() {
    let seconds = std::env::var("NETWASM_SOAK_SECONDS");
    let seconds = seconds.map_or(300, |text| text.parse().expect("a number of seconds"));
    let time = Duration::from_secs(seconds);
    let echo = Run::guest("echo").tcp().tls().udp().start();
    let sites = [
        ("probe", "/big?n=100000"),
        ("proxy-probe", "/bytes?100000"),
        ("service-probe", "/bytes?100000"),
    ]
    .map(|(guest, path)| (Run::guest(guest).http().https().start(), path));
    let servers = || std::iter::once(&echo).chain(sites.iter().map(|(server, _)| server));

    load(&echo, &sites, time / 5);
    let before: Vec<_> = servers()
        .map(|server| (server.descriptors_at_rest(), server.resident()))
        .collect();
    load(&echo, &sites, time / 5 * 4);
    for (server, (descriptors, memory)) in servers().zip(before) {
        server.wait_for_descriptors(descriptors);
        server.idles();
        let grown = server.resident().saturating_sub(memory);
        assert!(grown < 16 << 20, "{grown} bytes stayed");
        assert_eq!(server.log.count("panicked"), 0);
    }
    echo.stop();
    for (server, _) in sites {
        server.stop();
    }
}

/// Runs clients of every kind for a while, some of which leave without a word.
fn load(echo: &Server, sites: &[(Server, &str)], time: Duration) {
    let end = Instant::now() + time;
    let again = |work: &dyn Fn()| {
        while Instant::now() < end {
            work();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| again(&|| echoes(echo.connect(), &pattern(1 << 20))));
        scope.spawn(|| {
            again(&|| {
                let mut peer = Client::of("localhost").connect(echo.address("tls"));
                peer.echoes_by(16 << 10, &pattern(1 << 18));
                peer.finish();
                assert_eq!(peer.rest(), b"");
            });
        });
        scope.spawn(|| {
            again(&|| {
                let datagram = pattern(9000);
                assert!(echo.datagrams().ask(&datagram) == datagram);
            });
        });
        scope.spawn(|| {
            again(&|| {
                let mut peer = echo.connect();
                peer.send(&pattern(50_000));
                peer.reset();
            });
        });
        for (server, path) in sites {
            scope.spawn(move || {
                again(&|| {
                    let mut peer = server.connect_http();
                    assert_eq!(peer.fetch(path).body.len(), 100_000);
                    peer.send(message("GET", path, &[]).as_bytes());
                    peer.reset();
                    let mut peer = server.connect_http();
                    peer.send(message("POST", path, &["Content-Length: 10"]).as_bytes());
                    drop(peer);
                });
            });
            scope.spawn(move || {
                again(&|| {
                    let mut client = Http2::secure(server.address("https"));
                    assert_eq!(client.fetch(path).body.len(), 100_000);
                });
            });
        }
    });
}

#[test]
fn with_no_limit_of_time_all_is_served() {
    let no_limits = [
        "background",
        "body",
        "compile",
        "dns",
        "event",
        "half-close",
        "handshake",
        "head",
        "idle",
        "keep-alive",
        "response-body",
        "response",
        "shutdown",
        "write",
    ];
    let mut args: Vec<_> = no_limits.map(|name| format!("--{name}-timeout=0")).into();
    args.push("--tcp-keepalive=0".to_owned());
    for guest in ["hello", "service-probe"] {
        let server = Run::guest(guest).http().https().args(&args).start();
        let mut peer = server.connect_http();
        let mut http2 = Http2::secure(server.address("https"));
        for _ in 0..3 {
            assert_eq!(peer.fetch("/hello").status, 200);
            assert_eq!(http2.fetch("/hello").status, 200);
        }
        drop((peer, http2));
        server.stop();
    }
    let server = Run::guest("echo").tcp().tls().args(&args).start();
    server.serves_echo();
    let mut peer = Client::of("localhost").connect(server.address("tls"));
    peer.echoes(b"in TLS");
    peer.finish();
    assert_eq!(peer.rest(), b"");
    server.stop();
}
