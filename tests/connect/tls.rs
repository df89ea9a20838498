//! TLS as a client.

use super::{Upstream, probe};
use crate::harness::{Run, Server, TlsServer, UNTRUSTED, cert, text};

/// Asks a TLS echo with this certificate, as a client that expects `name`, and
/// returns the answer.
fn over_tls(chain: &str, key: &str, name: &str, trusted: bool) -> String {
    let upstream = Run::guest("echo")
        .listen("--tls", "127.0.0.1:0")
        .certificate(chain, key)
        .start();
    let address = upstream.address("tls");
    let mut run = probe(&[&address.to_string()]);
    if trusted {
        run = run.args(["--ca", text(&cert("ca.pem"))]);
    }
    let server = run.start();
    let question = format!(
        "connect-tls {} {} {name} hello",
        address.ip(),
        address.port()
    );
    server.connect().ask(&question)
}

#[test]
fn a_server_with_a_good_certificate_is_talked_to() {
    assert_eq!(over_tls("cert.pem", "key.pem", "localhost", true), "hello");
    assert_eq!(
        over_tls("other.pem", "other.key", "other.example", true),
        "hello"
    );
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let answer = over_tls("cert.pem", "key.pem", "other.example", true);
    assert!(answer.contains("error: tls"), "{answer}");
    assert!(
        answer.contains("name"),
        "it says that it is the name: {answer}"
    );
}

#[test]
fn an_expired_certificate_is_refused() {
    let answer = over_tls("expired.pem", "expired.key", "localhost", true);
    assert!(
        answer.contains("error: tls") && answer.contains("xpired"),
        "{answer}"
    );
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    let answer = over_tls("cert.pem", "key.pem", "localhost", false);
    assert!(answer.contains("error: tls"), "{answer}");
    assert!(
        answer.contains("ssuer"),
        "it says that it is the authority: {answer}"
    );
}

#[test]
fn a_server_that_speaks_no_tls_is_an_error() {
    let upstream = Upstream::new();
    let address = upstream.address;
    let server = probe(&[&address.to_string()])
        .args(["--ca", text(&cert("ca.pem"))])
        .start();
    let mut peer = server.connect();
    peer.say(&format!(
        "connect-tls {} {} localhost hello",
        address.ip(),
        address.port()
    ));
    upstream.accept().say("220 mail.example ESMTP");
    let answer = peer.line();
    assert!(answer.contains("error: tls"), "{answer}");
}

#[test]
fn a_self_signed_certificate_is_refused_and_said_to_be_one() {
    let answer = over_tls("self.pem", "self.key", "localhost", true);
    assert!(
        answer.contains("error: tls") && answer.contains("self-signed"),
        "{answer}"
    );
    // An authority's own certificate is self-signed, too.
    let answer = over_tls("ca.pem", "ca.key", "localhost", false);
    assert!(
        answer.contains("error: tls") && answer.contains("self-signed"),
        "{answer}"
    );
}

/// Starts the probe, allowed to connect to a server, and returns it with the
/// command that connects.
fn client_of(server: &TlsServer, protocol: &str, args: &[&str]) -> (Server, String) {
    let address = server.address.to_string();
    let (ip, port) = (server.address.ip(), server.address.port());
    let name = ["localhost", protocol].join("/");
    let name = name.trim_end_matches('/');
    let client = probe(&[&address]).args(args).start();
    (client, format!("connect-tls {ip} {port} {name} hello"))
}

#[test]
fn a_certificate_that_is_named_is_trusted_even_if_self_signed() {
    let server = TlsServer::new("self.pem", "self.key", &[]);
    let (client, command) = client_of(&server, "", &["--ca", text(&cert("self.pem"))]);
    let mut peer = client.connect();
    peer.say(&command);
    let mut accepted = server.accept().expect("a session");
    assert_eq!(accepted.line(), "hello");
    accepted.say("welcome");
    assert_eq!(peer.line(), "welcome");
}

#[test]
fn the_systems_authorities_are_those_that_a_variable_names() {
    let server = TlsServer::new("cert.pem", "key.pem", &[]);
    let address = server.address.to_string();
    let client = probe(&[&address])
        .env("SSL_CERT_FILE", text(&cert("ca.pem")))
        .start();
    let mut peer = client.connect();
    peer.say(&format!(
        "connect-tls {} {} localhost hello",
        server.address.ip(),
        server.address.port()
    ));
    let mut accepted = server.accept().expect("a session");
    assert_eq!(accepted.line(), "hello");
}

#[test]
fn no_common_protocol_is_an_error_that_says_so() {
    let server = TlsServer::new("cert.pem", "key.pem", &["other"]);
    let (client, command) = client_of(&server, "h2", &["--ca", text(&cert("ca.pem"))]);
    let mut peer = client.connect();
    peer.say(&command);
    assert!(server.accept().is_err());
    let answer = peer.line();
    assert!(
        answer.contains("error: tls") && answer.contains("ALPN"),
        "{answer}"
    );
}

#[test]
fn a_protocol_that_both_speak_is_agreed_on() {
    let server = TlsServer::new("cert.pem", "key.pem", &["h2", "other"]);
    let (client, command) = client_of(&server, "x/other", &["--ca", text(&cert("ca.pem"))]);
    let mut peer = client.connect();
    peer.say(&command);
    let mut accepted = server.accept().expect("a session");
    assert_eq!(accepted.get().conn.alpn_protocol(), Some(&b"other"[..]));
}

#[test]
fn a_stream_that_is_cut_short_is_told_from_one_that_ended() {
    let server = TlsServer::new("cert.pem", "key.pem", &[]);
    let (client, command) = client_of(&server, "", &["--ca", text(&cert("ca.pem"))]);
    let mut peer = client.connect();
    peer.say(&command);
    let mut accepted = server.accept().expect("a session");
    assert_eq!(accepted.line(), "hello");
    // The socket closes without close_notify.
    drop(accepted.into_inner().sock);
    assert_eq!(peer.line(), "error: tls-truncated");

    peer.say(&command);
    let mut accepted = server.accept().expect("a session");
    assert_eq!(accepted.line(), "hello");
    accepted.finish();
    assert_eq!(peer.line(), "error: closed");
}

#[test]
fn a_session_is_resumed_by_the_next_connection() {
    use rustls::HandshakeKind::{Full, Resumed};
    let server = TlsServer::new("cert.pem", "key.pem", &[]);
    let (client, command) = client_of(&server, "", &["--ca", text(&cert("ca.pem"))]);
    let mut kinds = Vec::new();
    for _ in 0..3 {
        // Each client has its own instance.
        let mut peer = client.connect();
        peer.say(&command);
        let mut accepted = server.accept().expect("a session");
        assert_eq!(accepted.line(), "hello");
        kinds.extend(accepted.get().conn.handshake_kind());
        accepted.say("welcome");
        assert_eq!(peer.line(), "welcome");
    }
    assert_eq!(kinds, [Full, Resumed, Resumed]);
}

#[test]
fn without_verification_anybody_is_talked_to_and_the_log_warns() {
    for (chain, key) in UNTRUSTED {
        let server = TlsServer::new(chain, key, &[]);
        let (client, command) = client_of(&server, "", &["--tls-insecure"]);
        client
            .log
            .wait_for(&["WARN", "--tls-insecure", "any certificate"]);
        let mut peer = client.connect();
        peer.say(&command);
        let mut accepted = server.accept().expect("a session");
        assert_eq!(accepted.line(), "hello", "{chain}");
    }
}
