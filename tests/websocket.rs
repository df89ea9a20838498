//! WebSocket connections (RFC 6455) to the real program and its guests. Frames,
//! time-outs and slow clients are tested in `host/http/src/websocket`.

mod tunnels;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::config::component;
use crate::harness::{
    Client, Configured, Http2, Peer, Run, Server, TcpPeer, administered, directory, eventually,
    free_port, is_quick, message, scrape, slowly, text,
};

const KEY: [u8; 4] = [1, 2, 3, 4];

const OFFER: [&str; 4] = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

fn probe() -> Run {
    Run::guest("ws-probe").http()
}

/// Returns a request for a connection, with more header lines.
pub(crate) fn offer(target: &str, lines: &[&str]) -> String {
    message("GET", target, &[&OFFER[..], lines].concat())
}

/// Returns a client's frame of up to 64 KiB.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(length @ ..=125) => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 126);
            let length = u16::try_from(payload.len()).expect("little");
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend(KEY);
    let masked = payload.iter().zip(KEY.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// Opens a connection. Returns the lines of the answer.
#[track_caller]
pub(crate) fn open<S: Read + Write>(
    peer: &mut Peer<S>,
    target: &str,
    lines: &[&str],
) -> Vec<String> {
    peer.send(offer(target, lines).as_bytes());
    assert_eq!(peer.line(), "HTTP/1.1 101 Switching Protocols");
    let lines = std::iter::from_fn(|| Some(peer.line()).filter(|line| !line.is_empty()));
    let lines: Vec<_> = lines.collect();
    let accept = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    assert!(lines.iter().any(|line| line == accept), "{lines:?}");
    lines
}

pub(crate) fn say<S: Read + Write>(peer: &mut Peer<S>, text: &str) {
    peer.send(&frame(0x81, text.as_bytes()));
}

/// Receives a frame: its first byte and the payload.
pub(crate) fn hear<S: Read + Write>(peer: &mut Peer<S>) -> (u8, Vec<u8>) {
    let head = peer.take(2);
    let length = match head[1] {
        126 => {
            let length = peer.take(2);
            usize::from(u16::from_be_bytes([length[0], length[1]]))
        }
        length => {
            assert!(length < 126, "longer than a test expects");
            usize::from(length)
        }
    };
    (head[0], peer.take(length))
}

#[track_caller]
pub(crate) fn hears<S: Read + Write>(peer: &mut Peer<S>, text: &str) {
    let (first, payload) = hear(peer);
    let payload = String::from_utf8_lossy(&payload).into_owned();
    assert_eq!((first, &*payload), (0x81, text));
}

/// Receives a close frame with this code, and then the end.
#[track_caller]
pub(crate) fn is_closed<S: Read + Write>(peer: &mut Peer<S>, code: u16) {
    let (first, payload) = hear(peer);
    let told = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
    assert_eq!((first, told), (0x88, Some(code)));
}

pub(crate) fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes()[..], reason.as_bytes()].concat())
}

#[test]
fn a_guest_echoes_messages_and_the_request_is_logged_and_counted() {
    let directory = directory();
    let log = directory.path().join("log");
    let run = Run::guest("ws-echo")
        .http()
        .args(["--access-log", text(&log)]);
    let (server, admin) = administered(run);
    let mut peer = server.connect_http();
    open(&mut peer, "/any?x=1", &[]);
    for text in ["hello", "", "ä€😀"] {
        say(&mut peer, text);
        hears(&mut peer, text);
    }
    let large = vec![7; 40_000];
    peer.send(&frame(0x82, &large));
    assert_eq!(hear(&mut peer), (0x82, large));
    let counts = scrape(admin);
    let count = |name: &str| {
        let mut all = counts.iter();
        all.find(|(key, _)| key.starts_with(name))
            .map(|(_, it)| *it)
    };
    assert_eq!(
        count("netwasm_websockets_opened_total"),
        Some(1.0),
        "{counts:?}"
    );
    assert_eq!(
        count("netwasm_websockets_ended_total"),
        Some(0.0),
        "{counts:?}"
    );
    peer.send(&close_frame(1000, ""));
    is_closed(&mut peer, 1000);
    peer.ends();
    let line = eventually("the request is logged", || {
        let log = std::fs::read_to_string(&log).ok()?;
        log.lines().next().map(str::to_owned)
    });
    assert!(line.contains("\"GET /any?x=1 HTTP/1.1\" 101 "), "{line}");
    // A guest that takes nothing else is not asked.
    let response = server.connect_http().fetch("/");
    assert_eq!(response.status, 426);
    assert_eq!(response.header("Sec-WebSocket-Version"), Some("13"));
    drop(peer);
    server.stop();
}

