//! TLS as a server: certificates, names, client certificates, ALPN, bad
//! handshakes and ends, and `start-tls`.

mod renewal;
mod upgrade;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use rustls::StreamOwned;
use rustls::version::{TLS12, TLS13};

use crate::harness::{
    self, Client, Peer, Run, Server, TcpPeer, cert, directory, pattern, same, text, took_more,
    unix_address,
};

/// Returns the certificate that the server presents to a client that asks for a
/// name.
fn shown(server: &Server, name: &'static str) -> Vec<u8> {
    let mut peer = Client::of(name).connect(server.address("tls"));
    let certificates = peer.get().conn.peer_certificates().expect("a certificate");
    certificates.first().expect("its own").to_vec()
}

/// Returns the first certificate in a file of `certs/`.
fn leaf(name: &str) -> Vec<u8> {
    harness::certificates(&cert(name))
        .first()
        .expect("a certificate")
        .to_vec()
}

/// Connects, and exchanges lines in plain text until the guest is ready for
/// TLS.
fn upgrade_until(server: &Server, question: &str) -> TcpPeer {
    let mut peer = server.connect();
    let greeting = peer.line();
    assert!(!greeting.is_empty());
    assert!(!peer.ask(question).is_empty());
    peer
}

#[test]
fn ten_mebibytes_come_back_through_tls() {
    for isolation in ["connection", "worker"] {
        let server = Run::guest("echo")
            .tls()
            .args(["--isolation", isolation])
            .start();
        let mut peer = Client::of("localhost").connect(server.address("tls"));
        let bytes = pattern(10 << 20);
        peer.echoes_by(64 << 10, &bytes);
        drop(peer);
        server.stop();
    }
}

#[test]
fn both_versions_are_spoken_and_told_to_the_guest() {
    let server = Run::guest("probe").tls().start();
    let newer = Client::of("localhost").version(&TLS13);
    let info = newer.connect(server.address("tls")).ask("info");
    assert!(
        info.contains("TLSv1.3") && info.contains("TLS13_"),
        "{info}"
    );
    assert!(
        info.contains("localhost"),
        "the name that was asked for: {info}"
    );
    let older = Client::of("localhost").version(&TLS12);
    let info = older.connect(server.address("tls")).ask("info");
    assert!(info.contains("TLSv1.2"), "{info}");
}

#[test]
fn a_version_below_the_lowest_is_refused() {
    let server = Run::guest("router")
        .https()
        .args(["--tls-min-version", "1.3"])
        .start();
    let address = server.address("https");
    let newer = Client::of("localhost").version(&TLS13);
    newer
        .connect(address)
        .fetch("/about")
        .is(200, "<h1>About</h1>");
    let older = Client::of("localhost").version(&TLS12);
    let error = older.try_connect(address).err().expect("it is off");
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    server.log.wait_for(&["TLS"]);
    newer
        .connect(address)
        .fetch("/about")
        .is(200, "<h1>About</h1>");
    server.stop();
}

#[test]
fn only_the_cipher_suites_that_are_named_are_agreed_on_in_their_order() {
    let server = Run::guest("probe")
        .tls()
        .args(["--tls-ciphers", "TLS_CHACHA20_POLY1305_SHA256"])
        .args(["--tls-ciphers", "TLS13_AES_128_GCM_SHA256"])
        .start();
    let info = |version| {
        let client = Client::of("localhost").version(version);
        client.connect(server.address("tls")).ask("info")
    };
    // The client would rather have others.
    let newer = info(&TLS13);
    assert!(newer.contains("CHACHA20_POLY1305"), "{newer}");
    // The older version has all of its own.
    let older = info(&TLS12);
    assert!(older.contains("AES_256_GCM"), "{older}");
    server.stop();

    let server = Run::guest("probe")
        .tls()
        .args([
            "--tls-ciphers",
            "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
        ])
        .start();
    for (version, suite) in [(&TLS12, "AES_128_GCM"), (&TLS13, "AES_256_GCM")] {
        let client = Client::of("localhost").version(version);
        let info = client.connect(server.address("tls")).ask("info");
        assert!(info.contains(suite), "{info}");
    }
    server.stop();
}

#[test]
fn services_on_one_listener_agree_on_versions_and_suites() {
    let scratch = directory();
    let listener = "https = \"127.0.0.1:4433\"\ncert = \"c\"\nkey = \"k\"\n";
    for (key, value) in [
        ("tls-min-version", "1.3"),
        ("tls-ciphers", "\"TLS_AES_128_GCM_SHA256\""),
    ] {
        let file = harness::write(
            scratch.path(),
            "netwasm.toml",
            format!(
                "[services.a]\ncomponent = \"router\"\n{listener}\
                 [services.b]\ncomponent = \"hello\"\n{listener}route = \"b.example\"\n\
                 {key} = {value}\n"
            ),
        );
        let check = Run::command(&["check", text(&file)]).output();
        let line = format!(":12:1: {key} differs from that of the service 'a'");
        assert!(check.stdout.contains(&line), "{check:?}");
    }
}

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let server = Run::guest("echo")
        .tls()
        .certificate("other.pem", "other.key")
        .start();
    assert!(shown(&server, "localhost") == leaf("cert.pem"));
    assert!(shown(&server, "other.example") == leaf("other.pem"));
}

