//! Requests over TLS, by `fetch`.

use std::thread;

use super::CA;
use crate::harness::{Finished, Run, TlsServer, UNTRUSTED, cert, text};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// The end of a server's response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    CloseNotify,
    Truncated,
}

/// Answers one request, and returns it. Fails if the handshake fails.
fn answer(server: &TlsServer, response: &str, end: End) -> std::io::Result<String> {
    let mut peer = server.accept()?;
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        request.push_str(&peer.whole_line());
    }
    peer.send(response.as_bytes());
    if end == End::CloseNotify {
        let stream = peer.get();
        stream.conn.send_close_notify();
        stream.conn.write_tls(&mut stream.sock)?;
    }
    Ok(request)
}

/// Runs `fetch` on a URL of a server that answers with `response`.
fn fetched(server: &TlsServer, host: &str, response: &str, end: End, args: &[&str]) -> Finished {
    let port = server.address.port();
    let fetch = Run::guest("fetch")
        .args(["--allow-connect", &format!("{host}:{port}")])
        .args(args)
        .guest_args(&[&format!("https://{host}:{port}/page?q=1")]);
    thread::scope(|scope| {
        // This fails, too, if the client refuses the handshake.
        scope.spawn(|| answer(server, response, end));
        fetch.output()
    })
}

/// Checks that a fetch failed for these reasons.
fn failed(finished: &Finished, reasons: &[&str]) {
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    let line = finished.stdout.trim_end();
    assert_eq!(line.lines().count(), 1, "{finished:#?}");
    assert!(line.contains(": failed: "), "{line}");
    for reason in reasons {
        assert!(line.contains(reason), "no {reason:?} in {line}");
    }
}

/// Flags that let a guest connect to servers of this machine.
const LOCAL: [&str; 4] = [
    "--allow-connect",
    "localhost:*",
    "--allow-connect",
    "127.0.0.1:*",
];

#[test]
fn the_status_of_each_url_is_printed() {
    let server = Run::guest("hello").http().https().start();
    let (http, https) = (server.address("http"), server.address("https"));
    let finished = Run::guest("fetch")
        .args(CA)
        .args(LOCAL)
        .guest_args(&[&format!("https://localhost:{}/", https.port())])
        .guest_args(&[&format!("http://{http}?query")])
        .output();
    assert_eq!(finished.code, Some(1), "a path is needed before a query");
    let finished = Run::guest("fetch")
        .args(CA)
        .args(LOCAL)
        .guest_args(&[&format!("https://localhost:{}/", https.port())])
        .guest_args(&[&format!("http://{http}")])
        .output();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let mut lines: Vec<_> = finished.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["127.0.0.1: HTTP/1.1 200 OK", "localhost: HTTP/1.1 200 OK"]
    );
    server.stop();
}

#[test]
fn a_request_is_what_a_server_expects() {
    let server = TlsServer::new("cert.pem", "key.pem", &["http/1.1"]);
    let port = server.address.port();
    let fetch = Run::guest("fetch")
        .args(CA)
        .args(["--allow-connect", &format!("localhost:{port}")])
        .guest_args(&[&format!("https://localhost:{port}/page?q=1#part")]);
    let (finished, request) = thread::scope(|scope| {
        let answering = scope.spawn(|| answer(&server, OK, End::CloseNotify));
        let finished = fetch.output();
        (finished, answering.join().expect("a thread that ends"))
    });
    assert_eq!(finished.stdout, "localhost: HTTP/1.1 200 OK\n");
    let request = request.expect("a request");
    assert!(
        request.starts_with("GET /page?q=1 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains(&format!("Host: localhost:{port}\r\n")),
        "{request}"
    );
}

#[test]
fn urls_are_fetched_at_once() {
    let servers = [(); 3].map(|()| TlsServer::new("cert.pem", "key.pem", &["http/1.1"]));
    let urls = servers
        .each_ref()
        .map(|server| format!("https://localhost:{}/", server.address.port()));
    let fetch = Run::guest("fetch")
        .args(CA)
        .args(["--allow-connect", "localhost:*"])
        .guest_args(&urls.each_ref().map(String::as_str));
    let finished = thread::scope(|scope| {
        // No request is answered before all have come.
        scope.spawn(|| {
            let mut peers = servers.each_ref().map(|it| it.accept().expect("a session"));
            for peer in &mut peers {
                peer.whole_line();
            }
            for peer in &mut peers {
                peer.send(OK.as_bytes());
            }
        });
        fetch.output()
    });
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(finished.stdout, "localhost: HTTP/1.1 200 OK\n".repeat(3));
}

#[test]
fn each_bad_certificate_is_refused_in_words_of_its_own() {
    let mut lines = Vec::new();
    for (chain, key, args, reasons) in [
        ("expired.pem", "expired.key", &CA[..], &["expired"][..]),
        ("self.pem", "self.key", &CA, &["self-signed"]),
        ("other.pem", "other.key", &CA, &["not valid for name"]),
        ("cert.pem", "key.pem", &[], &["UnknownIssuer", "--ca FILE"]),
    ] {
        let server = TlsServer::new(chain, key, &[]);
        let finished = fetched(&server, "localhost", OK, End::CloseNotify, args);
        failed(&finished, reasons);
        lines.push(finished.stdout);
    }
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 4, "{lines:#?}");

    let server = TlsServer::new("cert.pem", "key.pem", &["h2"]);
    let finished = fetched(&server, "localhost", OK, End::CloseNotify, &CA);
    failed(&finished, &["no common protocol (ALPN)"]);
}

