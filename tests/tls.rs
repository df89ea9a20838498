//! TLS as a server: certificates, names, client certificates, ALPN, bad
//! handshakes and ends, and `start-tls`.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{
    self, Client, DEADLINE, Peer, Run, Server, cert, directory, pattern, same, text, unix_address,
};
use rustix::process::Signal;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, SignatureScheme, StreamOwned};

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
    assert!(
        start.elapsed() >= Duration::from_millis(990),
        "{:?}",
        start.elapsed()
    );
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

/// Connects, and exchanges lines in plain text until the guest is ready for
/// TLS.
fn upgrade_until(server: &Server, question: &str) -> harness::TcpPeer {
    let mut peer = server.connect();
    let greeting = peer.line();
    assert!(!greeting.is_empty());
    assert!(!peer.ask(question).is_empty());
    peer
}

#[test]
fn a_plain_connection_continues_in_tls() {
    let server = Run::guest("upgrade")
        .tcp()
        .certificate("cert.pem", "key.pem")
        .start();
    let mut peer = upgrade_until(&server, "HELLO");
    let go = peer.ask("STARTTLS");
    assert!(go.starts_with("OK"), "{go}");
    let mut peer = Client::of("localhost")
        .over(peer.into_inner())
        .expect("a session");
    let info = peer.ask("INFO");
    assert!(info.contains("TLSv1.3"), "{info}");
    assert_eq!(peer.ask("an echo"), "an echo");
}

#[test]
fn a_connection_that_was_upgraded_outlives_the_time_of_the_handshake() {
    let server = Run::guest("upgrade")
        .tcp()
        .certificate("cert.pem", "key.pem")
        .args(["--handshake-timeout", "2s", "--idle-timeout", "4s"])
        .start();
    let mut peer = upgrade_until(&server, "HELLO");
    let go = peer.ask("STARTTLS");
    assert!(go.starts_with("OK"), "{go}");
    let mut peer = Client::of("localhost")
        .over(peer.into_inner())
        .expect("a session");
    assert_eq!(peer.ask("an echo"), "an echo");
    let begun = Instant::now();
    server.log.wait_for(&["--idle-timeout"]);
    assert!(begun.elapsed() > Duration::from_secs(3));
}

#[test]
fn a_handshake_that_came_with_the_last_plain_line_is_used() {
    let server = Run::guest("upgrade")
        .tcp()
        .certificate("cert.pem", "key.pem")
        .start();
    let mut peer = upgrade_until(&server, "HELLO");
    let mut session = Client::of("localhost").session();
    let mut bytes = b"STARTTLS\n".to_vec();
    session.write_tls(&mut bytes).expect("a ClientHello");
    // One segment: the guest finds the ClientHello behind the line.
    peer.send(&bytes);
    let go = peer.line();
    assert!(go.starts_with("OK"), "{go}");
    let (mut socket, early) = peer.into_parts();
    let mut early = early.as_slice();
    while session.is_handshaking() {
        if early.is_empty() {
            session.complete_io(&mut socket).expect("a handshake");
        } else {
            session
                .read_tls(&mut early)
                .expect("bytes that came already");
            session.process_new_packets().expect("a handshake");
        }
    }
    let mut peer = Peer::new(StreamOwned::new(session, socket));
    assert_eq!(peer.ask("an echo"), "an echo");
}

#[test]
fn start_tls_without_a_certificate_is_not_supported() {
    let server = Run::guest("upgrade").tcp().start();
    let mut peer = upgrade_until(&server, "HELLO");
    peer.say("STARTTLS");
    // The guest reports it or gives up; either way nobody gets a session.
    let answer = String::from_utf8_lossy(&peer.lost()).into_owned();
    assert!(!answer.contains('\u{16}'), "{answer}");
    assert!(!upgrade_until(&server, "HELLO").ask("HELLO").is_empty());
}

