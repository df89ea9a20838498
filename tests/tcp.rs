//! Tests of byte streams over TCP: echo, half-close, resets, and each operation
//! of a transport.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::Socket;

use crate::harness::{
    Client, Peer, Run, Server, TcpPeer, directory, echoes, guest, pattern, reload, text, with_ipv6,
    write,
};

const MIB: usize = 1 << 20;

#[test]
fn ten_mebibytes_come_back_with_an_instance_for_each_connection() {
    let server = Run::guest("echo")
        .tcp()
        .args(["--isolation", "connection"])
        .start();
    echoes(server.connect(), &pattern(10 * MIB));
    server.stop();
}

#[test]
fn ten_mebibytes_come_back_with_an_instance_for_each_worker() {
    let server = Run::guest("echo")
        .tcp()
        .args(["--isolation", "worker"])
        .start();
    echoes(server.connect(), &pattern(10 * MIB));
    server.stop();
}

#[test]
fn connections_of_one_instance_do_not_mix() {
    let server = Run::guest("echo")
        .tcp()
        .args(["--isolation", "worker", "--workers", "1"])
        .start();
    server.keeps_clients_apart();
    server.stop();
}

#[test]
fn a_port_alone_listens_on_both_loopback_addresses_with_one_port() {
    if !with_ipv6("tcp::a_port_alone_listens_on_both_loopback_addresses_with_one_port") {
        return;
    }
    let server = Run::guest("echo").listen("--tcp", "0").start();
    let v4 = server.address("tcp");
    assert!(v4.is_ipv4(), "{:?}", server.listening);
    server.serves_echo();
    let v6 = format!("tcp://[::1]:{}", v4.port());
    assert_eq!(server.listening, [format!("tcp://{v4}"), v6]);
    let mut peer = Peer::connect((Ipv6Addr::LOCALHOST, v4.port()).into());
    peer.send(b"six");
    assert_eq!(peer.take(3), b"six");
}

#[test]
fn several_listeners_serve_at_once() {
    let server = Run::guest("echo").tcp().tcp().tls().udp().start();
    assert_eq!(server.listening.len(), 4);
    for url in server
        .listening
        .iter()
        .filter_map(|url| url.strip_prefix("tcp://"))
    {
        let mut peer = Peer::connect(url.parse().expect("an address"));
        peer.send(b"one of several");
        assert_eq!(peer.take(14), b"one of several");
    }
    let mut peer = Client::of("localhost").connect(server.address("tls"));
    peer.send(b"in TLS");
    assert_eq!(peer.take(6), b"in TLS");
    assert_eq!(server.datagrams().ask(b"a datagram"), b"a datagram");
    drop(peer);
    server.stop();
}

#[test]
fn several_workers_serve_one_address() {
    let server = Run::guest("echo").tcp().args(["--workers", "4"]).start();
    let mut peers: Vec<_> = (0..32).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.send(b"whoever it is");
    }
    for peer in &mut peers {
        assert_eq!(peer.take(13), b"whoever it is");
    }
    drop(peers);
    server.stop();
}

#[test]
fn what_came_before_a_half_close_is_all_sent_back() {
    let server = Run::guest("echo").tcp().start();
    let mut peer = server.connect();
    let bytes = pattern(100_000);
    peer.send(&bytes);
    peer.finish();
    assert!(peer.rest() == bytes);
}

#[test]
fn a_guest_may_go_on_sending_after_a_half_close() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    assert_eq!(peer.ask("half-close on"), "ok");
    peer.say("timer 50");
    peer.finish();
    assert_eq!(peer.line(), "fired");
    // The guest has to close now, and does not.
    peer.is_held();
}

#[test]
fn a_guest_may_end_its_side_and_still_receive() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    peer.say("write-eof last words");
    assert_eq!(peer.rest(), b"last words\n");
    // No answer can come back any more, so the log shows what was received.
    peer.say("print heard after the end");
    server.log.wait_for(&["heard after the end"]);
    peer.finish();
    server.stop();
}

