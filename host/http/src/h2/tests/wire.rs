//! Tests with frames that are made by hand.

use h2::Reason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use netwasm_base::config::Limits;
use netwasm_net::testing::{in_worker, pass, settle, soon, until};

use super::{Client, SECOND, echo, receive, until_ready};
use crate::h2::PREFACE;
use crate::testing::{Script, answer_ok, ok};

/// A frame's type, flags, stream and payload (RFC 9113, section 4.1).
type Frame = (u8, u8, u32, Vec<u8>);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

async fn send_frame(stream: &mut UnixStream, (kind, flags, number, carried): Frame) {
    let length = u32::try_from(carried.len()).expect("it is little");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(number.to_be_bytes());
    frame.extend(carried);
    let sent = soon("room for a frame", stream.write_all(&frame)).await;
    sent.expect("it is sent");
}

/// Receives all frames up to the end of the connection.
async fn receive_frames(stream: &mut UnixStream) -> Vec<Frame> {
    let mut bytes = Vec::new();
    let received = soon("the end of the stream", stream.read_to_end(&mut bytes)).await;
    received.expect("it ends in order");
    let mut rest = &bytes[..];
    let mut frames = Vec::new();
    while let Some((&[a, b, c, kind, flags, d, e, f, g], after)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let (carried, after) = after.split_at(length);
        let number = u32::from_be_bytes([d, e, f, g]);
        frames.push((kind, flags, number, carried.to_vec()));
        rest = after;
    }
    assert!(rest.is_empty(), "a part of a frame");
    frames
}

/// `GET /` of `http://test` (RFC 7541, appendix A).
const HEAD: &[u8] = b"\x82\x84\x86\x41\x04test";

#[test]
fn a_client_that_ends_its_side_still_gets_its_answer() {
    for awaits in [false, true] {
        in_worker(Limits::default(), async |worker| {
            let script = if awaits { Script::awaiting() } else { echo() };
            let mut stream = script.connect(&worker);
            stream.write_all(PREFACE).await.expect("it is sent");
            send_frame(&mut stream, (SETTINGS, 0, 0, Vec::new())).await;
            let flags = END_STREAM | END_HEADERS;
            send_frame(&mut stream, (HEADERS, flags, 1, HEAD.to_vec())).await;
            stream.shutdown().await.expect("it is shut");
            if awaits {
                let call = script.call().await;
                settle().await;
                answer_ok(&call, "/");
            }
            let frames = receive_frames(&mut stream).await;
            let answered = frames
                .iter()
                .any(|frame| frame.0 == HEADERS && frame.2 == 1);
            assert!(answered, "{frames:?}");
            let mut data = frames
                .iter()
                .filter(|frame| frame.0 == DATA && frame.2 == 1);
            let body: Vec<u8> = data.clone().flat_map(|frame| frame.3.clone()).collect();
            assert_eq!(body, b"/");
            assert!(data.next_back().is_some_and(|frame| frame.1 == END_STREAM));
            assert_eq!(script.abandoned(), 0);
        });
    }
}

#[test]
fn an_idle_connection_ends_by_goaway() {
    let limits = Limits::default();
    let limit = limits.http.keep_alive_timeout;
    in_worker(limits, async |worker| {
        let script = echo();
        let mut client = Client::new(&script, &worker).await;
        for target in ["/1", "/2"] {
            let response = client.get(target).await;
            receive(response).await.expect("a response");
            pass(&worker, limit - 3 * SECOND).await;
        }
        assert!(until_ready(&mut client.requests).await.is_ok());
        pass(&worker, 6 * SECOND).await;
        let gone = || client.connection.is_finished();
        until("the connection ends", gone).await;
        let error = until_ready(&mut client.requests)
            .await
            .expect_err("it is gone");
        assert!(error.is_go_away() && error.is_remote(), "{error}");
        assert_eq!(error.reason(), Some(Reason::NO_ERROR));
        let ended = client.connection.await.expect("no panic");
        ended.expect("it ends in order");
    });
}

#[test]
fn a_client_that_does_not_heed_a_goaway_is_left_soon() {
    let limits = Limits::default();
    let limit = limits.http.keep_alive_timeout;
    in_worker(limits, async |worker| {
        let mut stream = echo().connect(&worker);
        stream.write_all(PREFACE).await.expect("it is sent");
        send_frame(&mut stream, (SETTINGS, 0, 0, Vec::new())).await;
        settle().await;
        pass(&worker, limit + 10 * SECOND).await;
        let frames = receive_frames(&mut stream).await;
        let goaway = frames.iter().filter(|frame| frame.0 == GOAWAY);
        // The last accepted stream, and NO_ERROR.
        let last = goaway.map(|frame| &frame.3[..8]).collect::<Vec<_>>();
        assert_eq!(last, [[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0], [0; 8]]);
    });
}

#[test]
fn a_client_that_says_nothing_after_the_preface_is_left() {
    let limits = Limits::default();
    let limit = limits.http.head_timeout;
    in_worker(limits, async |worker| {
        let mut stream = echo().connect(&worker);
        stream.write_all(&PREFACE[..20]).await.expect("it is sent");
        pass(&worker, limit + 10 * SECOND).await;
        receive_frames(&mut stream).await;
        assert_eq!(worker.env().counters.connections_closed.get(), 1);
    });
}

#[test]
fn a_head_that_comes_bit_by_bit_is_seen_once_it_is_whole() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::whole(|_| ok("well"));
        let mut stream = script.connect(&worker);
        let mut input = [PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat();
        // GET, http, the target and a large field, in three frames of one byte,
        // of as much as a frame may have, and of the rest.
        let mut block = b"\x82\x86\x41\x04test\x04\x02/<\x00\x01x\x7f\xa1\x9b\x01".to_vec();
        block.resize(block.len() + 20_000, b'a');
        let (first, rest) = block.split_at(1);
        let (second, third) = rest.split_at(16 << 10);
        for (piece, kind, flags) in [(first, 1, 1), (second, 9, 0), (third, 9, 4)] {
            let [_, length @ ..] = (piece.len() as u32).to_be_bytes();
            input.extend(length);
            input.extend([kind, flags, 0, 0, 0, 1]);
            input.extend(piece);
        }
        for piece in input.chunks(500) {
            assert!(script.asked().is_empty());
            stream.write_all(piece).await.expect("sent");
            settle().await;
        }
        script.asked_for("/<", 0).await;
    });
}