#[test]
fn sighup_reads_certificates_anew_and_keeps_the_old_ones_where_the_new_are_bad() {
    let directory = directory();
    let (chain, key) = (
        directory.path().join("chain.pem"),
        directory.path().join("key.pem"),
    );
    let install = |from: &str, from_key: &str| {
        fs::copy(cert(from), &chain).expect("a certificate");
        fs::copy(cert(from_key), &key).expect("a key");
    };
    install("other.pem", "other.key");
    let server = Run::guest("echo")
        .listen("--tls", "127.0.0.1:0")
        .args(["--cert", text(&chain), "--key", text(&key)])
        .start();
    assert!(shown(&server, "other.example") == leaf("other.pem"));
    let mut before = Client::of("other.example").connect(server.address("tls"));

    install("cert.pem", "key.pem");
    server.signal(Signal::HUP);
    server.log.wait_for(&["SIGHUP", "reloaded"]);
    assert!(shown(&server, "localhost") == leaf("cert.pem"));
    before.send(b"still there?");
    assert_eq!(before.take(12), b"still there?", "an open session goes on");

    fs::write(&key, "no key").expect("a file");
    server.signal(Signal::HUP);
    server
        .log
        .wait_for(&["the old certificates and authorities stay", text(&key)]);
    assert!(shown(&server, "localhost") == leaf("cert.pem"));
    drop(before);
    server.stop();
}

/// Makes a server reload its files, and waits until it has.
fn reload(server: &Server) {
    let before = server.log.count("reloaded");
    server.signal(Signal::HUP);
    server.log.wait(DEADLINE, "a reload", |lines| {
        let reloads = lines.iter().filter(|line| line.contains("reloaded"));
        (reloads.count() > before).then_some(())
    });
}

#[test]
fn sighup_reads_the_authorities_of_clients_anew_and_keeps_the_old_ones_where_the_new_are_bad() {
    let directory = directory();
    let authorities = directory.path().join("authorities.pem");
    let install = |from: &str| fs::copy(cert(from), &authorities).expect("authorities");
    install("self.pem");
    let server = Run::guest("echo")
        .tls()
        .args(["--client-ca", text(&authorities)])
        .start();
    let client = Client::of("localhost").certificate("client.pem", "client.key");
    let let_in = |server: &Server| {
        let mut peer = client.connect(server.address("tls"));
        peer.send(b"welcome");
        assert_eq!(peer.take(7), b"welcome");
        peer
    };
    refused(&server, &client);

    install("ca.pem");
    reload(&server);
    let mut before = let_in(&server);

    fs::write(&authorities, "no certificate").expect("a file");
    server.signal(Signal::HUP);
    server.log.wait_for(&[
        "the old certificates and authorities stay",
        text(&authorities),
    ]);
    let_in(&server);

    install("self.pem");
    reload(&server);
    refused(&server, &client);
    before.send(b"still there?");
    assert_eq!(before.take(12), b"still there?", "an open session goes on");
    drop(before);
    server.stop();
}

#[test]
fn a_session_is_not_resumed_once_the_clients_authority_is_gone() {
    let directory = directory();
    let authorities = directory.path().join("authorities.pem");
    fs::copy(cert("ca.pem"), &authorities).expect("authorities");
    let server = Run::guest("echo")
        .tls()
        .args(["--client-ca", text(&authorities)])
        .start();
    for version in [&TLS13, &TLS12] {
        let client = Client::of("localhost").certificate("client.pem", "client.key");
        // Sessions of one configuration share their tickets.
        let client = client.version(version).config();
        let resumes = || {
            let name = "localhost".try_into().expect("a name");
            let session = ClientConnection::new(Arc::clone(&client), name).expect("a session");
            let socket = TcpStream::connect(server.address("tls")).expect("a connection");
            let mut stream = StreamOwned::new(session, socket);
            stream
                .write_all(b"welcome")
                .and_then(|()| stream.read_exact(&mut [0; 7]))?;
            std::io::Result::Ok(stream.conn.handshake_kind() == Some(HandshakeKind::Resumed))
        };
        assert!(
            !resumes().expect("let in"),
            "the first has nothing to resume"
        );
        assert!(resumes().expect("let in"), "{version:?}");

        fs::copy(cert("self.pem"), &authorities).expect("authorities");
        reload(&server);
        assert!(resumes().is_err(), "{version:?}: it was let in");

        fs::copy(cert("ca.pem"), &authorities).expect("authorities");
        reload(&server);
    }
}

