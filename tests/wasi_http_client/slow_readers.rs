//! Instances that do not read what they asked for, or wait for long, on a connection
//! of HTTP/2 that others use, too.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Response;
use tokio::sync::Barrier;

use super::{PROBES, ask, probe};
use crate::harness::{Run, SecureUpstream, Secured, TcpPeer, cert, message, text};

/// Bytes of a body that is read: more than a stream's first window.
const WHOLE: usize = 1 << 20;

/// Bodies that nobody reads fill the windows of their own streams, and leave that
/// of the connection to others. Their frames are short, which must not count
/// against the server either.
#[test]
fn bodies_that_are_not_read_hold_up_no_others_of_their_connection() {
    for piece in [16 << 10, 100] {
        let sent = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&sent);
        let serve = move |stream| serve(stream, piece, Arc::clone(&counter));
        let upstream = SecureUpstream::new(&["h2"], serve);
        let server = Run::guest("reverse-proxy")
            .http()
            .args(["--workers", "1", "--allow-connect", "localhost:*"])
            .args(["--allow-connect", "127.0.0.1:*"])
            .args(["--ca", text(&cert("ca.pem"))])
            .guest_args(&[&format!("https://localhost:{}", upstream.address.port())])
            .start();
        let ask_once = || {
            let mut peer = server.connect_http();
            let response = peer.exchange(message("GET", "/", &[]));
            assert_eq!((response.status, response.body.len()), (200, WHOLE));
        };
        // The connection is there before they come.
        ask_once();
        let slow: Vec<_> = (0..6)
            .map(|_| {
                let mut peer = TcpPeer::connect_narrow(server.address("http"));
                peer.send(message("GET", "/endless", &[]).as_bytes());
                assert_eq!(peer.line(), "HTTP/1.1 200 OK");
                peer
            })
            .collect();
        // Until the buffers of all of them are full.
        let mut still = 0;
        while still < 20 {
            let before = sent.load(Ordering::Relaxed);
            ask_once();
            let after = sent.load(Ordering::Relaxed);
            still = if after == before { still + 1 } else { 0 };
        }
        assert_eq!(upstream.connections(), 1);
        drop(slow);
        server.stop();
    }
}

/// A server takes so many streams on a connection, and all are in use for long.
#[test]
fn what_finds_no_stream_on_a_connection_gets_another_one() {
    // Most servers take 100 or more.
    for (streams, at_once) in [(100, 128), (5, 24)] {
        for guest in PROBES {
            let barrier = Arc::new(Barrier::new(at_once));
            let serve = move |stream| together(stream, streams, Arc::clone(&barrier));
            let upstream = SecureUpstream::new(&["h2"], serve);
            let server = probe(guest, "127.0.0.1:*")
                .args(["--allow-connect", "localhost:*", "--event-timeout", "5s"])
                .args(["--ca", text(&cert("ca.pem"))])
                .start();
            let url = format!("https://localhost:{}", upstream.address.port());
            // The connection is there before they come.
            assert_eq!(ask(&server, &format!("/get?{url}/alone")), "200 stream 0");
            let said = ask(&server, &format!("/flood?{at_once}+{url}/together"));
            assert_eq!(said, format!("{at_once} answered, 0 refused"));
            assert!(upstream.connections() > 1);
            server.stop();
        }
    }
}

/// Takes so many streams on each connection, and answers requests for `/together`
/// once as many have come as the barrier waits for.
async fn together(stream: Secured, streams: u32, barrier: Arc<Barrier>) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(streams);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let barrier = (request.uri().path() == "/together").then(|| Arc::clone(&barrier));
        tokio::spawn(async move {
            if let Some(barrier) = barrier {
                barrier.wait().await;
            }
            // The client may have left.
            let _ = respond.send_response(Response::new(()), true);
        });
    }
}

/// Answers requests for `/endless` without end, in frames of so many bytes, and
/// counts these; others by one body.
async fn serve(stream: Secured, piece: usize, sent: Arc<AtomicUsize>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let Ok(mut body) = respond.send_response(Response::new(()), false) else {
            continue;
        };
        if request.uri().path() != "/endless" {
            // The client may have left.
            let _ = body.send_data(vec![b'x'; WHOLE].into(), true);
            continue;
        }
        let sent = Arc::clone(&sent);
        tokio::spawn(async move {
            loop {
                body.reserve_capacity(64 << 10);
                let room = poll_fn(|cx| body.poll_capacity(cx)).await;
                let Some(Ok(mut room)) = room else { return };
                sent.fetch_add(room, Ordering::Relaxed);
                while room > 0 {
                    let length = room.min(piece);
                    let part = Bytes::from(vec![b'y'; length]);
                    if body.send_data(part, false).is_err() {
                        return;
                    }
                    room -= length;
                }
            }
        });
    }
}
