//! WebSocket connections that a guest opens, to the real program and to servers
//! that break rules.

use std::io::Write as _;
use std::net::{Shutdown, TcpListener};

use rustix::process::Signal;

use crate::harness::{Run, Server, TcpPeer, cert, text};
use crate::websocket::{close_frame, frame, hear, hears, is_closed, offer, open, say};

/// Starts the probe, which may connect to an address, and opens a connection to it.
fn probe(server: &str, args: &[&str]) -> (Server, TcpPeer) {
    let probe = Run::guest("ws-probe")
        .http()
        .args(["--allow-connect", server])
        .args(args)
        .start();
    let mut client = probe.connect_http();
    open(&mut client, "/", &[]);
    (probe, client)
}

/// Lets the probe open a connection, and returns what it says of that.
#[track_caller]
fn dial(client: &mut TcpPeer, url: &str) -> String {
    say(client, &format!("dial {url}"));
    said(client)
}

/// Receives a text.
#[track_caller]
fn said(client: &mut TcpPeer) -> String {
    let (first, payload) = hear(client);
    let text = String::from_utf8_lossy(&payload).into_owned();
    assert_eq!(first, 0x81, "{text}");
    text
}

#[test]
fn a_guest_talks_to_another_server_and_hears_how_it_ends() {
    let compression = ["--websocket-compression", "dedicated"];
    let server = Run::guest("ws-probe").http().args(compression).start();
    let address = server.address("http").to_string();
    let (probe, mut client) = probe(&address, &compression);
    let said = dial(&mut client, &format!("ws://{address}/protocol?x=1 v2 chat"));
    assert_eq!(said, "opened with chat");
    for text in ["hello", "", "ä€😀", &*"again and ".repeat(100)] {
        say(&mut client, text);
        hears(&mut client, text);
    }
    let large: Vec<u8> = (0..40_000_u32)
        .flat_map(u32::to_be_bytes)
        .take(60_000)
        .collect();
    client.send(&frame(0x82, &large));
    assert_eq!(hear(&mut client), (0x82, large));
    // More than fits into the queues on the way.
    say(&mut client, "send 50 5000");
    for _ in 0..50 {
        assert_eq!(hear(&mut client), (0x82, vec![b'x'; 5000]));
    }
    say(&mut client, "close 4321 bye");
    hears(&mut client, "server closed 4321 bye");
    // A message that was sent along with the answer is there, too.
    let said = dial(&mut client, &format!("ws://{address}/greet"));
    assert_eq!(said, "opened with no protocol");
    hears(&mut client, "hello");
    say(&mut client, "trap");
    hears(&mut client, "server closed 1011");
    let said = dial(&mut client, &format!("ws://{address}/refuse"));
    assert_eq!(said, "the server answers with 403");
    drop(client);
    probe.stop();
    server.stop();
}

#[test]
fn a_guest_talks_to_a_server_over_tls_that_it_trusts() {
    let server = Run::guest("ws-echo").https().start();
    let port = server.address("https").port();
    let url = format!("wss://localhost:{port}/");
    let allowed = format!("localhost:{port}");
    let ca = cert("ca.pem");
    let (probe_that_trusts, mut client) = probe(&allowed, &["--ca", text(&ca)]);
    assert_eq!(dial(&mut client, &url), "opened with no protocol");
    say(&mut client, "secure");
    hears(&mut client, "secure");
    drop(client);
    let (probe_without, mut client) = probe(&allowed, &[]);
    let said = dial(&mut client, &url);
    assert!(said.contains("ssuer"), "{said}");
    drop(client);
    // By options of the connection.
    let authority = format!("internal={}", text(&ca));
    let (probe_by_name, mut client) = probe(&allowed, &["--tls-authority", &authority]);
    for (options, outcome) in [
        ("authority=other", "the command line does not allow it"),
        ("name=localhost", "ssuer"),
        ("authority=internal", "opened with no protocol"),
    ] {
        let said = dial(&mut client, &format!("{url} {options}"));
        assert!(said.contains(outcome), "{options}: {said}");
    }
    say(&mut client, "secure");
    hears(&mut client, "secure");
    drop(client);
    for server in [probe_that_trusts, probe_without, probe_by_name, server] {
        server.stop();
    }
}

