//! Tests of the driver, with a handler and a client in one thread.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use netwasm_base::config::Limits;
use netwasm_exchange::handler::NoAnswer;
use netwasm_exchange::reply::NoResponse;
use netwasm_net::guest::NoGuest;
use netwasm_net::testing::{in_worker, pass, settle, soon, until};
use netwasm_net::worker::Worker;

use crate::h2::PREFACE;
use crate::testing::{Busy, Pieces, Script, Then, answer, answer_ok, ok};

const SECOND: Duration = Duration::from_secs(1);

/// Initial window of a stream in HTTP/2, in bytes.
const WINDOW: usize = 65_535;

/// Body size in bytes, above that window and below what a socket takes.
const LARGE: usize = 150 << 10;

/// A client, and the task of its connection.
struct Client {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    /// Connects with a large window for the connection and the usual one for
    /// streams.
    async fn new(script: &Script, worker: &Rc<Worker>) -> Self {
        let stream = script.connect(worker);
        let mut builder = client::Builder::new();
        builder.initial_connection_window_size(1 << 24);
        let (requests, connection) = soon("a handshake", builder.handshake::<_, Bytes>(stream))
            .await
            .expect("it is HTTP/2");
        Self {
            requests,
            connection: tokio::task::spawn_local(connection),
        }
    }

    /// Sends a GET request.
    async fn get(&mut self, target: &str) -> ResponseFuture {
        self.begin(http::Method::GET, target, true).await.0
    }

    /// Begins a request whose body follows.
    async fn post(&mut self, target: &str) -> (ResponseFuture, SendStream<Bytes>) {
        self.begin(http::Method::POST, target, false).await
    }

    async fn begin(
        &mut self,
        method: http::Method,
        target: &str,
        ends: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        until_ready(&mut self.requests)
            .await
            .expect("the connection is open");
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://test{target}"))
            .body(());
        let sent = self
            .requests
            .send_request(request.expect("a request"), ends);
        sent.expect("it is sent")
    }
}

async fn until_ready(requests: &mut SendRequest<Bytes>) -> Result<(), h2::Error> {
    let ready = poll_fn(|cx| requests.poll_ready(cx));
    soon("room for a request", ready).await
}

/// Receives a response. Returns its status and body.
async fn receive(response: ResponseFuture) -> Result<(u16, Vec<u8>), h2::Error> {
    let response = soon("a response", response).await?;
    let status = response.status().as_u16();
    let mut stream = response.into_body();
    let mut body = BytesMut::new();
    while let Some(piece) = soon("a piece of a body, or its end", stream.data()).await {
        let piece = piece?;
        release(&mut stream, piece.len());
        body.extend(piece);
    }
    Ok((status, body.to_vec()))
}

/// Opens the window by so many bytes.
fn release(stream: &mut RecvStream, count: usize) {
    let released = stream.flow_control().release_capacity(count);
    released.expect("so much was received");
}

/// Receives until `most` bytes have come, without opening the window. Returns
/// their number.
async fn receive_unreleased(stream: &mut RecvStream, most: usize) -> usize {
    let mut count = 0;
    while count < most {
        let piece = soon("a piece of a body", stream.data()).await;
        count += piece.expect("it is not over").expect("it comes").len();
    }
    settle().await;
    let more = poll_fn(|cx| std::task::Poll::Ready(stream.poll_data(cx).is_ready())).await;
    assert!(!more, "more than {count}");
    count
}

/// Returns a handler that answers `/large` with a large body, and other targets
/// with their names.
fn echo() -> Script {
    Script::whole(|target| match target {
        "/large" => ok(vec![1; LARGE]),
        other => ok(other),
    })
}

#[test]
fn requests_are_handed_over_in_their_order() {
    in_worker(Limits::default(), async |worker| {
        let script = echo();
        let mut client = Client::new(&script, &worker).await;
        let targets: Vec<_> = (0..50).map(|number| format!("/{number}")).collect();
        let mut responses = Vec::new();
        for target in &targets {
            responses.push(client.get(target).await);
        }
        for (target, response) in targets.iter().zip(responses) {
            let (status, body) = receive(response).await.expect("a response");
            assert_eq!((status, &body[..]), (200, target.as_bytes()));
        }
        assert_eq!(script.asked(), targets);
    });
}

#[test]
fn handlers_that_await_answer_in_any_order() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::awaiting();
        let mut client = Client::new(&script, &worker).await;
        let first = client.get("/1").await;
        let second = client.get("/2").await;
        let (one, two) = (script.call().await, script.call().await);
        answer_ok(&two, "two");
        assert_eq!(receive(second).await.expect("a response").1, b"two");
        answer_ok(&one, "one");
        assert_eq!(receive(first).await.expect("a response").1, b"one");
        assert_eq!(script.abandoned(), 0);
    });
}

