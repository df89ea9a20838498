//! Forwarding to servers that speak TLS: the version of HTTP, the name, and
//! certificates of either side. The servers are in the test's own process.

use std::convert::Infallible;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{
    Run, SecureUpstream, Secured, Server, cert, message, mutual_config, serve_agreed,
    server_config, text,
};

/// Answers each request with the version of HTTP, the name that the client wants
/// (SNI), and true if it has a certificate.
async fn tell(stream: Secured) {
    let session = stream.get_ref().1;
    let name = session.server_name().unwrap_or("-").to_owned();
    let told = format!("{name} {}", session.peer_certificates().is_some());
    let answer = move |request: Request<Incoming>| {
        let said = format!("{:?} {told}", request.version());
        async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(said)))) }
    };
    serve_agreed(stream, answer).await;
}

fn certificate(name: &str, key: &str) -> SecureUpstream {
    SecureUpstream::of(server_config(name, key, &["h2", "http/1.1"]), tell)
}

/// Starts a gateway with these groups, each at the path of its name, and flags.
fn gateway(groups: &[(&str, String)], flags: &[&str]) -> Server {
    let routes: Vec<_> = groups
        .iter()
        .map(|(name, _)| format!("/{name}={name}"))
        .collect();
    let routes: Vec<_> = routes.iter().map(String::as_str).collect();
    let groups = groups
        .iter()
        .map(|(name, servers)| format!("{name}={servers}"));
    let groups = groups.flat_map(|group| ["--upstream".to_owned(), group]);
    Run::guest("gateway")
        .http()
        .args(groups)
        .args(["--workers", "1"])
        .args(flags)
        .guest_args(&routes)
        .start()
}

/// Names a server by its only address: where `localhost` has two, a connection to
/// each is tried.
fn at(upstream: &SecureUpstream, settings: &str) -> String {
    let address = upstream.address;
    format!("https://{address};tls-name=localhost;{settings}")
}

#[test]
fn a_group_agrees_with_its_servers_on_a_version() {
    let both = SecureUpstream::new(&["h2", "http/1.1"], tell);
    let old = SecureUpstream::new(&["http/1.1"], tell);
    let mute = SecureUpstream::new(&[], tell);
    let groups = [
        ("auto-both", at(&both, "http=auto")),
        ("auto-old", at(&old, "http=auto")),
        ("auto-mute", at(&mute, "http=auto")),
        ("two-both", at(&both, "http=2")),
        ("two-old", at(&old, "http=2")),
        ("two-mute", at(&mute, "http=2")),
        ("one-both", at(&both, "")),
    ];
    let authority = cert("ca.pem");
    let server = gateway(&groups, &["--ca", text(&authority)]);
    let mut peer = server.connect_http();
    for (group, version) in [
        ("auto-both", Some("HTTP/2.0")),
        ("auto-old", Some("HTTP/1.1")),
        ("auto-mute", Some("HTTP/1.1")),
        ("two-both", Some("HTTP/2.0")),
        ("two-old", None),
        ("two-mute", None),
        ("one-both", Some("HTTP/1.1")),
    ] {
        for _ in 0..3 {
            let response = peer.fetch(&format!("/{group}/x"));
            match version {
                Some(version) => {
                    response.is(200, &format!("{version} localhost false"));
                }
                None => assert_eq!(response.status, 502, "{group}"),
            }
        }
    }
    server
        .log
        .wait_for(&["does not agree on HTTP/2", "http=auto"]);
    // Each of three groups keeps its connection, whatever the version.
    assert_eq!(both.connections(), 3);
    drop(peer);
    server.stop();
}