#[test]
fn a_guest_refuses_chooses_a_protocol_and_answers_other_requests() {
    let server = probe().start();
    let mut peer = server.connect_http();
    peer.fetch("/page").is(200, "a page");
    let response = peer.exchange(offer("/refuse", &[]));
    assert_eq!(response.status, 403);
    let response = peer.exchange(offer("/protocol", &[]));
    assert_eq!(response.status, 500, "{response:?}");
    server
        .log
        .wait_for(&["ws-probe", "does not offer the protocol \"chat\""]);
    let response = peer.exchange(offer("/header", &[]));
    assert_eq!(response.status, 500, "{response:?}");
    server
        .log
        .wait_for(&["sec-websocket-accept is the host's to send"]);
    // The connection goes on until one is accepted.
    let lines = open(&mut peer, "/protocol", &["Sec-WebSocket-Protocol: x, chat"]);
    for line in ["sec-websocket-protocol: chat", "x-own: 1"] {
        assert!(lines.iter().any(|it| it == line), "{lines:?}");
    }
    let mut peer = server.connect_http();
    open(&mut peer, "/greet", &[]);
    hears(&mut peer, "hello");
    for (wrong, status) in [
        (offer("/", &[]).replace(": 13", ": 8"), 426),
        (offer("/", &[]).replace("ZQ==", "ZQ"), 400),
        (offer("/", &["Content-Length: 1"]), 400),
    ] {
        let mut peer = server.connect_http();
        let response = peer.exchange([wrong.as_bytes(), b"x"].concat());
        assert_eq!(response.status, status, "{wrong}");
    }
}

#[test]
fn pages_of_other_origins_may_not_connect_unless_a_flag_says_so() {
    let server = probe().start();
    let other = offer("/", &["Origin: https://evil.example"]);
    let response = server.connect_http().exchange(&other);
    assert_eq!(response.status, 403);
    server.log.wait_for(&["--websocket-origin"]);
    open(
        &mut server.connect_http(),
        "/",
        &["Origin: http://localhost"],
    );
    server.stop();
    let server = probe()
        .args(["--websocket-origin", "https://evil.example"])
        .start();
    let lines = ["Origin: https://evil.example"];
    open(&mut server.connect_http(), "/", &lines);
    server.stop();
}

#[test]
fn a_guest_that_traps_ends_its_connection_and_no_other() {
    let server = probe().args(["--workers", "1"]).start();
    let mut other = server.connect_http();
    open(&mut other, "/", &[]);
    let mut peer = server.connect_http();
    open(&mut peer, "/", &[]);
    say(&mut peer, "trap");
    is_closed(&mut peer, 1011);
    peer.ends();
    server.log.wait_for(&["ws-probe", "trapped"]);
    say(&mut other, "still here");
    hears(&mut other, "still here");
    drop((peer, other));
    server.stop();
}

