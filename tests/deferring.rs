//! Requests that an event guest answers later, over both protocols.

use crate::harness::http2::ask;
use crate::harness::{Http2, Run, Server, TcpPeer, directory, message, pattern, text, write};

fn probe(options: &[&str]) -> Server {
    Run::guest("probe").http().args(options).start()
}

fn http1(server: &Server) -> TcpPeer {
    TcpPeer::connect(server.address("http"))
}

fn http2(server: &Server) -> Http2 {
    Http2::connect(server.address("http"))
}

/// Begins a request, and returns its stream.
fn begin(client: &mut Http2, target: &str) -> impl Sized + use<> {
    client.begin(ask("GET", target), true).expect("a stream")
}

#[test]
fn a_deferred_request_is_answered_once_the_guest_has_an_answer() {
    let server = probe(&[]);
    let mut peer = http1(&server);
    peer.fetch("/defer?ms=20").is(200, "deferred");
    peer.fetch("/defer?ms=0").is(200, "deferred");
    peer.fetch("/length").is(200, "0");
    peer.send(message("HEAD", "/defer?ms=1", &[]).as_bytes());
    let head = peer.response_to_head();
    assert_eq!(head.header("content-length"), Some("9"));
    let mut client = http2(&server);
    client.fetch("/defer?ms=20").is(200, "deferred");
    client.fetch("/length").is(200, "0");
    drop((peer, client));
    server.stop();
}

#[test]
fn pipelined_requests_wait_for_a_deferred_one_and_streams_do_not() {
    let server = probe(&[]);
    let mut peer = http1(&server);
    let both = message("GET", "/defer?ms=100", &[]) + &message("GET", "/length", &[]);
    peer.send(both.as_bytes());
    peer.response().is(200, "deferred");
    peer.response().is(200, "0");
    let mut client = http2(&server);
    let slow = begin(&mut client, "/defer?ms=60000");
    client.fetch("/length").is(200, "0");
    for response in client.fetch_at_once("/defer?ms=50", 20) {
        response.is(200, "deferred");
    }
    drop((slow, peer, client));
    server.stop();
}

#[test]
fn a_deferred_file_is_sent_as_any_other() {
    let scratch = directory();
    let content = pattern(3 << 20);
    write(scratch.path(), "file.bin", &content);
    let shared = format!("{}::/", text(scratch.path()));
    let server = probe(&["--dir", &shared]);
    let mut peer = http1(&server);
    let whole = peer.fetch("/defer?ms=5&file=/file.bin");
    assert_eq!(whole.status, 200);
    assert!(whole.body == content, "{} bytes", whole.body.len());
    let tag = whole.header("etag").expect("an entity tag").to_owned();
    let fresh = format!("If-None-Match: {tag}");
    let again = message("GET", "/defer?ms=5&file=/file.bin", &[&fresh]);
    assert_eq!(peer.exchange(again).status, 304);
    let part = message("GET", "/defer?ms=5&file=/file.bin", &["Range: bytes=7-9"]);
    let part = peer.exchange(part);
    assert_eq!((part.status, &*part.body), (206, &content[7..10]));
    let mut client = http2(&server);
    let whole = client.fetch("/defer?ms=5&file=/file.bin");
    assert!(whole.body == content, "{} bytes", whole.body.len());
    assert_eq!(whole.header("etag"), Some(&*tag));
    client
        .fetch("/defer?ms=5&file=/none")
        .is(404, "404 Not Found");
    drop((peer, client));
    server.stop();
}

#[test]
fn a_guest_that_never_answers_costs_its_client_a_504() {
    let server = probe(&["--response-timeout", "300ms"]);
    let mut peer = http1(&server);
    peer.fetch("/defer?ms=never&token=7")
        .is(504, "504 Gateway Timeout");
    peer.fetch("/length").is(200, "0");
    server.log.wait_for(&["abandoned 7"]);
    let mut client = http2(&server);
    client
        .fetch("/defer?ms=never&token=8")
        .is(504, "504 Gateway Timeout");
    client.fetch("/length").is(200, "0");
    server.log.wait_for(&["abandoned 8"]);
    assert_eq!(server.log.count("--response-timeout"), 2);
    drop((peer, client));
    server.stop();
}

#[test]
fn the_guest_is_told_of_a_client_that_leaves() {
    let server = probe(&["--isolation", "worker", "--workers", "1"]);
    let mut peer = http1(&server);
    peer.send(message("GET", "/defer?ms=never&token=1", &[]).as_bytes());
    http1(&server).fetch("/length").is(200, "0");
    drop(peer);
    server.log.wait_for(&["abandoned 1"]);
    let mut client = http2(&server);
    // Dropping it resets the stream.
    drop(begin(&mut client, "/defer?ms=never&token=2"));
    client.settle();
    server.log.wait_for(&["abandoned 2"]);
    let stream = begin(&mut client, "/defer?ms=never&token=3");
    client.fetch("/length").is(200, "0");
    drop((stream, client));
    server.log.wait_for(&["abandoned 3"]);
    // An answer that comes after that is refused.
    let mut peer = http1(&server);
    peer.send(message("GET", "/defer?ms=3000&token=4", &[]).as_bytes());
    http1(&server).fetch("/length").is(200, "0");
    drop(peer);
    server.log.wait_for(&["abandoned 4"]);
    server.log.wait_for(&["respond 4: invalid-state"]);
    http1(&server).fetch("/length").is(200, "0");
    server.stop();
}

#[test]
fn a_half_closed_client_gets_its_deferred_answer() {
    let server = probe(&[]);
    let mut peer = http1(&server);
    peer.send(message("GET", "/defer?ms=1500", &[]).as_bytes());
    peer.finish();
    let answer = String::from_utf8(peer.rest()).expect("text");
    assert!(
        answer.contains("200 OK") && answer.ends_with("deferred\n"),
        "{answer}"
    );
    server.stop();
}

#[test]
fn a_trap_fails_the_deferred_requests_of_its_instance_only() {
    let server = Run::guest("probe")
        .http()
        .args(["--isolation", "worker", "--workers", "1"])
        .start();
    let mut peer = http1(&server);
    peer.send(message("GET", "/defer?ms=never", &[]).as_bytes());
    let mut client = http2(&server);
    client.fetch("/trap").is(500, "500 Internal Server Error");
    peer.response().is(500, "500 Internal Server Error");
    peer.fetch("/length").is(200, "0");
    drop((peer, client));
    server.stop();
}

#[test]
fn a_token_that_is_in_use_traps() {
    let server = probe(&[]);
    let mut client = http2(&server);
    let first = begin(&mut client, "/defer?ms=never&token=5");
    client
        .fetch("/defer?ms=never&token=5")
        .is(500, "500 Internal Server Error");
    server.log.wait_for(&["under the token 5"]);
    client.fetch("/length").is(200, "0");
    drop((first, client));
    server.stop();
}

#[test]
fn a_drain_waits_for_deferred_requests() {
    // The one worker has the first request before it answers the second.
    let mut server = probe(&["--workers", "1"]);
    let mut peer = http1(&server);
    peer.send(message("GET", "/defer?ms=700", &[]).as_bytes());
    http1(&server).fetch("/length").is(200, "0");
    server.signal(rustix::process::Signal::TERM);
    peer.response().is(200, "deferred");
    drop(peer);
    assert_eq!(server.wait().code(), Some(0));
}