#[test]
fn an_unknown_name_gets_the_first_certificate() {
    let server = Run::guest("echo")
        .tls()
        .certificate("other.pem", "other.key")
        .start();
    let client = Client::of("unknown.example");
    // The client says so. The server goes on with its first certificate.
    let error = client
        .try_connect(server.address("tls"))
        .err()
        .expect("a wrong name");
    assert!(error.to_string().contains("not valid for name"), "{error}");
    // A client sends no name for an IP address.
    assert!(shown(&server, "127.0.0.1") == leaf("cert.pem"));
}

#[test]
fn a_client_with_a_good_certificate_is_let_in_and_shown_to_the_guest() {
    let server = Run::guest("probe")
        .tls()
        .args(["--client-ca", text(&cert("ca.pem"))])
        .start();
    for version in [&TLS13, &TLS12] {
        let client = Client::of("localhost").certificate("client.pem", "client.key");
        let info = client
            .version(version)
            .connect(server.address("tls"))
            .ask("info");
        assert!(info.contains("certificate"), "{info}");
    }
}

#[test]
fn a_client_without_a_certificate_is_refused_where_one_is_wanted() {
    let server = Run::guest("echo")
        .tls()
        .args(["--client-ca", text(&cert("ca.pem"))])
        .start();
    refused(&server, &Client::of("localhost"));
    server.log.wait_for(&["TLS", "certificate"]);
    let mut peer = Client::of("localhost")
        .certificate("client.pem", "client.key")
        .connect(server.address("tls"));
    peer.send(b"welcome");
    assert_eq!(peer.take(7), b"welcome");
}

#[test]
fn a_clients_certificate_that_is_not_for_clients_or_expired_is_refused() {
    let server = Run::guest("echo")
        .tls()
        .args(["--client-ca", text(&cert("ca.pem"))])
        .start();
    refused(
        &server,
        &Client::of("localhost").certificate("cert.pem", "key.pem"),
    );
    refused(
        &server,
        &Client::of("localhost").certificate("expired.pem", "expired.key"),
    );
}

/// Checks that a client gets an alert. Under TLS 1.3 it arrives only after the
/// client's own handshake is done.
fn refused(server: &Server, client: &Client) {
    let Ok(peer) = client.try_connect(server.address("tls")) else {
        return;
    };
    let mut stream = peer.into_inner();
    let result = stream
        .write_all(b"let me in")
        .and_then(|()| stream.read(&mut [0; 1]));
    assert!(!matches!(result, Ok(1..)), "it was let in");
}

#[test]
fn the_servers_order_of_protocols_decides() {
    let server = Run::guest("probe")
        .tls()
        .args(["--alpn", "second", "--alpn", "first"])
        .start();
    let client = Client::of("localhost").alpn("first").alpn("second");
    let mut peer = client.connect(server.address("tls"));
    assert_eq!(peer.get().conn.alpn_protocol(), Some(&b"second"[..]));
    let info = peer.ask("info");
    assert!(info.contains("second"), "{info}");
}

#[test]
fn a_client_that_offers_no_protocol_is_served() {
    let server = Run::guest("echo").tls().args(["--alpn", "first"]).start();
    let mut peer = Client::of("localhost").connect(server.address("tls"));
    peer.send(b"none");
    assert_eq!(peer.take(4), b"none");
    assert_eq!(peer.get().conn.alpn_protocol(), None);
}

#[test]
fn no_common_protocol_is_an_alert() {
    let server = Run::guest("echo").tls().args(["--alpn", "first"]).start();
    let result = Client::of("localhost")
        .alpn("other")
        .try_connect(server.address("tls"));
    let error = result.err().expect("no session").to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    server.log.wait_for(&["TLS"]);
}

#[test]
fn a_stalled_handshake_holds_up_nobody_and_ends_at_its_time() {
    let server = Run::guest("echo")
        .tls()
        .args(["--handshake-timeout", "1s", "--workers", "1"])
        .start();
    let start = Instant::now();
    let mut silent: Vec<_> = (0..50)
        .map(|_| Peer::connect(server.address("tls")))
        .collect();
    let mut halfway = Peer::connect(server.address("tls"));
    let mut hello = Vec::new();
    Client::of("localhost")
        .session()
        .write_tls(&mut hello)
        .expect("a ClientHello");
    halfway.send(hello.get(..40).expect("a part of it"));

    let mut peer = Client::of("localhost").connect(server.address("tls"));
    peer.send(b"working");
    assert_eq!(peer.take(7), b"working");

    for peer in silent.iter_mut().chain([&mut halfway]) {
        peer.lost();
    }
    took_more(start, Duration::from_millis(990));
    server.log.wait_for(&["--handshake-timeout"]);
    peer.send(b"still there");
    assert_eq!(peer.take(11), b"still there");
}

