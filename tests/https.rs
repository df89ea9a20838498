//! HTTP in TLS: certificates and names, the negotiated protocol, and what the
//! guest learns.

use std::net::Shutdown;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{
    self, Client, Peer, Run, Server, TlsPeer, cert, directory, is_quick, message, pattern, post,
    same, skipped, text, write,
};
use rustix::process::Signal;
use rustls::version::{TLS12, TLS13};

fn connect(server: &Server) -> TlsPeer {
    Client::of("localhost").connect(server.address("https"))
}

#[test]
fn a_request_inside_tls_is_answered_and_the_guest_learns_of_it() {
    let server = Run::guest("probe").https().start();
    for (version, told) in [(&TLS13, "tls TLSv1.3"), (&TLS12, "tls TLSv1.2")] {
        let client = Client::of("localhost").alpn("http/1.1").version(version);
        let mut peer = client.connect(server.address("https"));
        let response = peer.fetch("/request");
        response.is(200, "GET /request 1.1 https localhost");
        let info = peer.fetch("/info");
        for part in [told, "alpn http/1.1", "server-name localhost"] {
            assert!(info.text().contains(part), "no {part} in {info:?}");
        }
        peer.finish();
        // rustls reports an end without close_notify as an error.
        peer.ends();
    }
    server.stop();
}

#[test]
fn only_what_is_spoken_is_agreed_on() {
    let server = Run::guest("probe").https().start();
    let address = server.address("https");
    let client = Client::of("localhost").alpn("spdy/3").alpn("http/1.1");
    let mut peer = client.connect(address);
    assert_eq!(peer.get().conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    peer.fetch("/request");
    // A client that offers no protocol is served.
    connect(&server).fetch("/request");
    let error = Client::of("localhost").alpn("spdy/3").try_connect(address);
    let error = error.err().expect("no session").to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    server.log.wait_for(&["TLS"]);
}

/// The client reads the end, and does not close its side.
#[test]
fn an_idle_connection_ends_at_once_when_the_server_does() {
    is_quick(Duration::from_secs(2), || {
        let mut server = Run::guest("probe").https().start();
        let mut peer = connect(&server);
        peer.fetch("/request");
        let begun = Instant::now();
        server.signal(Signal::TERM);
        // rustls reports an end without close_notify as an error.
        peer.ends();
        assert_eq!(server.wait().code(), Some(0));
        begun.elapsed()
    });
}

#[test]
fn the_protocols_of_other_listeners_are_not_those_of_https() {
    let server = Run::guest("probe")
        .tls()
        .https()
        .args(["--alpn", "line"])
        .start();
    let client = Client::of("localhost").alpn("line");
    let mut peer = client.connect(server.address("tls"));
    assert_eq!(peer.get().conn.alpn_protocol(), Some(&b"line"[..]));
    assert!(client.try_connect(server.address("https")).is_err());
    connect(&server).fetch("/request");
}

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let server = Run::guest("probe")
        .https()
        .certificate("other.pem", "other.key")
        .start();
    for (name, file) in [("localhost", "cert.pem"), ("other.example", "other.pem")] {
        let mut peer = Client::of(name).connect(server.address("https"));
        let shown = peer.get().conn.peer_certificates().expect("certificates");
        let shown = shown.first().expect("its own").to_vec();
        let expected = harness::certificates(&cert(file));
        assert!(Some(shown.as_slice()) == expected.first().map(AsRef::as_ref));
        peer.fetch("/request");
    }
}

#[test]
fn a_client_must_show_a_certificate_where_one_is_wanted() {
    let server = Run::guest("probe")
        .https()
        .args(["--client-ca", text(&cert("ca.pem"))])
        .start();
    let client = Client::of("localhost").certificate("client.pem", "client.key");
    let mut peer = client.connect(server.address("https"));
    let info = peer.fetch("/info");
    assert!(info.text().contains("peer-certificate"), "{info:?}");
    if let Ok(mut peer) = Client::of("localhost").try_connect(server.address("https")) {
        // Under TLS 1.3 the alert arrives after the client's own handshake.
        use std::io::{Read, Write};
        let stream = peer.get();
        let sent = stream.write_all(message("GET", "/request", &[]).as_bytes());
        let result = sent.and_then(|()| stream.read(&mut [0; 1]));
        assert!(!matches!(result, Ok(1..)), "it was let in");
    }
    server.log.wait_for(&["TLS", "certificate"]);
}

#[test]
fn plain_http_on_the_tls_port_is_told_so_in_plain_http() {
    let directory = directory();
    let log = directory.path().join("access.log");
    let server = Run::guest("probe")
        .https()
        .args(["--access-log", text(&log)])
        .start();
    let words = "The plain HTTP request was sent to HTTPS port";
    for method in ["GET", "POST"] {
        let mut peer = Peer::connect(server.address("https"));
        let response = peer.exchange(message(method, "/request", &[]));
        assert_eq!(response.status, 400);
        assert!(response.closes());
        assert!(response.text().contains(words), "{}", response.text());
        peer.ends();
    }
    server.log.wait_for(&["request refused", words]);
    // Input that is neither TLS nor HTTP gets an alert: RFC 8446, section 5.1.
    let mut peer = Peer::connect(server.address("https"));
    peer.send(&[0; 100]);
    let answer = peer.rest();
    assert!(answer.first() == Some(&21), "{answer:?}");
    server.log.wait_for(&["TLS handshake failed"]);
    connect(&server).fetch("/request");
    server.stop();
    let lines = std::fs::read_to_string(&log).expect("the log");
    for line in [
        "\"GET /request HTTP/1.1\" 400 ",
        "\"POST /request HTTP/1.1\" 400 ",
    ] {
        assert!(lines.contains(line), "{lines}");
    }
}