#[test]
fn a_reset_in_mid_stream_leaves_the_others_alone() {
    for isolation in ["connection", "worker"] {
        let server = Run::guest("echo")
            .tcp()
            .args(["--isolation", isolation])
            .start();
        let mut other = server.connect();
        other.send(b"before");
        assert_eq!(other.take(6), b"before");
        let descriptors = server.descriptors_at_rest();

        let mut peer = server.connect();
        peer.send(&pattern(200_000));
        peer.take(1);
        peer.reset();
        server.log.wait_for(&["reset"]);

        server.wait_for_descriptors(descriptors);
        other.send(b"after");
        assert_eq!(other.take(5), b"after");
        server.serves_echo();
        drop(other);
        server.stop();
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_call_harms_nobody() {
    let server = Run::guest("probe")
        .tcp()
        .args(["--event-timeout", "300ms", "--workers", "1"])
        .start();
    let mut other = server.connect();
    assert_eq!(other.ask("half-close off"), "ok");
    let descriptors = server.descriptors_at_rest();
    let mut peer = server.connect();
    peer.say("spin");
    peer.reset();
    server.wait_for_descriptors(descriptors);
    assert_eq!(other.ask("half-close on"), "ok");
}

#[test]
fn a_client_that_says_nothing_holds_up_nobody() {
    let server = Run::guest("echo").tcp().args(["--workers", "1"]).start();
    let silent: Vec<_> = (0..50).map(|_| server.connect()).collect();
    server.serves_echo();
    drop(silent);
    server.stop();
}

#[test]
fn close_sends_what_is_queued_first() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    peer.say("write 3000000");
    peer.say("close the end");
    let received = peer.rest();
    assert!(received.ends_with(b"the end\n"), "{} bytes", received.len());
    assert_eq!(
        received.iter().filter(|&&byte| byte == b'x').count(),
        3_000_000
    );
}

#[test]
fn a_reply_survives_what_the_client_still_sends() {
    let server = Run::guest("probe").tcp().start();
    for _ in 0..20 {
        let mut peer = server.connect();
        let mut bytes = b"close bye\n".to_vec();
        bytes.resize(1_000_000, b'\n');
        peer.send(&bytes);
        // Bytes left unread at a close would make the kernel send a reset.
        assert_eq!(peer.line(), "bye");
    }
    server.stop();
}

#[test]
fn abort_ends_the_connection_at_once() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    peer.say("abort");
    peer.cut();
    server.log.wait_for(&["abort"]);
    assert_eq!(server.connect().ask("half-close off"), "ok");
}

/// Receives a long stream from a guest that obeys its watermarks.
fn streams_to_the_end<S: Read + Write>(mut peer: Peer<S>, limits: &str) {
    const LENGTH: usize = 32 * MIB;
    assert_ne!(peer.ask(&format!("limits {limits}")), "");
    peer.say(&format!("stream {LENGTH}"));
    let mut buffer = vec![0; MIB];
    let mut received = 0;
    while received < LENGTH {
        let count = peer.read_some(&mut buffer).expect("it goes on");
        assert_ne!(count, 0, "it ends after {received} bytes");
        received += count;
    }
    assert_eq!(received, LENGTH);
}

#[test]
fn a_guest_that_obeys_the_watermarks_never_waits_in_vain() {
    let server = Run::guest("probe")
        .tcp()
        .tls()
        .args(["--event-timeout", "30s"])
        .start();
    // Passing the mark and draining coincide by chance: the lower the marks
    // are, the more often.
    for limits in ["65536 16384", "1000 1000", "0 0"] {
        streams_to_the_end(server.connect(), limits);
        let peer = Client::of("localhost").connect(server.address("tls"));
        streams_to_the_end(peer, limits);
    }
    server.stop();
}

#[test]
fn a_guest_that_exits_with_success_has_its_answer_sent() {
    let run = || Run::guest("probe").tcp().args(["-v"]);
    for isolation in ["connection", "worker"] {
        let server = run().args(["--isolation", isolation]).start();
        let before = server.descriptors_at_rest();
        let mut peer = TcpPeer::connect_narrow(server.address("tcp"));
        peer.say("write 1000000");
        peer.say("exit 0 bye");
        let answer = peer.rest();
        assert_eq!(answer.len(), 1_000_004);
        assert!(answer.ends_with(b"bye\n"));
        server.log.wait_for(&["the guest exited"]);
        server.wait_for_descriptors(before);
        assert_eq!(server.connect().ask("size"), "0");
        assert_eq!(server.log.count("trapped"), 0);
        server.stop();
    }
    let server = run().start();
    let mut peer = server.connect();
    peer.say("exit 3 bye");
    peer.cut();
    server
        .log
        .wait_for(&["the guest trapped", "exited with code"]);
    server.stop();
}

