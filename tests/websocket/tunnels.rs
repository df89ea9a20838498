//! WebSocket connections on streams of HTTP/2 (RFC 8441).

use std::future::poll_fn;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request};
use rustix::process::Signal;

use super::{close_frame, frame, probe};
use crate::harness::http2::settings;
use crate::harness::{Http2, Run, is_quick};

/// Opens a connection on a stream.
fn open(client: &mut Http2) -> (SendStream<Bytes>, RecvStream) {
    // The server has to say that it takes extended CONNECT.
    client.settle();
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("https://localhost/")
        .header("sec-websocket-version", "13");
    let mut request = request.body(()).expect("a request");
    request
        .extensions_mut()
        .insert(Protocol::from_static("websocket"));
    let (answered, to) = client.begin(request, false).expect("a stream");
    let answered = client.run(answered).expect("a response");
    assert_eq!(answered.status(), 200);
    (to, answered.into_body())
}

fn say(to: &mut SendStream<Bytes>, text: &str) {
    let sent = to.send_data(Bytes::from(frame(0x81, text.as_bytes())), false);
    sent.expect("room");
}

/// Receives until there is so much of it, or the stream ends; a reset is `Err`.
fn receive(client: &Http2, from: &mut RecvStream, count: usize) -> Result<Vec<u8>, h2::Error> {
    let mut received = Vec::new();
    while received.len() < count
        && let Some(piece) = client.run(from.data())
    {
        let piece = piece?;
        received.extend_from_slice(&piece);
        from.flow_control().release_capacity(piece.len())?;
    }
    Ok(received)
}

/// Opens a connection, and sends and receives a text.
fn echoes(client: &mut Http2) {
    let (mut to, mut from) = open(client);
    say(&mut to, "over two");
    let received = receive(client, &mut from, 10).expect("an echo");
    assert_eq!(received, b"\x81\x08over two");
    let sent = to.send_data(Bytes::from(close_frame(1000, "")), false);
    sent.expect("room");
    let rest = receive(client, &mut from, usize::MAX).expect("no failure");
    assert_eq!(rest, b"\x88\x02\x03\xe8");
}

#[test]
fn connections_are_opened_over_http2() {
    let server = Run::guest("ws-echo").https().start();
    let mut client = Http2::secure(server.address("https"));
    echoes(&mut client);
    echoes(&mut client);
    drop(client);
    server.stop();
}

/// Each message is a frame of HTTP/2, of which a client may send as many at once as
/// the windows allow.
#[test]
fn a_burst_of_short_messages_does_not_end_the_connection() {
    let server = Run::guest("ws-echo").http().start();
    let mut patient = settings();
    // The echoes are as short.
    patient.data_frame_budget(usize::MAX);
    let mut client = Http2::with(server.address("http"), &patient);
    let (mut to, mut from) = open(&mut client);
    let count = 5000;
    for _ in 0..count {
        say(&mut to, "hi");
    }
    let received = receive(&client, &mut from, 4 * count).expect("echoes");
    assert_eq!(received, b"\x81\x02hi".repeat(count));
    drop(client);
    server.stop();
}

#[test]
fn streams_of_a_connection_are_bounded_together_and_the_longest_queue_is_cut_off() {
    let server = probe().args(["--max-write-buffer", "300kB"]).start();
    let mut narrow = settings();
    narrow.initial_window_size(1000);
    let mut client = Http2::with(server.address("http"), &narrow);
    let (mut to_first, mut first) = open(&mut client);
    let (mut to_second, mut second) = open(&mut client);
    // Of neither stream anything is read yet. Both together are too much.
    say(&mut to_first, "send 40 6000");
    say(&mut to_second, "send 20 4000");
    let cut = client.run(poll_fn(|cx| to_first.poll_reset(cx)));
    assert_eq!(cut.expect("a reset"), Reason::CANCEL);
    // The other one goes on.
    let all = receive(&client, &mut second, 20 * 4004).expect("all of it");
    assert_eq!(all.len(), 20 * 4004);
    say(&mut to_second, "there");
    let echo = receive(&client, &mut second, 7).expect("an echo");
    assert_eq!(echo, b"\x81\x05there");
    let cut = receive(&client, &mut first, usize::MAX).expect_err("a reset");
    assert_eq!(cut.reason(), Some(Reason::CANCEL));
    echoes(&mut client);
    drop(client);
    server.stop();
}

#[test]
fn a_stream_whose_client_does_not_answer_the_close_of_a_drain_is_reset() {
    is_quick(Duration::from_secs(6), || {
        let mut server = probe().start();
        let mut client = Http2::connect(server.address("http"));
        let (to, mut from) = open(&mut client);
        let begun = Instant::now();
        server.signal(Signal::TERM);
        let reset = receive(&client, &mut from, usize::MAX).expect_err("a reset");
        assert_eq!(reset.reason(), Some(Reason::CANCEL));
        let took = begun.elapsed();
        drop((to, client));
        assert!(server.wait().success());
        took
    });
}