#[test]
fn plain_text_on_a_tls_port_gets_an_alert_and_harms_nobody() {
    let server = Run::guest("echo").tls().start();
    let mut peer = Peer::connect(server.address("tls"));
    peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = peer.lost();
    // RFC 8446, section 5.1: an alert is a record of type 21.
    assert!(
        answer.is_empty() || answer.first() == Some(&21),
        "{answer:?}"
    );
    server.log.wait_for(&[
        "TLS handshake failed",
        "the peer speaks plain text, and no TLS",
    ]);
    let mut peer = Client::of("localhost").connect(server.address("tls"));
    peer.send(b"fine");
    assert_eq!(peer.take(4), b"fine");
}

#[test]
fn garbage_after_the_handshake_ends_only_that_connection() {
    let server = Run::guest("echo").tls().start();
    let mut other = Client::of("localhost").connect(server.address("tls"));
    let mut peer = Client::of("localhost").connect(server.address("tls"));
    peer.send(b"fine");
    assert_eq!(peer.take(4), b"fine");
    let mut socket = peer.into_inner().sock;
    // An application data record that does not decrypt.
    socket
        .write_all(&[23, 3, 3, 0, 32])
        .expect("bytes are sent");
    socket.write_all(&[0; 32]).expect("bytes are sent");
    Peer::new(socket).lost();
    server.log.wait_for(&["TLS"]);
    other.send(b"unharmed");
    assert_eq!(other.take(8), b"unharmed");
}

#[test]
fn an_end_without_close_notify_is_a_truncation() {
    let server = Run::guest("echo").tls().start();
    let mut peer = Client::of("localhost").connect(server.address("tls"));
    peer.send(b"cut");
    assert_eq!(peer.take(3), b"cut");
    peer.get()
        .sock
        .shutdown(Shutdown::Write)
        .expect("a half-close");
    server.log.wait_for(&["close_notify"]);
}

#[test]
fn an_orderly_end_is_answered_with_close_notify() {
    for version in [&TLS13, &TLS12] {
        let server = Run::guest("echo").tls().start();
        let mut peer = Client::of("localhost")
            .version(version)
            .connect(server.address("tls"));
        peer.send(b"all of this");
        assert_eq!(peer.take(11), b"all of this");
        peer.finish();
        // rustls reports an end without close_notify as an error.
        assert_eq!(peer.rest(), b"");
        server.stop();
    }
}

#[test]
fn half_close_works_inside_tls_1_3() {
    let server = Run::guest("echo").tls().start();
    let client = Client::of("localhost").version(&TLS13);
    let mut peer = client.connect(server.address("tls"));
    let bytes = pattern(100_000);
    peer.send(&bytes);
    peer.finish();
    same(&peer.rest(), &bytes);
    server.stop();
}

#[test]
fn tls_over_a_unix_socket() {
    let scratch = directory();
    let path = scratch.path().join("tls.sock");
    let _server = Run::guest("echo")
        .listen("--tls", &unix_address(&path))
        .certificate("cert.pem", "key.pem")
        .start();
    let mut socket = Peer::connect_unix(&path).into_inner();
    let mut session = Client::of("localhost").session();
    while session.is_handshaking() {
        session.complete_io(&mut socket).expect("a handshake");
    }
    let mut peer = Peer::new(StreamOwned::new(session, socket));
    peer.send(b"both");
    assert_eq!(peer.take(4), b"both");
}

#[test]
fn a_file_without_an_end_is_no_certificate_and_no_key() {
    let (good, key) = (cert("cert.pem"), cert("key.pem"));
    for flags in [
        ["--cert", "/dev/zero", "--key", text(&key)],
        ["--cert", text(&good), "--key", "/dev/zero"],
        ["--client-ca", "/dev/zero", "--ca", text(&good)],
        ["--tls-authority", "a=/dev/zero", "--ca", text(&good)],
        ["--tls-identity", "a=/dev/zero", "--ca", text(&good)],
        ["--ca", "/dev/zero", "--ca", text(&good)],
    ] {
        let run = match flags[0] {
            "--cert" => Run::guest("echo").listen("--tls", "127.0.0.1:0"),
            _ => Run::guest("echo").tls(),
        };
        let finished = run.args(flags).output();
        finished.refused(1, &["cannot read /dev/zero: it has more than 16 MiB"]);
    }
}