#[test]
fn connections_of_an_instance_end_with_it_and_it_hears_how_each_has_ended() {
    let server = probe()
        .args(["--isolation", "worker", "--workers", "1"])
        .start();
    let mut first = server.connect_http();
    open(&mut first, "/", &[]);
    let mut other = server.connect_http();
    open(&mut other, "/", &[]);
    first.send(&close_frame(4321, "bye"));
    is_closed(&mut first, 4321);
    say(&mut other, "last");
    hears(&mut other, "4321 bye");
    let mut peer = server.connect_http();
    open(&mut peer, "/", &[]);
    say(&mut peer, "close 4000 enough");
    let (first, payload) = hear(&mut peer);
    assert_eq!((first, &payload[2..]), (0x88, &b"enough"[..]));
    peer.send(&close_frame(4000, "agreed"));
    peer.ends();
    say(&mut other, "last");
    hears(&mut other, "4000 agreed");
    let mut peer = server.connect_http();
    open(&mut peer, "/", &[]);
    say(&mut peer, "trap");
    is_closed(&mut peer, 1011);
    is_closed(&mut other, 1011);
}

#[test]
fn clients_are_told_of_a_restart_and_the_run_waits_for_them() {
    let mut server = probe().start();
    let mut peer = server.connect_http();
    open(&mut peer, "/", &[]);
    say(&mut peer, "before");
    hears(&mut peer, "before");
    server.signal(Signal::TERM);
    is_closed(&mut peer, 1012);
    peer.send(&close_frame(1012, ""));
    peer.ends();
    drop(peer);
    assert!(server.wait().success());
}

/// Each of these would hold the run for as long as a peer may be silent.
#[test]
fn a_run_ends_soon_beside_clients_that_do_not_answer_its_close() {
    is_quick(Duration::from_secs(6), || {
        let mut server = probe().args(["--workers", "1"]).start();
        let mut silent = server.connect_http();
        open(&mut silent, "/", &[]);
        // So much is queued for it that it never gets to the close frame.
        let mut full = TcpPeer::connect_narrow(server.address("http"));
        open(&mut full, "/", &[]);
        say(&mut full, "send 100 60000");
        full.stalled();
        let begun = Instant::now();
        server.signal(Signal::TERM);
        is_closed(&mut silent, 1012);
        assert!(server.wait().success());
        let took = begun.elapsed();
        let lost = "the peer does not answer the close frame";
        eventually("both are told of", || {
            (server.log.count(lost) == 2).then_some(())
        });
        drop((silent, full));
        took
    });
}

#[test]
fn a_run_that_ends_waits_for_a_client_that_takes_its_messages_slowly() {
    let mut server = probe().start();
    let mut slow = TcpPeer::connect_narrow(server.address("http"));
    open(&mut slow, "/", &[]);
    say(&mut slow, "send 100 60000");
    slow.stalled();
    server.signal(Signal::TERM);
    for _ in slowly(Duration::from_millis(40), 0..100) {
        let (first, message) = hear(&mut slow);
        assert_eq!((first, message.len()), (0x82, 60000));
    }
    is_closed(&mut slow, 1012);
    drop(slow);
    assert!(server.wait().success());
}

#[test]
fn clients_are_told_of_a_restart_of_a_service_that_shares_the_listener_of_another() {
    let (settings, port) = (Configured::new(), free_port());
    let content = |setting: &str| {
        let (site, talk) = (component("router"), component("ws-probe"));
        format!(
            "workers = 1\nshutdown-timeout = \"5m\"\n\
             [services.site]\ncomponent = {site}\nhttp = \"127.0.0.1:{port}\"\n\
             [services.talk]\ncomponent = {talk}\nhttp = \"127.0.0.1:{port}\"\n\
             route = \"localhost\"\nargs = [{setting:?}]\n"
        )
    };
    let server = settings.start(content("before"), 1);
    let mut own = server.connect_http();
    let mut http2 = Http2::connect(server.address("http"));
    let mut peer = server.connect_http();
    open(&mut peer, "/", &[]);
    say(&mut peer, "before");
    hears(&mut peer, "before");
    assert_eq!(http2.fetch("/page").status, 200);
    let line = settings.reload(&server, content("after"));
    assert!(line.contains("replaced=\"talk\""), "{line}");
    is_closed(&mut peer, 1012);
    peer.send(&close_frame(1012, ""));
    peer.ends();
    // The listener goes on, with the new generation.
    open(&mut own, "/", &[]);
    say(&mut own, "after");
    hears(&mut own, "after");
    assert_eq!(http2.fetch("/page").status, 200);
    drop((peer, own, http2));
    server.stop();
}

