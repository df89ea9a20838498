//! Topics: read as events (Server-Sent Events, WHATWG HTML), joined over a real Redis
//! server, and written to connections of TCP. Slow readers and the kept messages' bounds
//! are tested in `host/exchange`, too.

mod readers;

use std::io::{Read, Write};
use std::time::Instant;

use rustix::process::Signal;

use crate::harness::http2::ask;
use crate::harness::{
    DEADLINE, Http2, Peer, Redis, Run, Server, TcpPeer, administered, cert, directory, eventually,
    message, post, scrape, skipped, text,
};

/// A reader of events over HTTP/1.1.
struct Reader<S: Read + Write>(Peer<S>);

impl Reader<std::net::TcpStream> {
    /// Asks for events, with further header lines.
    #[track_caller]
    fn begin(server: &Server, target: &str, lines: &[&str]) -> Self {
        let mut peer: TcpPeer = server.connect_http();
        peer.send(message("GET", target, lines).as_bytes());
        assert_eq!(peer.line(), "HTTP/1.1 200 OK");
        let mut lines = Vec::new();
        loop {
            match peer.line() {
                line if line.is_empty() => break,
                line => lines.push(line.to_ascii_lowercase()),
            }
        }
        for line in [
            "content-type: text/event-stream",
            "cache-control: no-store",
            "transfer-encoding: chunked",
        ] {
            assert!(lines.iter().any(|it| it == line), "{lines:?}");
        }
        Self(peer)
    }
}

impl<S: Read + Write> Reader<S> {
    /// Receives a chunk; an empty one is the end.
    fn chunk(&mut self) -> String {
        let line = self.0.line();
        let length = usize::from_str_radix(&line, 16).expect("a length");
        let chunk = self.0.take(length + 2);
        let text = chunk.strip_suffix(b"\r\n").expect("an end of line");
        String::from_utf8(text.to_vec()).expect("text")
    }

    /// Receives events until one ends so, without comments.
    fn until(&mut self, end: &str) -> String {
        let (mut text, begun) = (String::new(), Instant::now());
        while !text.ends_with(end) {
            // Comments come without an end.
            assert!(begun.elapsed() < DEADLINE, "no {end:?} after {text:?}");
            let chunk = self.chunk();
            assert!(!chunk.is_empty(), "the end, after {text}");
            text += &chunk.replace(":\n\n", "");
        }
        text
    }

    /// Receives the first lines. Returns the ID in it.
    #[track_caller]
    fn id(&mut self, before: &str) -> String {
        let head = self.until("\n\n");
        let id = head
            .strip_prefix(before)
            .and_then(|id| id.strip_prefix("id: "));
        id.unwrap_or_else(|| panic!("{head}")).trim_end().to_owned()
    }
}

#[track_caller]
fn publish(server: &Server, text: &[u8]) -> String {
    let mut peer = server.connect_http();
    let response = peer.exchange(post("/publish/news", text));
    assert_eq!(response.status, 200);
    response.text().to_owned()
}

