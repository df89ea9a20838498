//! How a client and the server come to speak HTTP/2.

use std::process::Command;

use super::{MIB, probe, site};
use crate::harness::http2;
use crate::harness::{self, Client, Http2, Run, same, skipped, text};

#[test]
fn a_client_that_knows_the_server_is_answered_without_tls() {
    let server = probe();
    let mut client = Http2::connect(server.address("http"));
    let response = client.fetch("/request?a=b");
    assert_eq!(response.header("server"), Some("netwasm"));
    assert_eq!(response.header("content-length"), Some("36"));
    assert!(
        response
            .header("date")
            .is_some_and(|it| it.ends_with("GMT"))
    );
    assert_eq!(response.header("connection"), None);
    response.is(200, "GET /request?a=b 1.1 http localhost");
    client.fetch("/nowhere").is(404, "there is nothing here");
    drop(client);
    server.stop();
}

#[test]
fn http_2_is_agreed_on_in_tls_where_the_client_offers_it() {
    let server = Run::guest("probe").https().start();
    let mut client = Http2::secure(server.address("https"));
    client
        .fetch("/request")
        .is(200, "GET /request 1.1 https localhost");
    let info = client.fetch("/info");
    assert!(info.text().contains("alpn h2"), "{info:?}");
    // A client that offers both gets h2. A client that offers only HTTP/1.1, or
    // nothing, gets HTTP/1.1.
    let both = Client::of("localhost").alpn("http/1.1").alpn("h2");
    let mut peer = both.connect(server.address("https"));
    assert_eq!(peer.get().conn.alpn_protocol(), Some(&b"h2"[..]));
    let mut peer = Client::of("localhost")
        .alpn("http/1.1")
        .connect(server.address("https"));
    peer.fetch("/request")
        .is(200, "GET /request 1.1 https localhost");
    let mut peer = Client::of("localhost").connect(server.address("https"));
    peer.fetch("/request")
        .is(200, "GET /request 1.1 https localhost");
    drop(client);
    drop(peer);
    server.stop();
}

#[test]
fn the_user_may_name_the_protocols_of_https() {
    let server = Run::guest("probe")
        .https()
        .args(["--alpn", "http/1.1"])
        .start();
    let address = server.address("https");
    let both = Client::of("localhost").alpn("h2").alpn("http/1.1");
    let mut peer = both.connect(address);
    assert_eq!(peer.get().conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(
        Client::of("localhost")
            .alpn("h2")
            .try_connect(address)
            .is_err()
    );
    drop(peer);
    server.stop();
}

#[test]
fn the_preface_may_come_in_pieces_and_only_at_the_beginning() {
    let server = probe();
    let mut peer = server.connect_http();
    let mut bytes = http2::PREFACE.to_vec();
    bytes.extend(http2::frame(http2::SETTINGS, 0, 0, b""));
    bytes.extend(http2::frame(http2::HEADERS, 5, 1, http2::GET));
    for byte in &bytes {
        peer.send(&[*byte]);
        peer.taken();
    }
    let head = http2::next_of(&mut peer, http2::HEADERS);
    assert_eq!(head.stream, 1);
    let body = http2::next_of(&mut peer, http2::DATA);
    assert_eq!(body.payload, b"GET / 1.1 http localhost\n");

    let mut peer = server.connect_http();
    peer.fetch("/request");
    peer.send(http2::PREFACE);
    assert_eq!(peer.response().status, 505);
    let mut peer = server.connect_http();
    peer.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    assert_eq!(peer.response().status, 505);
    drop(peer);
    server.stop();
}

#[test]
fn an_upgrade_to_http_2_is_not_taken() {
    let server = probe();
    let mut peer = server.connect_http();
    let lines = [
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
    ];
    let response = peer.exchange(harness::message("GET", "/request", &lines));
    response.is(200, "GET /request 1.1 http localhost");
    drop(peer);
    server.stop();
}

#[test]
fn curl_speaks_it_in_both_ways() {
    let version = Command::new("curl").arg("-V").output();
    if !version.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains("HTTP2")) {
        return skipped("no curl that speaks HTTP/2");
    }
    let (server, directory, content) = site(MIB);
    let saved = directory.path().join("saved");
    for (flag, url) in [
        (
            "--http2-prior-knowledge",
            format!("http://{}/file.bin", server.address("http")),
        ),
        (
            "--http2",
            format!("https://{}/file.bin", server.address("https")),
        ),
    ] {
        let told = Command::new("curl")
            .args([
                "-sk",
                flag,
                &url,
                "-o",
                text(&saved),
                "-w",
                "%{http_version} %{http_code}",
            ])
            .output()
            .expect("curl runs");
        assert_eq!(String::from_utf8_lossy(&told.stdout), "2 200");
        same(&std::fs::read(&saved).expect("what it saved"), &content);
    }
    server.stop();
}
