//! The log, and standard output.

use std::process::Command;

use crate::harness::{self, Run, START, Server, cache, directory, guest, text, within};

/// Starts a server that logs a connection that was reset.
fn with_a_reset(args: &[&str]) -> Server {
    let server = Run::guest("echo").tcp().args(args).start();
    let mut peer = server.connect();
    peer.send(b"some");
    peer.take(4);
    peer.reset();
    server
}

#[test]
fn the_log_is_json_where_that_is_asked_for() {
    let server = with_a_reset(&["--log-format", "json"]);
    let line = server.log.wait_for(&["reset"]);
    let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(entry["level"], "INFO", "{line}");
    assert!(entry["timestamp"].is_string(), "{line}");
    assert!(
        entry["fields"].is_object() || entry["message"].is_string(),
        "{line}"
    );
}

#[test]
fn a_lost_connection_is_one_line_with_its_peer_and_reason() {
    let server = with_a_reset(&[]);
    let line = server.log.wait_for(&["reset"]);
    assert!(
        line.contains("127.0.0.1:") && line.contains("INFO"),
        "{line}"
    );
    assert!(
        !line.contains('\u{1b}'),
        "no colours where nobody sees them: {line}"
    );
    assert_eq!(server.log.count("reset"), 1);
    assert_eq!(server.log.count("traffic"), 0);
}

#[test]
fn v_shows_orderly_ends_too() {
    let server = Run::guest("echo").tcp().args(["-v"]).start();
    server.serves_echo();
    server.log.wait_for(&["DEBUG", "127.0.0.1:"]);
}

#[test]
fn standard_output_has_only_the_listeners() {
    let listening = Run::guest("echo").tcp().udp().start().listening.clone();
    assert!(
        listening[0].starts_with("tcp://127.0.0.1:"),
        "{listening:?}"
    );
    assert!(
        listening[1].starts_with("udp://127.0.0.1:"),
        "{listening:?}"
    );
    assert!(
        listening.iter().all(|url| !url.ends_with(":0")),
        "{listening:?}"
    );
}

#[test]
fn a_closed_standard_output_does_not_stop_the_start() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    let mut child = Command::new(env!("CARGO_BIN_EXE_netwasm"))
        .args([
            "run",
            text(&guest("echo")),
            "--tcp",
            &harness::unix_address(&path),
        ])
        .env("XDG_CACHE_HOME", cache())
        .stdout(writer)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("netwasm starts");
    within(START, "a socket", || {
        std::os::unix::net::UnixStream::connect(&path).ok()
    });
    child.kill().expect("it runs");
    child.wait().expect("its end");
}