#[test]
fn a_topic_is_read_as_events_and_again_after_a_pause() {
    let folder = directory();
    let log = folder.path().join("log");
    let mut server = Run::guest("ws-probe")
        .http()
        .args(["--workers", "2", "--events-heartbeat", "50ms"])
        .args(["--access-log", text(&log)])
        .start();
    let mut first = Reader::begin(&server, "/events/news", &[]);
    let id = first.id("retry: 50\n");
    let (ring, number) = id.split_once('-').expect("a number");
    assert_eq!(number, "0");
    assert_eq!(first.chunk(), ":\n\n", "a comment when there is nothing");
    assert_eq!(publish(&server, b"one\r\nline"), "1");
    let one = format!("event: line\ndata: one\ndata: line\nid: {ring}-1\n\n");
    assert_eq!(first.until("-1\n\n"), one);
    drop(first);
    publish(&server, b"\xff no text");
    publish(&server, b"two");
    // On the other worker, perhaps.
    let seen = format!("Last-Event-ID: {ring}-1");
    let mut again = Reader::begin(&server, "/later/news", &[&seen]);
    let two = format!("data: two\nid: {ring}-2\n\n");
    assert_eq!(again.until("-2\n\n"), format!("id: {ring}-1\n\n{two}"));
    // Of an unknown place, it has missed all, and more perhaps.
    let mut foreign = Reader::begin(&server, "/later/news", &["Last-Event-ID: 1-7"]);
    let all = foreign.until("-2\n\n");
    let told = format!("event: gap\ndata: unknown\nid: {ring}-0\n\ndata: one\n");
    assert!(all.starts_with(&told), "{all}");
    // Over HTTP/2, too.
    let mut client = Http2::connect(server.address("http"));
    let mut request = ask("GET", "/events/news");
    let seen = format!("{ring}-1").parse().expect("a value");
    request.headers_mut().insert("last-event-id", seen);
    let (answered, _to) = client.begin(request, true).expect("a stream");
    let answered = client.run(answered).expect("a response");
    assert_eq!(answered.headers()["content-type"], "text/event-stream");
    let mut body = answered.into_body();
    let mut received = String::new();
    while !received.contains(&two) {
        let piece = client.run(body.data()).expect("more").expect("a piece");
        received += std::str::from_utf8(&piece).expect("text");
    }
    // HEAD has no body, and reads nothing.
    let mut peer = server.connect_http();
    peer.send(message("HEAD", "/events/other", &[]).as_bytes());
    assert_eq!(peer.response_to_head().status, 200);
    peer.exchange(post("/publish/other", b"x")).is(200, "0");
    // Readers connect again, with what they have seen.
    server.signal(Signal::TERM);
    for mut reader in [again, foreign] {
        while !reader.chunk().is_empty() {}
    }
    while let Some(piece) = client.run(body.data()) {
        piece.expect("an end that is none of a failure");
    }
    drop((client, peer));
    assert!(server.wait().success());
    let log = eventually("the requests are logged", || {
        let log = std::fs::read_to_string(&log).ok()?;
        (log.matches("\"GET /").count() == 4).then_some(log)
    });
    assert!(log.contains("\"GET /events/news HTTP/1.1\" 200 "), "{log}");
}

#[test]
fn topics_of_two_processes_are_joined_and_again_after_the_server_was_away() {
    let scratch = directory();
    let user = [
        "--user",
        "default",
        "on",
        ">s3cret",
        "~*",
        "resetchannels",
        "&t:news",
        "+@all",
    ];
    let Some(mut redis) = Redis::start_with(scratch.path(), &user) else {
        return;
    };
    let port = redis.port;
    let run = || {
        let server = redis.url("?prefix=t:");
        Run::guest("ws-probe").http().args(["--topics", &server])
    };
    let (one, admin) = administered(run());
    let other = run().start();
    one.log.wait_for(&["topics are joined"]);
    let mut reader = Reader::begin(&other, "/later/news", &[]);
    let id = reader.id("");
    let (ring, _) = id.split_once('-').expect("a number");
    redis.wait_for_subscribers("t:news", 1);
    // A channel that the server refuses is no end of the others.
    let refused = Reader::begin(&other, "/later/secret", &[]);
    other.log.wait_for(&["--topics", "refuses its channel"]);
    let mut peer = one.connect_http();
    peer.exchange(post("/publish/secret", b"x")).is(200, "0");
    one.log.wait_for(&["--topics", "refuses its channel"]);
    drop((refused, peer));
    // The count is of this process alone.
    assert_eq!(publish(&one, b"one"), "0");
    assert_eq!(
        reader.until("-1\n\n"),
        format!("data: one\nid: {ring}-1\n\n")
    );
    // A message that comes back to its own process is no second one.
    assert_eq!(publish(&other, b"two"), "1");
    publish(&one, b"three");
    publish(&one, b"four");
    let rest = format!(
        "data: two\nid: {ring}-2\n\ndata: three\nid: {ring}-3\n\ndata: four\nid: {ring}-4\n\n"
    );
    assert_eq!(reader.until("-4\n\n"), rest);
    redis.child.kill().expect("it is there");
    redis.child.wait().expect("it ends");
    for server in [&one, &other] {
        let log = server.log.wait_for(&["--topics", "is lost"]);
        assert!(!log.contains("s3cret"), "{log}");
    }
    publish(&one, b"lost");
    let counts = scrape(admin);
    let lost = counts.iter().find(|(key, _)| {
        key.starts_with("netwasm_topics_joined_total{") && key.contains("event=\"lost\"")
    });
    assert!(lost.is_some_and(|(_, count)| *count >= 2.0), "{counts:?}");
    let Some(redis) = Redis::again(scratch.path(), port) else {
        skipped("somebody else has the port of the Redis server now");
        return;
    };
    redis.wait_for_subscribers("t:news", 1);
    for server in [&one, &other] {
        server.log.wait_for(&["topics are joined again"]);
    }
    publish(&one, b"five");
    let rest = format!("event: gap\ndata: unknown\nid: {ring}-5\n\ndata: five\nid: {ring}-6\n\n");
    assert_eq!(reader.until("-6\n\n"), rest);
    drop(reader);
    one.stop();
    other.stop();
}