#[test]
fn servers_are_verified_by_name_and_authority() {
    let right = certificate("cert.pem", "key.pem");
    let alone = certificate("self.pem", "self.key");
    let expired = certificate("expired.pem", "expired.key");
    let other = certificate("other.pem", "other.key");
    let named = "tls-name=other.example;http=auto";
    let by_address = format!("https://127.0.0.1:{}", other.address.port());
    let by_name = format!("https://localhost:{}", right.address.port());
    let groups = [
        ("right", format!("{by_name};http=auto;tls-authority=own")),
        ("unknown", at(&right, "http=auto")),
        ("alone", at(&alone, "http=auto;tls-authority=own")),
        ("expired", at(&expired, "http=auto;tls-authority=own")),
        ("nameless", at(&other, "http=auto;tls-authority=own")),
        ("named", format!("{by_address};{named};tls-authority=own")),
        ("unnamed", format!("{by_address};tls-authority=own")),
    ];
    let own = format!("own={}", text(&cert("ca.pem")));
    let server = gateway(&groups, &["--tls-authority", &own]);
    let mut peer = server.connect_http();
    peer.fetch("/right").is(200, "HTTP/2.0 localhost false");
    peer.fetch("/named").is(200, "HTTP/2.0 other.example false");
    for group in ["unknown", "alone", "expired", "nameless", "unnamed"] {
        assert_eq!(peer.fetch(&format!("/{group}")).status, 502, "{group}");
    }
    drop(peer);
    server.stop();
}

#[test]
fn a_group_presents_its_certificate_to_servers_that_ask() {
    let upstream = SecureUpstream::of(mutual_config(&["h2", "http/1.1"]), tell);
    let groups = [
        ("two", at(&upstream, "http=auto;tls-identity=me")),
        ("one", at(&upstream, "tls-identity=me")),
        ("nobody", at(&upstream, "http=auto")),
    ];
    let me = format!(
        "me={},{}",
        text(&cert("client.pem")),
        text(&cert("client.key"))
    );
    let authority = cert("ca.pem");
    let server = gateway(&groups, &["--ca", text(&authority), "--tls-identity", &me]);
    let mut peer = server.connect_http();
    peer.fetch("/two").is(200, "HTTP/2.0 localhost true");
    peer.fetch("/one").is(200, "HTTP/1.1 localhost true");
    assert_eq!(peer.fetch("/nobody").status, 502);
    drop(peer);
    server.stop();
    let group = format!("site={}", at(&upstream, "tls-identity=you"));
    let run = Run::guest("gateway").http().args(["--upstream", &group]);
    let refused = run.guest_args(&["/=site"]).output();
    refused.refused(1, &["--upstream site", "--tls-identity you=CERT,KEY"]);
}

/// Echoes on a connection that changes its protocol, by HTTP/1.1.
async fn switch(mut stream: Secured) {
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        return tell(stream).await;
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    let switches = "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    let written = stream.write_all(switches.as_bytes()).await;
    written.expect("room");
    let mut five = [0; 5];
    stream.read_exact(&mut five).await.expect("five bytes");
    stream.write_all(&five).await.expect("room");
    // The client closes the connection.
    let _ = stream.read_u8().await;
}

#[test]
fn another_protocol_goes_by_http1_to_a_server_that_takes_it_there_alone() {
    let upstream = SecureUpstream::new(&["h2", "http/1.1"], switch);
    let authority = cert("ca.pem");
    let groups = [("site", at(&upstream, "http=auto"))];
    let server = gateway(&groups, &["--ca", text(&authority)]);
    let mut other = server.connect_http();
    other.fetch("/site").is(200, "HTTP/2.0 localhost false");
    let mut peer = server.connect_http();
    let request = message("GET", "/site", &["Connection: Upgrade", "Upgrade: echo"]);
    peer.send(request.as_bytes());
    assert_eq!(peer.whole_line(), "HTTP/1.1 101 Switching Protocols\r\n");
    while peer.whole_line() != "\r\n" {}
    peer.send(b"hello");
    assert_eq!(peer.take(5), b"hello");
    other.fetch("/site").is(200, "HTTP/2.0 localhost false");
    assert_eq!(upstream.connections(), 2);
    drop((peer, other));
    server.stop();
}