#[test]
fn writelines_sends_its_parts_in_order() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    peer.say("writelines one two three");
    assert_eq!(peer.take(11), b"onetwothree");
}

#[test]
fn the_buffer_is_empty_once_all_is_sent_and_its_limits_can_be_set() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    assert_eq!(peer.ask("size"), "0");
    assert_eq!(peer.ask("limits 5000 1000"), "5000 1000");
    assert_eq!(
        peer.ask("limits 10 20"),
        "10 10",
        "low above high counts as high"
    );
}

#[test]
fn reading_can_be_paused_and_resumed() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    peer.say("pause 200");
    let start = std::time::Instant::now();
    peer.taken();
    // This waits in the socket until the guest reads again.
    peer.say("size");
    assert_eq!(peer.line(), "resumed");
    assert!(start.elapsed().as_millis() >= 190, "{:?}", start.elapsed());
    assert_eq!(peer.line(), "0");
}

#[test]
fn a_guest_sees_both_addresses() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    let local = peer.get().local_addr().expect("an address").to_string();
    let info = peer.ask("info");
    assert!(info.contains(&local), "{info}: no peer {local}");
    assert!(
        info.contains(&server.address("tcp").to_string()),
        "{info}: no local address"
    );
}

#[test]
fn events_come_in_the_order_of_the_grammar() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    assert_eq!(peer.ask("half-close on"), "ok");
    assert_eq!(peer.ask("limits 1000 100"), "1000 100");
    let events = peer.ask("events");
    assert!(
        events.starts_with("connection-made data-received"),
        "{events}"
    );
    assert!(!events.contains("connection-lost"), "{events}");
}

#[test]
fn a_timer_fires_once_and_not_early_and_can_be_cancelled() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    let start = std::time::Instant::now();
    assert_eq!(peer.ask("timer 100"), "fired");
    assert!(start.elapsed().as_millis() >= 99, "{:?}", start.elapsed());
    peer.say("timer 50");
    peer.say("cancel-timer");
    peer.say("timer 150");
    peer.finish();
    let rest = String::from_utf8(peer.rest()).expect("text");
    assert_eq!(rest.matches("fired").count(), 0, "closed by then: {rest}");
    let mut peer = server.connect();
    peer.say("timer 30");
    peer.say("cancel-timer");
    peer.say("timer 120");
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line| line != "fired") {
        lines.push(peer.line());
    }
    assert_eq!(
        lines.iter().filter(|line| *line == "fired").count(),
        1,
        "{lines:?}"
    );
}

/// Starts a chat, with one room that all clients share.
fn chat(options: &[&str]) -> Server {
    Run::guest("chat")
        .tcp()
        .args(["--isolation", "worker", "--workers", "1"])
        // An unoptimised host is slow beside other tests.
        .args(["--event-timeout", "10s"])
        .args(options)
        .start()
}

fn join(server: &Server, name: &str) -> TcpPeer {
    let mut peer = server.connect();
    assert!(peer.line().starts_with("* you are "));
    assert_eq!(
        peer.ask(&format!("/nick {name}")),
        format!("* you are {name}")
    );
    peer
}

/// Receives the next line that somebody said.
fn said(peer: &mut TcpPeer) -> String {
    loop {
        let line = peer.line();
        if !line.starts_with('*') {
            return line;
        }
    }
}

#[test]
fn lines_in_the_chat_go_to_all_others() {
    let server = chat(&[]);
    let mut ann = join(&server, "ann");
    let mut bob = join(&server, "bob");
    let mut cay = join(&server, "cay");
    ann.say("hello everybody");
    assert_eq!(said(&mut bob), "ann: hello everybody");
    assert_eq!(said(&mut cay), "ann: hello everybody");
    // A line may come in pieces, and several may come at once.
    bob.send(b"good ");
    bob.send(b"morning\nhow are you?\n");
    for peer in [&mut ann, &mut cay] {
        assert_eq!(said(peer), "bob: good morning");
        assert_eq!(said(peer), "bob: how are you?");
    }
    cay.reset();
    ann.say("is cay gone?");
    assert_eq!(said(&mut bob), "ann: is cay gone?");
    drop((ann, bob));
    server.stop();
}