#[test]
fn a_guest_opens_nothing_that_is_not_allowed_or_no_url() {
    let (probe, mut client) = probe("127.0.0.1:1", &[]);
    let said = dial(&mut client, "ws://127.0.0.1:2/");
    assert!(
        said.contains("the command line does not allow it"),
        "{said}"
    );
    probe.log.wait_for(&["--allow-connect 127.0.0.1:2"]);
    let wrong = ["http://127.0.0.1:1/", "ws://x@127.0.0.1:1/", "ws://"];
    for url in wrong {
        let said = dial(&mut client, url);
        assert!(said.contains("invalid argument"), "{url}: {said}");
    }
    drop(client);
    probe.stop();
}

/// A server of this process, and the probe that connects to it.
struct Hand {
    listener: TcpListener,
    probe: Server,
}

impl Hand {
    /// Starts both. Returns a connection to the probe, too.
    fn start(args: &[&str]) -> (Self, TcpPeer) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (probe, client) = probe(&address, args);
        (Self { listener, probe }, client)
    }

    fn url(&self) -> String {
        let address = self.listener.local_addr().expect("an address");
        format!("ws://{address}/path?query")
    }

    fn accept(&self) -> TcpPeer {
        let (stream, _) = self.listener.accept().expect("a connection");
        TcpPeer::accepted(stream)
    }

    /// Lets the probe connect. Returns the server's end, and the lines of the
    /// request.
    fn dialled(&self, client: &mut TcpPeer, more: &str) -> (TcpPeer, Vec<String>) {
        self.asked(client, &format!("dial {} {more}", self.url()))
    }

    /// Gives the probe a command to connect, as [`Self::dialled`] does.
    fn asked(&self, client: &mut TcpPeer, command: &str) -> (TcpPeer, Vec<String>) {
        say(client, command);
        let mut peer = self.accept();
        let lines = std::iter::from_fn(|| Some(peer.line()).filter(|line| !line.is_empty()));
        let lines = lines.collect();
        (peer, lines)
    }

    /// Returns an answer that opens a connection, as a real server has it.
    fn answer(&self, request: &[String]) -> String {
        let mut lines = request.iter();
        let key = lines.find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let usual = "dGhlIHNhbXBsZSBub25jZQ==";
        let mut real = self.probe.connect_http();
        real.send(
            offer("/", &[])
                .replace(usual, key.expect("a key"))
                .as_bytes(),
        );
        let mut answer = String::new();
        while !answer.ends_with("\r\n\r\n") {
            answer.push_str(&real.whole_line());
        }
        answer
    }

    /// Lets the probe connect, and opens the connection.
    fn opened(&self, client: &mut TcpPeer) -> TcpPeer {
        let (mut peer, request) = self.dialled(client, "");
        peer.send(self.answer(&request).as_bytes());
        hears(client, "opened with no protocol");
        peer
    }
}

/// Receives a short frame of a client: its first byte, the payload without its mask,
/// and the key.
#[track_caller]
fn hear_masked(peer: &mut TcpPeer) -> (u8, Vec<u8>, Vec<u8>) {
    let head = peer.take(2);
    assert!((0x80..0xfe).contains(&head[1]), "{head:x?}");
    let key = peer.take(4);
    let masked = peer.take(usize::from(head[1] & 0x7f));
    let payload = masked.iter().zip(key.iter().cycle());
    (
        head[0],
        payload.map(|(byte, mask)| byte ^ mask).collect(),
        key,
    )
}

#[test]
fn a_server_gets_a_request_by_the_rules_and_frames_with_masks() {
    let (hand, mut client) = Hand::start(&["--websocket-compression", "shared"]);
    let (mut peer, request) = hand.dialled(&mut client, "v2 chat");
    assert_eq!(request[0], "GET /path?query HTTP/1.1");
    let address = hand.listener.local_addr().expect("an address");
    for line in [
        &*format!("Host: {address}"),
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: v2, chat",
        "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; \
         server_no_context_takeover; client_max_window_bits",
        "x-own: 1",
    ] {
        assert!(request.iter().any(|it| it == line), "{line}: {request:?}");
    }
    // Interim answers go before, and frames come along.
    let mut answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec();
    answer.extend_from_slice(hand.answer(&request).as_bytes());
    answer.extend_from_slice(b"\x89\x02hi\x81\x05early");
    peer.send(&answer);
    hears(&mut client, "opened with no protocol");
    hears(&mut client, "early");
    let (first, payload, pong) = hear_masked(&mut peer);
    assert_eq!((first, &*payload), (0x8a, &b"hi"[..]));
    say(&mut client, "there");
    let (first, payload, key) = hear_masked(&mut peer);
    assert_eq!((first, &*payload), (0x81, &b"there"[..]));
    assert_ne!(key, pong, "each frame has a key of its own");
    peer.send(b"\x88\x05\x0f\xa0bye");
    hears(&mut client, "server closed 4000 bye");
    let (first, payload, _) = hear_masked(&mut peer);
    assert_eq!((first, &*payload), (0x88, &[0x0f, 0xa0][..]));
    peer.ends();
    drop((peer, client));
    hand.probe.stop();
}

