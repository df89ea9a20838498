//! Servers of HTTP/2 whose frames are made by hand.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{PROBES, ask, probe};
use crate::harness::http2::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame,
};
use crate::harness::{SecureUpstream, Secured, Server, cert, text};

/// HPACK of `:status 200`.
const OK: &[u8] = b"\x88";

/// Streams that were reset since before late frames come for one.
const LATER: usize = 20;

/// Late frames for each stream.
const LATE: usize = 20;

fn start(guest: &str) -> Server {
    probe(guest, "127.0.0.1:*")
        .args(["--allow-connect", "localhost:*"])
        .args(["--ca", text(&cert("ca.pem"))])
        .start()
}

/// Only END_STREAM, or the last byte of a length, ends a body: RFC 9113, section
/// 8.1. Hyper takes a reset with NO_ERROR for its end.
#[test]
fn a_body_whose_stream_is_reset_without_an_error_does_not_look_whole() {
    // The second has a length of 10.
    for (head, framing) in [(OK, "stream"), (b"\x88\x0f\x0d\x0210", "length")] {
        let upstream = SecureUpstream::new(&["h2"], move |stream| cut(stream, head));
        for guest in PROBES {
            let server = start(guest);
            let url = format!("https://localhost:{}/", upstream.address.port());
            let said = ask(&server, &format!("/get?{url}"));
            assert!(said.starts_with(&format!("200 {framing} ")), "{said}");
            assert!(
                said.ends_with("error: ErrorCode::HttpResponseIncomplete"),
                "{said}"
            );
            server.stop();
        }
    }
}

/// Frames on their way for streams that guests have given up are no fault of the
/// server's, and do not end the connection, which others use.
#[test]
fn late_frames_of_dropped_responses_do_not_end_the_connection() {
    let upstream = SecureUpstream::new(&["h2"], late);
    for (number, guest) in PROBES.into_iter().enumerate() {
        let server = start(guest);
        let url = format!("https://localhost:{}/", upstream.address.port());
        for _ in 0..4 * LATER {
            let said = ask(&server, &format!("/drop?0+{url}"));
            assert_eq!(said, "dropped 200");
        }
        assert_eq!(upstream.connections(), number + 1);
        server.stop();
    }
}

/// A server that leaves names the last request that it has processed.
#[test]
fn a_request_that_a_leaving_server_did_not_process_is_sent_once_more() {
    let connections = AtomicUsize::new(0);
    let serve = move |stream| {
        let number = connections.fetch_add(1, Ordering::Relaxed);
        leave(stream, number.is_multiple_of(2))
    };
    let upstream = SecureUpstream::new(&["h2"], serve);
    for guest in PROBES {
        let server = start(guest);
        let url = format!("https://localhost:{}/", upstream.address.port());
        assert_eq!(ask(&server, &format!("/get?{url}")), "200 stream 0");
        server.stop();
    }
    assert_eq!(upstream.connections(), 2 * PROBES.len());
}

/// Begins a connection; `None` if the client has left.
async fn begin(stream: &mut Secured) -> Option<()> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await.ok()?;
    let settings = frame(SETTINGS, 0, 0, b"");
    stream.write_all(&settings).await.ok()
}

/// Receives a frame. Returns its type and stream; `None` at the end.
async fn next(stream: &mut Secured) -> Option<(u8, u32)> {
    let mut header = [0; 9];
    stream.read_exact(&mut header).await.ok()?;
    let [high, middle, low, kind, _, number @ ..] = header;
    let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((kind, u32::from_be_bytes(number)))
}

/// Answers each request with a part of a response, whose head this is, and
/// resets the stream with NO_ERROR.
async fn cut(mut stream: Secured, head: &'static [u8]) {
    if begin(&mut stream).await.is_none() {
        return;
    }
    while let Some((kind, number)) = next(&mut stream).await {
        if kind == HEADERS {
            let answer = [
                frame(HEADERS, END_HEADERS, number, head),
                frame(DATA, 0, number, b"hello"),
                frame(RST_STREAM, 0, number, &[0; 4]),
            ];
            // The client may have left.
            let _ = stream.write_all(&answer.concat()).await;
        }
    }
}

/// Begins responses, and sends more of each long after the client has reset it.
async fn late(mut stream: Secured) {
    if begin(&mut stream).await.is_none() {
        return;
    }
    let mut reset = VecDeque::new();
    while let Some((kind, number)) = next(&mut stream).await {
        let frames = match kind {
            HEADERS => frame(HEADERS, END_HEADERS, number, OK),
            // A stream may be reset again for its late frames.
            RST_STREAM if !reset.contains(&number) => {
                reset.push_back(number);
                match reset.len() > LATER {
                    true => {
                        let old = reset.pop_front().unwrap_or_default();
                        frame(DATA, 0, old, b"late").repeat(LATE)
                    }
                    false => continue,
                }
            }
            _ => continue,
        };
        // The client may have left.
        let _ = stream.write_all(&frames).await;
    }
}

/// Answers requests, or leaves without having processed any.
async fn leave(mut stream: Secured, leaves: bool) {
    if begin(&mut stream).await.is_none() {
        return;
    }
    while let Some((kind, number)) = next(&mut stream).await {
        if kind == HEADERS {
            let answer = match leaves {
                true => frame(GOAWAY, 0, 0, &[0; 8]),
                false => frame(HEADERS, END_HEADERS | END_STREAM, number, OK),
            };
            // The client may have left.
            let _ = stream.write_all(&answer).await;
        }
    }
}