#[test]
fn a_slow_reader_in_the_chat_holds_up_nobody_and_learns_what_it_missed() {
    let server = chat(&[]);
    let mut slow = TcpPeer::connect_narrow(server.address("tcp"));
    assert!(slow.line().starts_with("* you are "));
    let mut talker = join(&server, "talker");
    let mut reader = join(&server, "reader");
    let before = server.resident();
    let text = "x".repeat(1000);
    // In all, more than the kernel's buffers on the way hold.
    for _ in 0..100 {
        for _ in 0..100 {
            talker.say(&text);
        }
        for _ in 0..100 {
            assert_eq!(said(&mut reader).len(), text.len() + "talker: ".len());
        }
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes for one slow reader");
    talker.say("the last line");
    let mut missed = false;
    loop {
        let line = slow.line();
        missed |= line.starts_with("* you missed ");
        if line == "talker: the last line" {
            break;
        }
    }
    assert!(missed, "it was not told what it missed");
}

/// Returns the options of a socket of TCP: keep-alive, user timeout, and the
/// sizes of its buffers, which the kernel doubles.
fn options(socket: &Socket) -> (Option<Duration>, Option<Duration>, usize, usize) {
    let probes = socket.keepalive().expect("an option");
    let silence = socket.tcp_keepalive_time().expect("an option");
    (
        probes.then_some(silence),
        socket.tcp_user_timeout().expect("an option"),
        socket.recv_buffer_size().expect("an option") / 2,
        socket.send_buffer_size().expect("an option") / 2,
    )
}

/// Returns the options of the server's connection with a peer.
fn options_with(
    server: &Server,
    peer: SocketAddr,
) -> Option<(Option<Duration>, Option<Duration>, usize, usize)> {
    let sockets = server.sockets()?;
    let connection = sockets.iter().find(|socket| {
        let address = socket.peer_addr().ok();
        address.and_then(|it| it.as_socket()) == Some(peer)
    });
    Some(options(connection.expect("the connection")))
}

fn own_address(peer: &mut TcpPeer) -> SocketAddr {
    peer.get().local_addr().expect("its address")
}

#[test]
fn accepted_and_outgoing_connections_have_the_options_that_are_asked_for() {
    let seconds = Duration::from_secs;
    let upstream = Run::guest("echo").tcp().start();
    let port = upstream.address("tcp").port();
    for host in ["127.0.0.1", "localhost"] {
        let to = format!("{host}:{port}");
        let server = Run::guest("proxy")
            .tcp()
            .args(["--allow-connect", &to, "--tcp-keepalive", "30s"])
            .args(["--tcp-user-timeout", "20s", "--tcp-receive-buffer", "64KiB"])
            .args(["--tcp-send-buffer", "96KiB"])
            .guest_args(&[&to])
            .start();
        let mut peer = server.connect();
        peer.send(b"x");
        assert_eq!(peer.take(1), b"x");
        let expected = (Some(seconds(30)), Some(seconds(20)), 64 << 10, 96 << 10);
        for other in [own_address(&mut peer), upstream.address("tcp")] {
            let Some(found) = options_with(&server, other) else {
                return;
            };
            assert_eq!(found, expected, "{host}: {other}");
        }
        drop(peer);
        server.stop();
    }
    // Without flags, only keep-alive is on.
    let mut peer = upstream.connect();
    peer.send(b"x");
    assert_eq!(peer.take(1), b"x");
    if let Some(found) = options_with(&upstream, own_address(&mut peer)) {
        assert_eq!((found.0, found.1), (Some(seconds(60)), None));
    }
    drop(peer);
    upstream.stop();
}

#[test]
fn a_reload_changes_the_options_of_a_listener_that_stays() {
    let scratch = directory();
    let configure = |more: &str| {
        let content = format!(
            "component = {:?}\ntcp = \"127.0.0.1:0\"\n{more}\n",
            text(&guest("echo"))
        );
        write(scratch.path(), "netwasm.toml", content)
    };
    let file = configure("tcp-user-timeout = \"20s\"");
    let server = Run::config(&file, 1).start();
    let timeout = || {
        let mut peer = server.connect();
        peer.send(b"x");
        assert_eq!(peer.take(1), b"x");
        let found = options_with(&server, own_address(&mut peer))?;
        Some(found.1)
    };
    let Some(first) = timeout() else { return };
    assert_eq!(first, Some(Duration::from_secs(20)));
    for (more, expected) in [
        ("tcp-user-timeout = \"7s\"", Some(Duration::from_secs(7))),
        ("tcp-user-timeout = 0", None),
    ] {
        configure(more);
        reload(&server);
        assert_eq!(timeout(), Some(expected), "{more}");
    }
    server.stop();
}