/// A client's certificate that can be replaced, as by a renewal.
#[derive(Debug)]
struct Renewed(Mutex<Arc<CertifiedKey>>);

impl Renewed {
    fn show(&self, certificate: &Path) {
        *self.0.lock().expect("its lock") = Self::key(certificate);
    }

    /// Loads a certificate. All have the key of `client.pem`.
    fn key(certificate: &Path) -> Arc<CertifiedKey> {
        let key = PrivateKeyDer::from_pem_file(cert("client.key")).expect("a key");
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider.key_provider.load_private_key(key).expect("a key");
        Arc::new(CertifiedKey::new(harness::certificates(certificate), key))
    }
}

impl ResolvesClientCert for Renewed {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().expect("its lock")))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Makes a client certificate that is valid for some seconds from now on.
fn short_lived(directory: &Path, seconds: i64) -> PathBuf {
    let end = format!("now + {seconds} seconds");
    dated(directory, "2020-01-01", &end, "clientAuth")
}

/// Makes a certificate for `client.key` that is valid between two dates, as
/// date(1) reads them.
fn dated(directory: &Path, start: &str, end: &str, usage: &str) -> PathBuf {
    let run = |program: &str, args: &[&str]| {
        let done = Command::new(program).args(args).output();
        let done = done.unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(done.status.success(), "{program} {args:?}: {done:?}");
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    };
    let at = |name: &str| directory.join(name);
    let date = |text| run("date", &["--utc", "--date", text, "+%Y%m%d%H%M%SZ"]);
    let (start, end) = (date(start), date(end));
    fs::write(at("index"), "").expect("a file");
    let config = format!(
        "[ca]\ndefault_ca = authority\n[authority]\ncertificate = {}\nprivate_key = {}\n\
         database = {}\nnew_certs_dir = {}\nrand_serial = yes\ndefault_md = sha256\n\
         policy = subject\nunique_subject = no\nx509_extensions = extensions\n\
         [subject]\ncommonName = supplied\n[extensions]\nbasicConstraints = critical, CA:FALSE\n\
         extendedKeyUsage = {usage}\nauthorityKeyIdentifier = keyid\n",
        text(&cert("ca.pem")),
        text(&cert("ca.key")),
        text(&at("index")),
        text(directory),
    );
    fs::write(at("config"), config).expect("a file");
    let (config, request, certificate) = (at("config"), at("request"), at("short.pem"));
    run(
        "openssl",
        &[
            "req",
            "-new",
            "-key",
            text(&cert("client.key")),
            "-subj",
            "/CN=short",
            "-out",
            text(&request),
        ],
    );
    run(
        "openssl",
        &[
            "ca",
            "-config",
            text(&config),
            "-batch",
            "-notext",
            "-in",
            text(&request),
            "-out",
            text(&certificate),
            "-startdate",
            &start,
            "-enddate",
            &end,
        ],
    );
    certificate
}

