//! Certificates and authorities that are read again, and certificates that
//! expire.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, SignatureScheme, StreamOwned};

use super::{leaf, refused, shown, upgrade_until};
use crate::harness::{self, Client, DEADLINE, Run, Server, cert, directory, text};

#[test]
fn sighup_reads_certificates_again_and_keeps_the_old_ones_where_the_new_are_bad() {
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
fn sighup_reads_the_authorities_of_clients_again_and_keeps_the_old_ones_where_the_new_are_bad() {
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
            "{kind} {version:?}: not asked again"
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