#[test]
fn a_response_goes_on_when_the_client_opens_the_window() {
    for awaits in [false, true] {
        in_worker(Limits::default(), async |worker| {
            let script = if awaits { Script::awaiting() } else { echo() };
            let mut client = Client::new(&script, &worker).await;
            let large = client.get("/large").await;
            if awaits {
                answer_ok(&script.call().await, vec![1; LARGE]);
            }
            let mut body = soon("a response", large)
                .await
                .expect("it comes")
                .into_body();
            let mut count = receive_unreleased(&mut body, WINDOW).await;
            assert_eq!(count, WINDOW);
            // Other streams go on meanwhile.
            let other = client.get("/other").await;
            if awaits {
                answer_ok(&script.call().await, "/other");
            }
            assert_eq!(receive(other).await.expect("a response").1, b"/other");
            release(&mut body, WINDOW);
            while let Some(piece) = soon("the rest", body.data()).await {
                let piece = piece.expect("it comes");
                release(&mut body, piece.len());
                count += piece.len();
            }
            assert_eq!(count, LARGE);
        });
    }
}

#[test]
fn a_body_is_made_as_the_client_takes_it() {
    in_worker(Limits::default(), async |worker| {
        const PIECE: usize = 10 << 10;
        const COUNT: usize = 100;
        let script = Script::awaiting();
        let mut client = Client::new(&script, &worker).await;
        let large = client.get("/large").await;
        let made = Rc::new(Cell::new(0));
        let counted = Rc::clone(&made);
        let pieces = (0..COUNT).map(move |number| {
            counted.set(number + 1);
            Bytes::from_static(&[1; PIECE])
        });
        let body = Pieces::new(pieces, Then::Ends);
        answer(&script.call().await, http::Response::builder(), body);
        settle().await;
        let before = made.get();
        assert!(before * PIECE < 2 * WINDOW, "{before} pieces for nobody");
        let (_, body) = receive(large).await.expect("a response");
        assert_eq!(body.len(), PIECE * COUNT);
    });
}

#[test]
fn requests_wait_while_much_is_kept_of_responses() {
    let limits = Limits {
        // Room for one large response, not for two.
        max_write_buffer: LARGE + LARGE / 2,
        ..Limits::default()
    };
    in_worker(limits, async |worker| {
        let script = echo();
        let mut client = Client::new(&script, &worker).await;
        let one = client.get("/large").await;
        let two = client.get("/large").await;
        let three = client.get("/3").await;
        script.asked_for("/large", 1).await;
        settle().await;
        assert_eq!(script.asked(), ["/large", "/large"]);
        assert_eq!(receive(one).await.expect("a response").1.len(), LARGE);
        script.asked_for("/3", 2).await;
        assert_eq!(receive(three).await.expect("a response").1, b"/3");
        assert_eq!(receive(two).await.expect("a response").1.len(), LARGE);
    });
}

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
fn a_small_request_does_not_wait_for_a_connection_that_has_many() {
    in_worker(Limits::default(), async |worker| {
        let Busy {
            script,
            bulk,
            handled,
        } = Busy::new(&worker);
        let mut many = Client::new(&script, &worker).await;
        let mut small = Client::new(&script, &worker).await;
        for _ in 0..5 {
            let all = bulk.get() + 50;
            let mut responses = Vec::new();
            for _ in 0..50 {
                responses.push(many.get("/bulk").await);
            }
            until("some is done", || bulk.get() > all - 45).await;
            let before = bulk.get();
            assert!(before < all - 20, "others had no turn");
            let response = small.get("/small").await;
            until("the small one is handled", || handled.get().is_some()).await;
            let waited = handled.take().expect("it is") - before;
            assert!(waited <= 4, "{waited} requests of another came first");
            receive(response).await.expect("a response");
            for response in responses {
                receive(response).await.expect("a response");
            }
        }
    });
}

#[test]
fn a_handler_that_fails_or_is_not_there_costs_one_request() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::whole(|target| match target {
            "/gone" => Err(NoAnswer::Gone),
            "/none" => Err(NoAnswer::NoGuest(NoGuest("there is no place".into()))),
            other => ok(other),
        });
        let mut client = Client::new(&script, &worker).await;
        let mut responses = Vec::new();
        for (target, status) in [("/gone", 500), ("/none", 503), ("/1", 200)] {
            responses.push((client.get(target).await, status));
        }
        for (response, expected) in responses {
            let (status, _) = receive(response).await.expect("a response");
            assert_eq!(status, expected);
        }
        assert_eq!(worker.env().counters.instances_failed.get(), 1);
    });
}