#[test]
fn topics_are_joined_over_tls_by_a_server_that_is_trusted() {
    let scratch = directory();
    let Some((redis, port)) = Redis::start_secure(scratch.path()) else {
        return;
    };
    let url = format!("rediss://:s3cret@localhost:{port}?prefix=t:");
    let run = || Run::guest("ws-probe").http().args(["--topics", &url]);
    let trusting = || run().args(["--ca", text(&cert("ca.pem"))]).start();
    let (one, other) = (trusting(), trusting());
    for server in [&one, &other] {
        server.log.wait_for(&["topics are joined, over rediss://"]);
    }
    let mut reader = Reader::begin(&other, "/later/news", &[]);
    reader.id("");
    redis.wait_for_subscribers("t:news", 1);
    // The second one is more than a record of TLS has.
    for text in ["one", &*"x".repeat(100_000)] {
        publish(&one, text.as_bytes());
        assert!(reader.until("\n\n").starts_with(&format!("data: {text}\n")));
    }
    let stranger = run().start();
    let told = stranger.log.wait_for(&["--topics", "certificate"]);
    assert!(!told.contains("s3cret"), "{told}");
    publish(&stranger, b"to nobody");
    publish(&one, b"two");
    assert!(reader.until("\n\n").starts_with("data: two\n"));
    drop(reader);
    for server in [one, other, stranger] {
        server.stop();
    }
}

#[test]
fn connections_of_tcp_get_what_is_published_on_all_workers() {
    let server = Run::guest("ws-probe").tcp().args(["--workers", "2"]);
    let server = server.start();
    let mut peers: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        assert_eq!(peer.ask("subscribe news"), (number + 1).to_string());
        assert_eq!(peer.ask("subscribe news"), (number + 1).to_string());
    }
    assert_eq!(peers[0].ask("publish news hello"), "8");
    for peer in &mut peers[1..] {
        assert_eq!(peer.line(), "hello");
    }
    assert_eq!(peers[1].ask("leave news"), "7");
    assert_eq!(peers[1].ask("publish news bye"), "7");
    for (number, peer) in peers.iter_mut().enumerate() {
        if number != 1 {
            assert_eq!(peer.line(), "bye");
        }
    }
    // Nothing comes between what is relayed.
    let mut relayed = server.connect();
    assert_eq!(relayed.ask("subscribe news"), "8");
    assert_eq!(relayed.ask("relay"), "relayed");
    assert_eq!(relayed.rest(), b"");
    server.log.wait_for(&["subscribed to topics: unsubscribe"]);
    let mut relayed = server.connect();
    relayed.ask("subscribe news");
    relayed.ask("leave news");
    assert_eq!(relayed.ask("relay"), "relayed");
    assert_eq!(
        relayed.ask("publish news no command"),
        "publish news no command"
    );
    drop(relayed);
    // One that is lost is none.
    peers.truncate(3);
    eventually("the others are forgotten", || {
        (peers[1].ask("publish nothing x") == "0" && peers[1].ask("leave news") == "2")
            .then_some(())
    });
    drop(peers);
    server.stop();
}

#[test]
fn a_page_gets_what_a_timer_publishes() {
    let server = Run::guest("dashboard")
        .http()
        .args(["--workers", "2"])
        .start();
    let page = server.connect_http().fetch("/");
    assert!(page.text().contains("EventSource(\"events\")"), "{page:?}");
    let mut reader = Reader::begin(&server, "/events", &[]);
    reader.id("");
    let numbers = reader.until("\n\n");
    assert!(numbers.starts_with("data: {\"readers\":1,"), "{numbers}");
    drop(reader);
    server.stop();
}