#[test]
fn a_message_beyond_the_limit_is_refused_and_the_guest_may_send_much() {
    let server = probe()
        .args([
            "--max-websocket-message",
            "2kB",
            "--websocket-compression",
            "shared",
        ])
        .start();
    let mut peer = server.connect_http();
    let lines = open(
        &mut peer,
        "/",
        &["Sec-WebSocket-Extensions: permessage-deflate"],
    );
    let agreed = "sec-websocket-extensions: permessage-deflate; server_no_context_takeover; \
                  client_no_context_takeover";
    assert!(lines.iter().any(|line| line == agreed), "{lines:?}");
    say(&mut peer, "send 100 50");
    for _ in 0..100 {
        assert_eq!(hear(&mut peer), (0x82, vec![b'x'; 50]));
    }
    peer.send(&frame(0x82, &[0; 2001]));
    is_closed(&mut peer, 1009);
    peer.ends();
    drop(peer);
    server.stop();
}

#[test]
fn connections_are_opened_in_tls() {
    let server = Run::guest("ws-echo").https().start();
    let address = server.address("https");
    let mut peer = Client::of("localhost").alpn("http/1.1").connect(address);
    open(&mut peer, "/", &[]);
    say(&mut peer, "secure");
    hears(&mut peer, "secure");
    peer.send(&close_frame(1000, ""));
    is_closed(&mut peer, 1000);
    drop(peer);
    server.stop();
}

/// Opens connections that say nothing.
fn idle(server: &Server, count: usize) -> Vec<TcpPeer> {
    let connect = |_| {
        let mut peer = server.connect_http();
        open(&mut peer, "/", &[]);
        peer
    };
    (0..count).map(connect).collect()
}

#[test]
fn a_client_that_says_nothing_is_asked_whether_it_is_there() {
    let server = Run::guest("ws-echo")
        .http()
        .args([
            "--websocket-ping",
            "200ms",
            "--websocket-ping-timeout",
            "10s",
        ])
        .start();
    for mut peer in idle(&server, 3) {
        assert_eq!(hear(&mut peer), (0x89, Vec::new()));
        peer.send(&frame(0x8a, b""));
        assert_eq!(hear(&mut peer), (0x89, Vec::new()));
    }
    server.stop();
}

#[test]
fn a_chat_over_all_workers_needs_no_shared_instance() {
    let server = Run::guest("chat-web")
        .http()
        .args(["--workers", "4"])
        .start();
    let page = server.connect_http().fetch("/");
    assert!(page.text().contains("new WebSocket("), "{page:?}");
    let mut peers = Vec::new();
    for number in 0..8 {
        let mut peer = server.connect_http();
        open(&mut peer, &format!("/?name=n{number}"), &[]);
        let count = number + 1;
        hears(&mut peer, &format!("* you are n{number}, of {count} here"));
        peers.push(peer);
    }
    for line in ["one", "two"] {
        say(&mut peers[0], line);
    }
    for peer in &mut peers {
        // Those who came later were announced.
        let mut next = || loop {
            let (first, payload) = hear(peer);
            let text = String::from_utf8(payload).expect("text");
            assert_eq!(first, 0x81, "{text}");
            if !text.starts_with("* ") {
                return text;
            }
        };
        assert_eq!([next(), next()], ["n0: one", "n0: two"]);
    }
}
