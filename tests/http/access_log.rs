//! The access log.

use std::path::Path;

use super::{files, probe};
use crate::harness::{Run, TcpPeer, directory, eventually, message, pattern, text, write};

/// Returns the lines of an access log, once there are at least `count`.
fn logged(path: &Path, count: usize) -> Vec<String> {
    eventually("lines of the access log", || {
        let text = std::fs::read_to_string(path).ok()?;
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
}

#[test]
fn the_access_log_has_the_combined_format() {
    let scratch = directory();
    let path = scratch.path().join("access.log");
    let server = probe().args(["--access-log", text(&path)]).start();
    let mut peer = server.connect_http();
    peer.exchange(message(
        "GET",
        "/big?n=1234",
        &["User-Agent: a \"quoted\" \\ ä", "Referer: http://r/"],
    ));
    peer.send(message("HEAD", "/big?n=1234", &[]).as_bytes());
    peer.response_to_head();
    peer.fetch("/trap");
    peer.fetch("/answer?header=X:%0d");
    peer.exchange("GET /\"\x07 HTTP/1.1\r\n\r\n");
    peer.ends();
    let lines = logged(&path, 5);
    let lines: Vec<_> = lines
        .iter()
        .map(|line| {
            // 127.0.0.1 - - [25/Nov/2026:03:19:48 +0000] "...
            let (peer, rest) = line.split_once(" - - [").expect("a peer");
            let (time, rest) = rest.split_once("] ").expect("a time");
            assert_eq!((peer, time.len()), ("127.0.0.1", 26), "{line}");
            rest
        })
        .collect();
    assert_eq!(
        lines,
        [
            r#""GET /big?n=1234 HTTP/1.1" 200 1234 "http://r/" "a \x22quoted\x22 \x5C \xC3\xA4""#,
            r#""HEAD /big?n=1234 HTTP/1.1" 200 0 "-" "-""#,
            r#""GET /trap HTTP/1.1" 500 26 "-" "-""#,
            r#""GET /answer?header=X:%0d HTTP/1.1" 500 26 "-" "-""#,
            r#""GET /\x22\x07 HTTP/1.1" 400 40 "-" "-""#,
        ]
    );
    server.stop();
}

#[test]
fn the_access_log_is_json_where_that_is_asked_for() {
    let scratch = directory();
    let path = scratch.path().join("access.log");
    let server = probe()
        .args(["--access-log", text(&path), "--access-log-format", "json"])
        .start();
    let mut peer = server.connect_http();
    peer.exchange(message("GET", "/big?n=10", &["User-Agent: \"\t\\"]));
    let own = peer.get().local_addr().expect("an address").to_string();
    // The last line is written by the time the server has ended.
    peer.fetch("/request");
    drop(peer);
    server.stop();
    let lines = logged(&path, 2);
    assert_eq!(lines.len(), 2);
    let first = lines.first().expect("a line");
    for part in [
        r#""request":"GET /big?n=10 HTTP/1.1""#,
        r#""host":"localhost""#,
        r#""status":200"#,
        r#""bytes":10"#,
        r#""user_agent":"\"\t\\""#,
        r#""referer":null"#,
        &format!(r#""peer":"{own}""#),
    ] {
        assert!(first.contains(part), "no {part} in {first}");
    }
}

#[test]
fn the_access_log_tells_how_much_of_a_response_was_sent() {
    let scratch = directory();
    let path = scratch.path().join("access.log");
    write(scratch.path(), "large.bin", pattern(12_000_000));
    let server = probe()
        .args(["--dir", &files(scratch.path()), "--access-log", text(&path)])
        .args(["--event-timeout", "10s"])
        .start();
    for (number, target) in ["/path?file=/large.bin", "/big?n=12000000"]
        .iter()
        .enumerate()
    {
        let mut peer = TcpPeer::connect_narrow(server.address("http"));
        let requests = message("GET", "/request", &[]) + &message("GET", target, &[]);
        peer.send(requests.as_bytes());
        peer.response();
        peer.take(10_000);
        peer.reset();
        let lines = logged(&path, 2 * number + 2);
        let line = lines.last().expect("a line");
        let (_, rest) = line.split_once("\" 200 ").expect("a status");
        let (bytes, _) = rest.split_once(' ').expect("a length");
        let bytes: u64 = bytes.parse().expect("a length");
        assert!((9_000..12_000_000).contains(&bytes), "{line}");
    }
}

#[test]
fn the_access_log_grows_while_a_client_takes_little_by_little() {
    let scratch = directory();
    let path = scratch.path().join("access.log");
    let server = probe().args(["--access-log", text(&path)]).start();
    let mut peer = TcpPeer::connect_narrow(server.address("http"));
    // Output is always queued for this client.
    peer.send(message("GET", "/big?n=60000", &[]).repeat(400).as_bytes());
    peer.take(12_000_000);
    assert!(logged(&path, 100).len() < 400);
    drop(peer);
    logged(&path, 110);
}

#[test]
fn an_access_log_that_cannot_be_written_is_an_error_at_the_start() {
    let finished = probe()
        .args(["--access-log", "/nowhere/access.log"])
        .output();
    finished.refused(1, &["/nowhere/access.log"]);
    let finished = Run::guest("echo")
        .tcp()
        .args(["--access-log", "-"])
        .output();
    finished.refused(2, &["--access-log", "--http"]);
}