#[test]
fn tls_on_a_plain_port_is_told_in_the_log() {
    let server = Run::guest("probe").http().start();
    let refused = Client::of("localhost").try_connect(server.address("http"));
    assert!(refused.is_err());
    server
        .log
        .wait_for(&["request refused", "TLS was spoken to a port for plain HTTP"]);
    let mut peer = server.connect_http();
    peer.send(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03");
    assert_eq!(peer.response().status, 400);
    peer.ends();
    server.connect_http().fetch("/request");
    server.stop();
}

#[test]
fn bodies_of_all_sizes_go_both_ways() {
    let scratch = directory();
    let file = pattern(5_000_000);
    write(scratch.path(), "large.bin", &file);
    write(scratch.path(), "small.txt", "small\n");
    let dir = format!("{}::/", text(scratch.path()));
    let server = Run::guest("probe")
        .https()
        .args(["--dir", &dir, "--event-timeout", "10s"])
        .start();
    let mut peer = connect(&server);
    for length in [0, 1, 16_384, 16_385, 100_000, 1 << 20] {
        let body = pattern(length);
        same(&peer.exchange(post("/body", &body)).body, &body);
    }
    assert_eq!(peer.fetch("/big?n=10000000").body.len(), 10_000_000);
    same(&peer.fetch("/path?file=/large.bin").body, &file);
    // Pipelined requests.
    let targets = [
        "/path?file=/large.bin",
        "/path?file=/small.txt",
        "/request",
        "/big?n=100000",
    ];
    let requests: String = targets
        .iter()
        .map(|target| message("GET", target, &[]))
        .collect();
    peer.send(requests.repeat(3).as_bytes());
    for _ in 0..3 {
        same(&peer.response().body, &file);
        peer.response().is(200, "small");
        peer.response().is(200, "GET /request 1.1 https localhost");
        assert_eq!(peer.response().body.len(), 100_000);
    }
}

#[test]
fn an_end_without_close_notify_is_no_error_of_a_client_that_has_its_answers() {
    let server = Run::guest("probe").https().args(["-v"]).start();
    let mut peer = connect(&server);
    peer.fetch("/request");
    peer.get().sock.shutdown(Shutdown::Both).expect("an end");
    server.log.wait_for(&["connection closed"]);
    assert_eq!(server.log.count("connection lost"), 0);
    // Within a request, the log reports it.
    let mut peer = connect(&server);
    peer.send(b"GET / HTTP/1.1\r\n");
    peer.get().sock.shutdown(Shutdown::Both).expect("an end");
    server.log.wait_for(&["the client left within a request"]);
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let server = Run::guest("probe").https().start();
    let mut peer = connect(&server);
    let body = pattern(5 << 20);
    peer.send(&post("/length", &body));
    let response = peer.response();
    assert_eq!(response.status, 413);
    assert!(response.closes());
    peer.ends();
}

#[test]
fn a_silent_client_is_closed_at_its_time() {
    let server = Run::guest("probe")
        .https()
        .args(["--head-timeout", "500ms", "--handshake-timeout", "10s"])
        .start();
    let mut silent = connect(&server);
    let mut slow = connect(&server);
    slow.send(b"GET ");
    silent.ends();
    assert_eq!(slow.response().status, 408);
    slow.ends();
}

#[test]
fn idle_sessions_end_in_order_when_the_server_does() {
    let mut server = Run::guest("probe").https().http().start();
    let mut idle = connect(&server);
    idle.fetch("/request");
    let mut sending = connect(&server);
    // The first response shows that the second request has begun.
    let requests =
        message("GET", "/request", &[]) + &message("POST", "/body", &["Content-Length: 2"]) + "a";
    sending.send(requests.as_bytes());
    sending.response();
    server.signal(Signal::TERM);
    idle.ends();
    let response = sending.exchange("b").is(200, "ab");
    assert!(response.closes());
    sending.ends();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn curl_is_served() {
    let server = Run::guest("probe").https().start();
    let url = format!(
        "https://localhost:{}/request",
        server.address("https").port()
    );
    let curl = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--cacert", text(&cert("ca.pem"))])
        .args([&url, &url])
        .env_remove("https_proxy")
        .output();
    let Ok(output) = curl else {
        return skipped("there is no curl here");
    };
    let answer = String::from_utf8_lossy(&output.stdout);
    let line = format!(
        "GET /request 1.1 https localhost:{}\n",
        server.address("https").port()
    );
    assert_eq!(answer, line.repeat(2), "{output:?}");
}

#[test]
fn the_hello_of_https_is_one_command() {
    let server = Run::guest("hello").https().http().start();
    let page = "<html><body><h1>Hello HTTPS!</h1></body></html>";
    connect(&server).fetch("/").is(200, page);
    server.connect_http().fetch("/").is(200, page);
    server.stop();
}
