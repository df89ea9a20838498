//! `start-tls`: a connection that continues in TLS.

use std::time::{Duration, Instant};

use rustls::StreamOwned;

use super::upgrade_until;
use crate::harness::{Client, Peer, Run, TcpPeer, TlsPeer};

/// Begins TLS on a connection that is ready for it.
fn upgraded(mut peer: TcpPeer) -> TlsPeer {
    let go = peer.ask("STARTTLS");
    assert!(go.starts_with("OK"), "{go}");
    let client = Client::of("localhost");
    client.over(peer.into_inner()).expect("a session")
}

#[test]
fn a_plain_connection_continues_in_tls() {
    let server = Run::guest("upgrade")
        .tcp()
        .certificate("cert.pem", "key.pem")
        .start();
    let peer = upgrade_until(&server, "HELLO");
    let mut peer = upgraded(peer);
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
    let peer = upgrade_until(&server, "HELLO");
    let mut peer = upgraded(peer);
    let begun = Instant::now();
    assert_eq!(peer.ask("an echo"), "an echo");
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
