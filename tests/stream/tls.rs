//! Streams inside TLS, from the first byte or from a later one.

use super::MIB;
use crate::harness::{Client, Run, pattern};

#[test]
fn streams_work_inside_tls() {
    for guest in ["stream-echo", "stream-relay"] {
        let server = Run::guest(guest).tls().start();
        let mut peer = Client::of("localhost").connect(server.address("tls"));
        let bytes = pattern(2 * MIB);
        peer.echoes_by(64 << 10, &bytes);
        peer.finish();
        assert_eq!(peer.rest(), b"");
        server.stop();
    }
}

#[test]
fn streams_go_on_in_tls() {
    let server = Run::guest("stream-probe")
        .tcp()
        .certificate("cert.pem", "key.pem")
        .start();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut peer = server.connect();
        assert_eq!(peer.ask("start-tls"), "go ahead");
        let client = Client::of("localhost").version(version);
        let mut peer = client.over(peer.into_inner()).expect("a handshake");
        let told = peer.line();
        assert!(told.starts_with("in TLSv1."), "{told}");
        assert_eq!(
            peer.line(),
            "Some(ErrorCode::InvalidState)",
            "a second time"
        );
        assert!(peer.rest().is_empty());
    }
    // A client that does not speak TLS fails both streams, and the call.
    let mut peer = server.connect();
    assert_eq!(peer.ask("start-tls"), "go ahead");
    peer.say("this is no handshake, but long enough to look like a record");
    peer.lost();
    server
        .log
        .wait_for(&["ended Err(ErrorCode::Tls), Err(ErrorCode::Tls)"]);
    server.log.wait_for(&["TLS ErrorCode::Tls"]);
    // So does one that leaves.
    let mut peer = server.connect();
    assert_eq!(peer.ask("start-tls"), "go ahead");
    drop(peer);
    server.log.wait_for_count("TLS ErrorCode::", 2);
    server.stop();
}

#[test]
fn a_handshake_on_streams_needs_a_certificate_and_meets_its_deadline() {
    let server = Run::guest("stream-probe").tcp().start();
    let mut peer = server.connect();
    assert_eq!(peer.ask("start-tls"), "go ahead");
    server.log.wait_for(&["TLS ErrorCode::NotSupported"]);
    drop(peer);
    server.log.wait_for(&["--cert FILE --key FILE"]);
    server.stop();

    let server = Run::guest("stream-probe")
        .tcp()
        .certificate("cert.pem", "key.pem")
        .args(["--handshake-timeout", "500ms"])
        .start();
    let mut peer = server.connect();
    assert_eq!(peer.ask("start-tls"), "go ahead");
    server.idles();
    peer.lost();
    server.log.wait_for(&["TLS ErrorCode::Timeout"]);
    server.stop();
}
