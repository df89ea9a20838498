//! Tests of the driver, with a handler and a client in one thread.

mod unread;
mod wire;

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use netwasm_base::config::Limits;
use netwasm_exchange::handler::NoAnswer;
use netwasm_exchange::reply::NoResponse;
use netwasm_net::guest::NoGuest;
use netwasm_net::testing::{in_worker, pass, settle, soon, until};
use netwasm_net::worker::Worker;

use crate::testing::{
    AfterAnswer, Busy, Pieces, Script, answer, answer_ok, answer_with_trailers, ok,
};

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
fn a_head_ends_its_stream_if_the_body_ends_at_once() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::awaiting();
        let mut client = Client::new(&script, &worker).await;
        for piece in [None, Some(Bytes::from_static(b"piece"))] {
            let response = client.get("/").await;
            let call = script.call().await;
            let (told, trailers) = oneshot::channel();
            told.send(Ok(None)).expect("it is held");
            let body = Pieces::new(piece.clone().into_iter(), AfterAnswer::Ends);
            answer_with_trailers(&call, body, trailers);
            let response = soon("a response", response).await.expect("it comes");
            let mut body = response.into_body();
            assert_eq!(body.is_end_stream(), piece.is_none());
            // The piece that was polled before the head follows it.
            let first = soon("a piece of a body, or its end", body.data()).await;
            assert_eq!(first.transpose().expect("in order"), piece);
        }
        // Trailers that are yet to come may be some.
        let response = client.get("/").await;
        let call = script.call().await;
        let (told, trailers) = oneshot::channel();
        let body = Pieces::new(std::iter::empty(), AfterAnswer::Ends);
        answer_with_trailers(&call, body, trailers);
        let response = soon("a response", response).await.expect("it comes");
        let mut body = response.into_body();
        assert!(!body.is_end_stream());
        let fields = http::HeaderMap::from_iter([(http::header::ETAG, "x".parse().expect("text"))]);
        told.send(Ok(Some(fields.clone())))
            .expect("it is waited for");
        let trailers = soon("trailers", body.trailers()).await;
        assert_eq!(trailers.expect("in order"), Some(fields));
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
        let body = Pieces::new(pieces, AfterAnswer::Ends);
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
        let body = Pieces::new([piece].into_iter(), AfterAnswer::Stalls);
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