#[test]
fn a_certificate_that_has_expired_resumes_no_session() {
    let directory = directory();
    let authority = cert("ca.pem");
    // One server for each case, because a refused client invalidates all
    // tickets of its server.
    let start = |kind: &str| {
        let run = match kind {
            "tls" => Run::guest("echo").tls(),
            "https" => Run::guest("hello").https(),
            _ => Run::guest("upgrade")
                .tcp()
                .certificate("cert.pem", "key.pem"),
        };
        run.args(["--client-ca", text(&authority)]).start()
    };
    let servers: Vec<_> = ["tls", "https", "tcp"]
        .into_iter()
        .flat_map(|kind| [&TLS13, &TLS12].map(|version| (start(kind), kind, version)))
        .collect();
    // Opens a session, and returns true if it was resumed.
    let resumes = |server: &Server, kind: &str, client: &Arc<ClientConfig>| {
        let socket = match kind {
            "tcp" => {
                let mut peer = upgrade_until(server, "HELLO");
                peer.ask("STARTTLS");
                peer.into_inner()
            }
            kind => TcpStream::connect(server.address(kind)).expect("a connection"),
        };
        socket.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        let name = "localhost".try_into().expect("a name");
        let session = ClientConnection::new(Arc::clone(client), name).expect("a session");
        let mut stream = StreamOwned::new(session, socket);
        let request: &[u8] = match kind {
            "https" => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            _ => b"welcome\n",
        };
        stream
            .write_all(request)
            .and_then(|()| stream.read_exact(&mut [0; 7]))?;
        std::io::Result::Ok(stream.conn.handshake_kind() == Some(HandshakeKind::Resumed))
    };
    let client = |version, certificate: &Path| {
        let renewed = Arc::new(Renewed(Mutex::new(Renewed::key(certificate))));
        let config = Client::of("localhost").version(version).config();
        let mut config = ClientConfig::clone(&config);
        config.client_auth_cert_resolver = Arc::clone(&renewed) as _;
        (Arc::new(config), renewed)
    };
    let short = short_lived(directory.path(), 15);
    let clients: Vec<_> = servers
        .iter()
        .map(|(server, kind, version)| {
            let (config, renewed) = client(version, &short);
            let first = resumes(server, kind, &config).expect("let in");
            assert!(!first, "{kind} {version:?}: there is nothing to resume");
            assert!(
                resumes(server, kind, &config).expect("let in"),
                "{kind} {version:?}: not resumed"
            );
            (config, renewed)
        })
        .collect();
    harness::eventually("the certificate has expired", || {
        let (server, kind, version) = &servers[0];
        resumes(server, kind, &client(version, &short).0).err()
    });
    for ((server, kind, version), (config, renewed)) in servers.iter().zip(&clients) {
        let again = resumes(server, kind, config);
        assert!(again.is_err(), "{kind} {version:?}: it was let in");
        server.log.wait_for(&["expired"]);
        // The client has another certificate now, but still its old session.
        renewed.show(&cert("client.pem"));
        let again = resumes(server, kind, config);
        assert!(
            !again.expect("let in"),
            "{kind} {version:?}: not asked anew"
        );
        assert!(
            resumes(server, kind, config).expect("let in"),
            "{kind} {version:?}: the new session is not resumed"
        );
    }
}

#[test]
fn a_certificate_that_clients_will_refuse_for_its_dates_is_a_warning() {
    let scratch = directory();
    let early = dated(scratch.path(), "2100-01-02", "2101-01-01", "serverAuth");
    let expired = (cert("expired.pem"), cert("expired.key"), "expired on 2021-");
    let early = (
        early,
        cert("client.key"),
        "not valid before 2100-01-02T00:00:00Z",
    );
    for (chain, key, says) in [expired, early] {
        for (guest, listener) in [("echo", "--tls"), ("hello", "--https")] {
            let files = ["--cert", text(&chain), "--key", text(&key)];
            let server = Run::guest(guest)
                .listen(listener, "127.0.0.1:0")
                .args(files)
                .start();
            server.log.wait_for(&["WARN", "--cert", text(&chain), says]);
            // A reload warns again if the certificate is still bad.
            server.signal(Signal::HUP);
            server.log.wait_for(&["reloaded"]);
            server.log.wait_for_count(says, 2);
            server.stop();
        }
    }
    let mut server = Run::guest("echo").tls().start();
    server.signal(Signal::TERM);
    server.wait();
    assert!(
        !server.log.text().contains("WARN"),
        "there is nothing to warn of"
    );
}