/// Makes a good answer a bad one.
type Spoil<'a> = &'a dyn Fn(&str) -> String;

#[test]
fn an_answer_that_breaks_a_rule_opens_nothing() {
    let (hand, mut client) = Hand::start(&[]);
    let long = format!("HTTP/1.1 101 x\r\n{}", "X: y\r\n".repeat(50_000));
    let with = |good: &str, line: &str| good.replacen("\r\n", &format!("\r\n{line}\r\n"), 1);
    let cases: [(Spoil<'_>, &str); 9] = [
        (
            &|good| good.replace("accept: ", "accept: x"),
            "wrong Sec-WebSocket-Accept",
        ),
        (
            &|good| good.replace("accept: ", "other: "),
            "wrong Sec-WebSocket-Accept",
        ),
        (
            &|good| good.replace("websocket", "h2c"),
            "another protocol than WebSocket",
        ),
        (
            &|good| with(good, "Sec-WebSocket-Protocol: chat"),
            "a protocol that was not offered",
        ),
        (
            &|good| with(good, "Sec-WebSocket-Extensions: permessage-deflate"),
            "an extension that was not offered",
        ),
        (&|_| "SSH-2.0-x\r\n\r\n".to_owned(), "cannot be understood"),
        (
            &|_| long.clone(),
            "more headers than --max-response-headers",
        ),
        (
            &|_| "HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\n".to_owned(),
            "the server answers with 302 /b",
        ),
        (&|_| String::new(), "reset by the peer"),
    ];
    for (spoil, needle) in cases {
        let (mut peer, request) = hand.dialled(&mut client, "");
        let answer = spoil(&hand.answer(&request));
        // The host may have had enough before the end.
        let _ = peer.get().write_all(answer.as_bytes());
        peer.get().shutdown(Shutdown::Write).ok();
        let said = said(&mut client);
        assert!(said.contains(needle), "{said}");
        drop(peer.lost());
    }
    drop(client);
    hand.probe.stop();
}

#[test]
fn a_server_that_does_not_answer_is_left_in_time_or_when_the_guest_gives_up() {
    let (hand, mut client) = Hand::start(&[]);
    // The kernel takes the connection, and nobody reads the request.
    let said = dial(&mut client, &format!("{} hasty", hand.url()));
    assert!(said.contains("too long"), "{said}");
    drop(hand.accept().lost());
    let (mut peer, _) = hand.dialled(&mut client, "drop");
    say(&mut client, "now");
    hears(&mut client, "given up");
    drop(peer.lost());
    drop(client);
    hand.probe.stop();
}

#[test]
fn a_server_that_breaks_a_rule_later_is_told_and_left() {
    let (hand, mut client) = Hand::start(&["--max-websocket-message", "2kB"]);
    for (wrong, code) in [
        (frame(0x81, b"masked"), 1002),
        (vec![0x83, 0], 1002),
        (vec![0x81, 1, 0xff], 1007),
        // No more of it has to come.
        (vec![0x82, 127, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff], 1009),
        (vec![0x82, 126, 0x07, 0xd1], 1009),
    ] {
        let mut peer = hand.opened(&mut client);
        peer.send(&wrong);
        let (first, payload, _) = hear_masked(&mut peer);
        let told = payload.first_chunk().map(|it| u16::from_be_bytes(*it));
        assert_eq!((first, told), (0x88, Some(code)), "{wrong:x?}");
        let said = said(&mut client);
        let closed = format!("server closed {code}");
        assert!(said.starts_with(&closed), "{said}");
    }
    // It leaves without a word.
    drop(hand.opened(&mut client));
    hears(&mut client, "server closed 1006");
    drop(client);
    hand.probe.stop();
}

/// Returns a short frame of a server.
fn sent(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short");
    [&[first, length], payload].concat()
}

#[test]
fn a_handful_of_the_cases_of_clients_is_passed() {
    // `tests/websocket/cases --outgoing` has all of them, by these numbers.
    let (hand, mut client) = Hand::start(&[]);
    let code = |code: u16| code.to_be_bytes().to_vec();
    let closes = |number: u16| sent(0x88, &number.to_be_bytes());
    let text = |text: &str| (0x81, text.as_bytes().to_vec());
    let pong = |payload: &[u8]| (0x8a, payload.to_vec());
    let end = |number: u16| (0x88, code(number));
    let greek = "κόσμε".as_bytes();
    for (number, parts, expected, told) in [
        (
            "1.1.1",
            vec![sent(0x81, b""), closes(1000)],
            vec![text(""), end(1000)],
            1000,
        ),
        (
            "2.4",
            vec![sent(0x89, &[0xfe; 125]), closes(1001)],
            vec![pong(&[0xfe; 125]), end(1001)],
            1001,
        ),
        ("3.7", vec![sent(0xf8, b"")], vec![end(1002)], 1002),
        ("4.2.1", vec![sent(0x8b, b"")], vec![end(1002)], 1002),
        (
            "5.7",
            vec![
                sent(0x01, b"frag"),
                sent(0x89, b"ping"),
                sent(0x80, b"ment"),
                closes(3000),
            ],
            vec![pong(b"ping"), text("fragment"), end(3000)],
            3000,
        ),
        ("5.9", vec![sent(0x80, b"none")], vec![end(1002)], 1002),
        (
            "5.18",
            vec![sent(0x01, b"a"), sent(0x81, b"b")],
            vec![end(1002)],
            1002,
        ),
        // No more of it has to come.
        (
            "6.4.1",
            vec![sent(0x01, greek), sent(0x00, b"\xf4\x90\x80\x80")],
            vec![end(1007)],
            1007,
        ),
        (
            "7.1.2",
            vec![closes(1000), closes(1000)],
            vec![end(1000)],
            1000,
        ),
        (
            "7.3.1",
            vec![sent(0x88, b"")],
            vec![(0x88, Vec::new())],
            1005,
        ),
        ("7.3.2", vec![sent(0x88, b"a")], vec![end(1002)], 1002),
        ("7.9.4", vec![closes(1005)], vec![end(1002)], 1002),
    ] {
        let (mut peer, request) = hand.asked(&mut client, &format!("echo {}", hand.url()));
        peer.send(hand.answer(&request).as_bytes());
        hears(&mut client, "opened");
        peer.send(&parts.concat());
        for (first, payload) in expected {
            let found = hear_masked(&mut peer);
            // A reason may follow the code.
            let payload_found = found.1.get(..payload.len());
            assert_eq!(
                (found.0, payload_found),
                (first, Some(&*payload)),
                "{number}"
            );
        }
        let said = said(&mut client);
        assert!(
            said.starts_with(&format!("server closed {told}")),
            "{number}: {said}"
        );
    }
    drop(client);
    hand.probe.stop();
}

#[test]
fn a_server_that_takes_nothing_is_named_in_the_log() {
    let (hand, mut client) =
        Hand::start(&["--max-websocket-queue", "8kB", "--websocket-slow", "close"]);
    let (mut peer, request) = hand.asked(&mut client, &format!("echo {}", hand.url()));
    peer.send(hand.answer(&request).as_bytes());
    hears(&mut client, "opened");
    // It sends until what comes back, which it does not read, has ended the connection.
    let message = [&[0x82, 126, 0x4e, 0x20][..], &[0; 20_000]].concat();
    while peer.get().write_all(&message).is_ok() {}
    hears(&mut client, "server closed 1006");
    let slow = ["the server takes its messages too slowly"];
    hand.probe.log.wait_for(&slow);
    drop((peer, client));
    hand.probe.stop();
}

#[test]
fn servers_are_told_that_the_host_goes_away() {
    let (mut hand, mut client) = Hand::start(&[]);
    let mut peer = hand.opened(&mut client);
    hand.probe.signal(Signal::TERM);
    let (first, payload, _) = hear_masked(&mut peer);
    assert_eq!((first, &*payload), (0x88, &[0x03, 0xe9][..]));
    is_closed(&mut client, 1012);
    client.send(&close_frame(1012, ""));
    peer.send(b"\x88\x02\x03\xe9");
    drop((peer, client));
    assert!(hand.probe.wait().success());
}