#[test]
fn an_authority_that_is_added_makes_it_good() {
    let server = TlsServer::new("self.pem", "self.key", &[]);
    let own = ["--ca", text(&cert("self.pem"))].map(str::to_owned);
    let own = own.each_ref().map(String::as_str);
    let finished = fetched(&server, "localhost", OK, End::CloseNotify, &own);
    assert_eq!(
        finished.stdout, "localhost: HTTP/1.1 200 OK\n",
        "{finished:#?}"
    );
    assert_eq!(finished.code, Some(0));
}

#[test]
fn without_verification_anybody_is_talked_to_and_the_log_warns() {
    for (chain, key) in UNTRUSTED {
        let server = TlsServer::new(chain, key, &[]);
        let args = ["--tls-insecure"];
        let finished = fetched(&server, "localhost", OK, End::CloseNotify, &args);
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        assert!(finished.stderr.contains("WARN"), "{finished:#?}");
        assert!(finished.stderr.contains("--tls-insecure"), "{finished:#?}");
    }
}

#[test]
fn a_response_that_was_cut_short_is_a_failure() {
    let until_the_end = "HTTP/1.1 200 OK\r\n\r\nhello";
    let longer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello";
    let server = TlsServer::new("cert.pem", "key.pem", &[]);
    let fetch = |response, end| fetched(&server, "localhost", response, end, &CA);
    failed(
        &fetch(until_the_end, End::Truncated),
        &["200 OK", "close_notify"],
    );
    failed(&fetch(longer, End::Truncated), &["200 OK", "close_notify"]);
    failed(&fetch(longer, End::CloseNotify), &["cut short", "the end"]);
    failed(&fetch("SSH-2.0\r\n", End::CloseNotify), &["something else"]);
    // By its length, the response is complete.
    assert_eq!(fetch(OK, End::Truncated).code, Some(0));
    assert_eq!(fetch(until_the_end, End::CloseNotify).code, Some(0));
}

#[test]
fn what_fails_does_not_keep_the_others_from_their_answers() {
    let server = Run::guest("hello").http().start();
    let good = format!("http://localhost:{}/", server.address("http").port());
    let finished = Run::guest("fetch")
        .args(["--allow-connect", "localhost:*"])
        .guest_args(&[&good, "https://denied.example/", "gopher://localhost/"])
        .output();
    assert_eq!(finished.code, Some(1));
    for line in [
        "localhost: HTTP/1.1 200 OK",
        "denied.example: failed: the command line does not allow it",
        "gopher://localhost/: failed: it is not an http:// or https:// URL",
    ] {
        assert!(
            finished.stdout.lines().any(|it| it == line),
            "{finished:#?}"
        );
    }
    assert!(
        finished
            .stderr
            .contains("--allow-connect denied.example:443"),
        "{finished:#?}"
    );
    server.stop();
}
