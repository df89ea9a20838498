//! Readers of events that come late, read slowly, or ask for the head alone.

use super::{Reader, publish};
use crate::harness::http2::{ask, settings};
use crate::harness::{Http2, Run, administered, message, scrape};

#[test]
fn a_reader_whose_place_is_no_longer_kept_is_told_and_gets_all_that_is() {
    let server = Run::guest("ws-probe").http().args(["--events-kept", "2"]);
    let server = server.start();
    let mut first = Reader::begin(&server, "/later/news", &[]);
    let id = first.id("");
    let (ring, _) = id.split_once('-').expect("a number");
    for text in ["1", "2", "3", "4"] {
        publish(&server, text.as_bytes());
    }
    first.until("-4\n\n");
    let kept = format!("data: 3\nid: {ring}-3\n\ndata: 4\nid: {ring}-4\n\n");
    let mut peer = server.connect_http();
    for (seen, gap, begins, rest) in [
        // Two are missed for good.
        ("0", "event: gap\ndata: 2\n", "2", &*kept),
        ("1", "event: gap\ndata: 1\n", "2", &kept),
        ("2", "", "2", &kept),
        ("4", "", "4", ""),
        // It has not been yet.
        ("5", "event: gap\ndata: unknown\n", "2", &kept),
    ] {
        let line = format!("Last-Event-ID: {ring}-{seen}");
        let mut again = Reader::begin(&server, "/later/news", &[&line]);
        let expected = format!("{gap}id: {ring}-{begins}\n\n{rest}");
        assert_eq!(again.until(&expected), expected, "{seen}");
        // Clients that see the head are told there, too.
        peer.send(message("HEAD", "/later/news", &[&line]).as_bytes());
        let head = peer.response_to_head().is(200, "");
        let begin = format!("{ring}-{begins}");
        assert_eq!(head.header("last-event-id"), Some(&*begin), "{seen}");
    }
    peer.send(message("HEAD", "/later/news", &[]).as_bytes());
    let head = peer.response_to_head().is(200, "");
    assert_eq!(head.header("last-event-id"), None);
    drop((first, peer));
    server.stop();
}

#[test]
fn a_reader_is_told_of_a_message_that_has_no_room_on_its_way() {
    let run = Run::guest("ws-probe").http();
    let server = run.args(["--max-write-buffer", "128KiB"]).start();
    let mut first = Reader::begin(&server, "/later/news", &[]);
    let id = first.id("");
    let (ring, _) = id.split_once('-').expect("a number");
    assert_eq!(publish(&server, "x".repeat(150_000).as_bytes()), "1");
    publish(&server, b"after");
    let told = format!("event: gap\ndata: 1\nid: {ring}-1\n\n");
    let rest = format!("{told}data: after\nid: {ring}-2\n\n");
    assert_eq!(first.until("-2\n\n"), rest);
    let line = format!("Last-Event-ID: {id}");
    let mut again = Reader::begin(&server, "/later/news", &[&line]);
    assert_eq!(again.until("-2\n\n"), format!("id: {id}\n\n{rest}"));
    drop((first, again));
    server.stop();
}

#[test]
fn a_head_alone_is_that_of_events_and_nobody_reads() {
    let server = Run::guest("ws-probe").http().start();
    let mut peer = server.connect_http();
    let mut client = Http2::connect(server.address("http"));
    for target in ["/events/news", "/later/news"] {
        peer.send(message("HEAD", target, &[]).as_bytes());
        let head = peer.response_to_head().is(200, "");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        let head = client.exchange(ask("HEAD", target), b"").is(200, "");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
    }
    assert_eq!(publish(&server, b"to nobody"), "0");
    drop((peer, client));
    server.stop();
}

#[test]
fn a_reader_that_takes_nothing_over_http2_is_told_to_come_again_and_misses_nothing() {
    let run = Run::guest("ws-probe").http();
    let run = run.args(["--max-websocket-queue", "8kB", "--websocket-slow", "close"]);
    let (server, admin) = administered(run);
    let mut narrow = settings();
    narrow.initial_window_size(2000);
    let mut client = Http2::with(server.address("http"), &narrow);
    let (answered, _to) = client.begin(ask("GET", "/later/news"), true).expect("sent");
    let mut body = client.run(answered).expect("a response").into_body();
    let text = "x".repeat(1000);
    let dropped = || {
        let counts = scrape(admin);
        let count = counts.iter().find(|(key, _)| {
            key.starts_with("netwasm_websocket_messages_total{")
                && key.contains("event=\"dropped\"")
        });
        *count.expect("it is counted").1 > 0.0
    };
    let mut count = 0;
    while !dropped() {
        assert!(count < 1000, "it has room for {count}");
        count += 1;
        publish(&server, format!("{count} {text}").as_bytes());
    }
    // The connection is not held up by it.
    client
        .exchange(ask("HEAD", "/later/other"), b"")
        .is(200, "");
    let mut read = String::new();
    while let Some(piece) = client.run(body.data()) {
        let piece = piece.expect("an end that is none of a failure");
        read += std::str::from_utf8(&piece).expect("text");
        let released = body.flow_control().release_capacity(piece.len());
        released.expect("it was received");
    }
    // A client takes no event that has no end.
    let (whole, _) = read.rsplit_once("\n\n").expect("the first lines");
    let seen = whole.rsplit_once("id: ").expect("an ID").1;
    let mut request = ask("GET", "/later/news");
    let seen = seen.parse().expect("a value");
    request.headers_mut().insert("last-event-id", seen);
    let (answered, _to) = client.begin(request, true).expect("sent");
    let mut body = client.run(answered).expect("a response").into_body();
    let mut rest = String::new();
    while !rest.ends_with(&format!("-{count}\n\n")) {
        let piece = client.run(body.data()).expect("no end").expect("more");
        rest += std::str::from_utf8(&piece).expect("text");
        let released = body.flow_control().release_capacity(piece.len());
        released.expect("it was received");
    }
    let all = format!("{whole}\n\n{rest}");
    let numbers = all.lines().filter_map(|line| line.strip_prefix("data: "));
    let numbers = numbers.map(|line| line.split(' ').next().expect("a number"));
    let expected: Vec<_> = (1..=count).map(|number| number.to_string()).collect();
    assert_eq!(numbers.collect::<Vec<_>>(), expected);
    drop((body, client));
    server.stop();
}