#[test]
fn a_handler_that_awaits_and_fails_costs_one_request() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::awaiting();
        let mut client = Client::new(&script, &worker).await;
        let other = client.get("/other").await;
        let well = script.call().await;
        for (reason, status) in [
            (NoResponse::NoInstance, 503),
            (NoResponse::Trapped, 500),
            (NoResponse::TimedOut, 504),
            (NoResponse::Failed("it says so".into()), 500),
        ] {
            let response = client.get("/").await;
            script.call().await.reply.fail(reason);
            assert_eq!(receive(response).await.expect("a response").0, status);
        }
        answer_ok(&well, "well");
        assert_eq!(receive(other).await.expect("a response").1, b"well");
    });
}

#[test]
fn a_body_whose_handler_fails_does_not_look_whole() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::awaiting();
        let mut client = Client::new(&script, &worker).await;
        let (broken, other) = (client.get("/1").await, client.get("/2").await);
        let (call, well) = (script.call().await, script.call().await);
        let piece = Bytes::from_static(b"begun");
        let body = Pieces::new([piece].into_iter(), Then::Stalls);
        answer(&call, http::Response::builder(), body);
        settle().await;
        call.reply.fail(NoResponse::Trapped);
        let error = receive(broken).await.expect_err("it is not whole");
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        answer_ok(&well, "well");
        assert_eq!(receive(other).await.expect("a response").1, b"well");
    });
}

#[test]
fn a_request_that_the_client_gives_up_is_abandoned_alone() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::awaiting();
        let mut client = Client::new(&script, &worker).await;
        let (given_up, other) = (client.get("/1").await, client.get("/2").await);
        let (call, well) = (script.call().await, script.call().await);
        drop(given_up);
        until("it is abandoned", || script.abandoned() == 1).await;
        assert!(call.reply.is_abandoned() && !well.reply.is_abandoned());
        answer_ok(&well, "well");
        assert_eq!(receive(other).await.expect("a response").1, b"well");
        assert_eq!(script.abandoned(), 1);
    });
}

#[test]
fn clients_send_no_more_than_may_be_unread() {
    const STREAMS: usize = 20;
    let mut limits = Limits::default();
    limits.http.max_unread = 1 << 20;
    let most = limits.http.max_unread;
    in_worker(limits, async |worker| {
        let script = Script::awaiting();
        let mut clients = Vec::new();
        let mut bodies = Vec::new();
        let mut responses = Vec::new();
        for _ in 0..STREAMS {
            let mut client = Client::new(&script, &worker).await;
            for _ in 0..STREAMS {
                let (response, body) = client.post("/").await;
                responses.push(response);
                bodies.push(body);
            }
            clients.push(client);
        }
        let mut calls = Vec::new();
        for _ in 0..STREAMS * STREAMS {
            calls.push(script.call().await);
        }
        let mut sent = 0;
        for body in &mut bodies {
            body.reserve_capacity(1 << 20);
        }
        // Bodies get window one after another.
        let mut before = usize::MAX;
        while std::mem::replace(&mut before, sent) != sent {
            settle().await;
            for body in &mut bodies {
                let room = body.capacity();
                sent += room;
                body.send_data(vec![0; room].into(), false).expect("sent");
            }
        }
        let windows = STREAMS * super::window::WINDOW;
        assert!(sent > most / 2, "{sent}");
        assert!(sent <= most + windows, "{sent}");
        // Finished bodies make room.
        for call in calls {
            answer_ok(&call, "well");
        }
        for response in responses {
            receive(response).await.expect("a response");
        }
        drop((bodies, clients));
        let mut client = Client::new(&script, &worker).await;
        let (response, mut body) = client.post("/").await;
        let call = script.call().await;
        body.reserve_capacity(100_000);
        until("there is room", || body.capacity() == 100_000).await;
        answer_ok(&call, "well");
        receive(response).await.expect("a response");
    });
}

#[test]
fn a_body_goes_on_when_others_have_made_room() {
    const STREAM: usize = super::window::WINDOW;
    let mut limits = Limits::default();
    limits.http.max_unread = 8 * STREAM;
    in_worker(limits, async |worker| {
        let script = Script::awaiting();
        let mut others = Vec::new();
        for _ in 0..8 {
            let mut client = Client::new(&script, &worker).await;
            let (response, body) = client.post("/").await;
            others.push((client, response, body, script.call().await));
        }
        // The first body takes what the connection has.
        let mut client = Client::new(&script, &worker).await;
        let (_response, mut first) = client.post("/").await;
        let (_other_response, mut second) = client.post("/").await;
        let _calls = (script.call().await, script.call().await);
        first.reserve_capacity(STREAM);
        until("there is room", || first.capacity() == STREAM).await;
        first
            .send_data(vec![0; STREAM].into(), false)
            .expect("sent");
        second.reserve_capacity(1000);
        settle().await;
        assert_eq!(second.capacity(), 0);
        drop(others);
        settle().await;
        pass(&worker, 2 * SECOND).await;
        until("there is room", || second.capacity() == 1000).await;
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
