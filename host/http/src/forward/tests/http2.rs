//! Requests to servers that speak HTTP/2.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, client};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use netwasm_base::config::Limits;
use netwasm_net::testing::{in_worker, pass, settle, soon, until};
use netwasm_net::worker::Worker;

use super::{End, PASSED, Server, client, forwards, forwards_with, group_of};
use crate::testing::{Script, get};

/// A connection of a server, as the test sees it.
pub(super) struct Backend {
    requests: mpsc::UnboundedReceiver<Asked>,
    pub(super) task: JoinHandle<()>,
}

pub(super) type Asked = (Request<RecvStream>, SendResponse<Bytes>);

impl Backend {
    pub(super) async fn accept(server: &Server) -> Self {
        Self::accept_with(server, &server::Builder::new()).await
    }

    pub(super) async fn accept_with(server: &Server, builder: &server::Builder) -> Self {
        let stream = server.accept().await.stream;
        let handshake = builder.handshake::<TcpStream, Bytes>(stream);
        let handshaken = soon("a preface", handshake).await;
        let mut connection = handshaken.expect("HTTP/2");
        let (sender, requests) = mpsc::unbounded_channel();
        let task = tokio::task::spawn_local(async move {
            while let Some(Ok(asked)) = connection.accept().await {
                let _ = sender.send(asked);
            }
        });
        Self { requests, task }
    }

    pub(super) async fn next(&mut self) -> Asked {
        let asked = soon("a request", self.requests.recv()).await;
        asked.expect("the connection is open")
    }
}

pub(super) fn response(status: u16) -> Response<()> {
    let response = Response::builder().status(status);
    let response = response.header("server", "s").header("date", "d");
    response.body(()).expect("a response")
}

/// Answers with a body of two bytes.
pub(super) fn answer(mut respond: SendResponse<Bytes>) {
    let mut response = response(200);
    let two = HeaderValue::from_static("2");
    response.headers_mut().insert("content-length", two);
    let mut stream = respond.send_response(response, false).expect("it is open");
    stream
        .send_data(Bytes::from_static(b"ok"), true)
        .expect("room");
}

/// Receives a body, with its trailers.
async fn collect(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut all = Vec::new();
    while let Some(piece) = soon("a piece, or the end", body.data()).await {
        let piece = piece.expect("a piece");
        let _ = body.flow_control().release_capacity(piece.len());
        all.extend_from_slice(&piece);
    }
    let trailers = soon("trailers, or none", body.trailers()).await;
    (all, trailers.expect("the end"))
}

/// Returns a server, and a handler that forwards all to it by HTTP/2.
pub(super) async fn http2_server(worker: &Rc<Worker>) -> (Server, Script) {
    let server = Server::new().await;
    let group = group_of(&format!("h2c://127.0.0.1:{}", server.port));
    let script = forwards(worker, &group);
    (server, script)
}

#[test]
fn clients_share_a_connection_and_the_head_is_that_of_http2() {
    in_worker(Limits::default(), async |worker| {
        let server = Server::new().await;
        let group = group_of(&format!("h2c://127.0.0.1:{}", server.port));
        let script = forwards_with(&worker, &group, |forward| {
            forward.tells.via = true;
        });
        let (mut one, mut two) = (client(&script, &worker), client(&script, &worker));
        one.send(
            "GET /a?b=%20<c> HTTP/1.1\r\nHost: example.org\r\nConnection: TE, X-Hop\r\n\
             TE: trailers\r\nX-Hop: 1\r\nX-Up: Case\r\n\r\n",
        )
        .await;
        two.send("POST /2 HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
            .await;
        let mut backend = Backend::accept(&server).await;
        let (first, respond) = backend.next().await;
        assert_eq!(first.uri().to_string(), "http://example.org/a?b=%20%3Cc%3E");
        let fields: Vec<_> = first
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        assert_eq!(fields, ["x-up: Case", "via: 1.1 netwasm", "te: trailers"]);
        assert!(first.body().is_end_stream());
        let (second, respond_second) = backend.next().await;
        assert_eq!(second.headers()["content-length"], "0");
        answer(respond_second);
        two.expect(PASSED).await;
        answer(respond);
        one.expect(PASSED).await;
        assert_eq!(worker.env().counters.connections_made.get(), 1);
        // Nothing is left, so the connection ends in time.
        pass(&worker, Duration::from_secs(62)).await;
        soon("the end", &mut backend.task).await.expect("no panic");
    });
}

#[test]
fn bodies_trailers_and_interim_responses_pass_both_ways() {
    let mut limits = Limits::default();
    limits.http.send_informational = true;
    in_worker(limits, async |worker| {
        let (server, script) = http2_server(&worker).await;
        let mut client = client(&script, &worker);
        client
            .send(
                "POST / HTTP/1.1\r\nHost: test\r\nTE: trailers\r\nExpect: 100-continue\r\n\
                 Transfer-Encoding: chunked\r\n\r\n",
            )
            .await;
        let mut backend = Backend::accept(&server).await;
        let (request, mut respond) = backend.next().await;
        assert_eq!(request.headers()["expect"], "100-continue");
        let interim = |status: u16| Response::builder().status(status).body(()).expect("one");
        respond
            .send_informational(interim(103))
            .expect("it is open");
        client.expect("HTTP/1.1 103 Early Hints\r\n\r\n").await;
        respond
            .send_informational(interim(100))
            .expect("it is open");
        client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
        client.send("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n").await;
        let (body, trailers) = collect(request.into_body()).await;
        assert_eq!(body, b"hello");
        assert_eq!(trailers.expect("trailers")["x-sum"], "1");
        let mut stream = respond.send_response(response(200), false).expect("open");
        client
            .expect("HTTP/1.1 200 OK\r\nserver: s\r\ndate: d\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        stream.send_data("abc".into(), false).expect("room");
        client.expect("3\r\nabc\r\n").await;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        stream.send_trailers(trailers).expect("room");
        client.expect("0\r\ngrpc-status: 0\r\n\r\n").await;
        client.send(&get("/2")).await;
        answer(backend.next().await.1);
        client.expect(PASSED).await;
    });
}

#[test]
fn a_call_of_messages_both_ways_passes_between_two_http2_sides() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = http2_server(&worker).await;
        let handshake = client::handshake(script.connect(&worker));
        let handshaken = soon("a handshake", handshake).await;
        let (mut requests, connection) = handshaken.expect("HTTP/2");
        let connection = tokio::task::spawn_local(connection);
        let request = Request::post("http://test/service/Call").header("te", "trailers");
        let request = request.header("content-type", "application/grpc");
        let begun = requests.send_request(request.body(()).expect("a request"), false);
        let (answered, mut sending) = begun.expect("it is open");
        let mut backend = Backend::accept(&server).await;
        let (request, mut respond) = backend.next().await;
        assert_eq!(request.headers()["te"], "trailers");
        assert!(!request.headers().contains_key("content-length"));
        // The response begins before the request has a body.
        let mut responding = respond.send_response(response(200), false).expect("open");
        let answered = soon("a response", answered).await.expect("a response");
        assert!(!answered.headers().contains_key("content-length"));
        let (mut asked, mut answered) = (request.into_body(), answered.into_body());
        for number in 0..5_u8 {
            let message = Bytes::from(vec![number; 3000]);
            sending.send_data(message.clone(), false).expect("room");
            let come = soon("a message", asked.data()).await;
            assert_eq!(come.expect("one").expect("whole"), message);
            responding.send_data(message.clone(), false).expect("room");
            let come = soon("a message", answered.data()).await;
            assert_eq!(come.expect("one").expect("whole"), message);
        }
        sending.send_data(Bytes::new(), true).expect("room");
        assert_eq!(collect(asked).await, (Vec::new(), None));
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        responding.send_trailers(trailers).expect("room");
        let (rest, trailers) = collect(answered).await;
        assert!(rest.is_empty());
        assert_eq!(trailers.expect("trailers")["grpc-status"], "0");
        connection.abort();
    });
}

#[test]
fn a_server_that_takes_no_more_streams_gets_another_connection() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = http2_server(&worker).await;
        let mut builder = server::Builder::new();
        builder.max_concurrent_streams(1);
        let (mut one, mut two) = (client(&script, &worker), client(&script, &worker));
        one.send(&get("/1")).await;
        let mut first = Backend::accept_with(&server, &builder).await;
        let held = first.next().await;
        two.send(&get("/2")).await;
        let mut second = Backend::accept_with(&server, &builder).await;
        answer(second.next().await.1);
        two.expect(PASSED).await;
        answer(held.1);
        one.expect(PASSED).await;
        one.send(&get("/3")).await;
        two.send(&get("/4")).await;
        answer(first.next().await.1);
        answer(second.next().await.1);
        one.expect(PASSED).await;
        two.expect(PASSED).await;
    });
}

#[test]
fn a_request_that_was_not_processed_is_sent_again_with_its_body() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = http2_server(&worker).await;
        let mut client = client(&script, &worker);
        let post = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello";
        client.send(post).await;
        // A server that leaves names the streams that it has processed.
        let mut line = server.accept().await;
        line.bytes(24).await;
        line.stream
            .write_all(b"\0\0\0\x04\0\0\0\0\0")
            .await
            .expect("room");
        line.frame(0x1).await;
        let goaway = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
        line.stream.write_all(goaway).await.expect("room");
        let mut backend = Backend::accept(&server).await;
        // One that is busy refuses a stream.
        let (request, mut respond) = backend.next().await;
        assert_eq!(collect(request.into_body()).await.0, b"hello");
        respond.send_reset(Reason::REFUSED_STREAM);
        let (request, respond) = backend.next().await;
        assert_eq!(collect(request.into_body()).await.0, b"hello");
        answer(respond);
        client.expect(PASSED).await;
        // One that may have been processed is not sent again.
        client.send(post).await;
        let (_, mut respond) = backend.next().await;
        respond.send_reset(Reason::INTERNAL_ERROR);
        client.status(502).await;
        client.receive("502 Bad Gateway\n").await;
        client.send(&get("/2")).await;
        answer(backend.next().await.1);
        client.expect(PASSED).await;
    });
}

#[test]
fn a_client_that_leaves_resets_its_stream_and_no_other() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = http2_server(&worker).await;
        let (mut one, mut two) = (client(&script, &worker), client(&script, &worker));
        one.send(&get("/1")).await;
        let mut backend = Backend::accept(&server).await;
        let (_, mut respond) = backend.next().await;
        two.send(&get("/2")).await;
        let (_, respond_second) = backend.next().await;
        let mut stream = respond.send_response(response(200), false).expect("open");
        one.head().await;
        drop(one);
        stream.send_data(vec![1; 1000].into(), false).expect("room");
        pass(&worker, Duration::from_secs(1)).await;
        stream.send_data(vec![1; 1000].into(), false).ok();
        pass(&worker, Duration::from_secs(1)).await;
        let reset = poll_fn(|cx| stream.poll_reset(cx));
        let reset = soon("a reset", reset).await.expect("a reason");
        assert_eq!(reset, Reason::CANCEL);
        answer(respond_second);
        two.expect(PASSED).await;
    });
}

#[test]
fn a_slow_client_stops_its_own_response_only() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = http2_server(&worker).await;
        let (mut one, mut two) = (client(&script, &worker), client(&script, &worker));
        one.send(&get("/1")).await;
        let mut backend = Backend::accept(&server).await;
        let (_, mut respond) = backend.next().await;
        let mut stream = respond.send_response(response(200), false).expect("open");
        one.head().await;
        // As much as the server may send, until the windows are closed.
        let mut sent = 0;
        loop {
            stream.reserve_capacity(1 << 20);
            settle().await;
            let room = stream.capacity();
            if room == 0 {
                break;
            }
            stream.send_data(vec![7; room].into(), false).expect("room");
            sent += room;
            assert!(sent < 64 << 20, "nothing stops it");
        }
        two.send(&get("/2")).await;
        answer(backend.next().await.1);
        two.expect(PASSED).await;
        stream.send_data(Bytes::new(), true).expect("room");
        let mut come = 0;
        while come < sent {
            let size = one.receive("\r\n").await;
            let size = usize::from_str_radix(size.trim(), 16).expect("a chunk");
            one.bytes(size + 2).await;
            come += size;
        }
        one.expect("0\r\n\r\n").await;
    });
}

#[test]
fn an_early_answer_ends_the_request() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = http2_server(&worker).await;
        let mut client = client(&script, &worker);
        client
            .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n01234")
            .await;
        let mut backend = Backend::accept(&server).await;
        let (request, mut respond) = backend.next().await;
        let mut stream = respond.send_response(response(413), false).expect("open");
        stream.send_data("no".into(), true).expect("room");
        drop((request, respond, stream));
        client.status(413).await;
        client.expect("2\r\nno\r\n0\r\n\r\n").await;
        client.send("56789").await;
        client.send(&get("/2")).await;
        answer(backend.next().await.1);
        client.expect(PASSED).await;
    });
}

#[test]
fn a_server_that_is_silent_or_speaks_something_else_is_noticed() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = http2_server(&worker).await;
        let mut client = client(&script, &worker);
        client.send(&get("/1")).await;
        let mut line = server.accept().await;
        line.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            .await;
        client.status(502).await;
        client.receive("502 Bad Gateway\n").await;
        // No SETTINGS come.
        client.send(&get("/2")).await;
        let held = server.accept().await;
        pass(&worker, Duration::from_secs(6)).await;
        client.status(504).await;
        client.receive("504 Gateway Timeout\n").await;
        drop(held);
        // No answer to a PING comes.
        client.send(&get("/3")).await;
        let mut line = server.accept().await;
        line.bytes(24).await;
        line.stream
            .write_all(b"\0\0\0\x04\0\0\0\0\0")
            .await
            .expect("room");
        line.frame(0x1).await;
        pass(&worker, Duration::from_secs(16)).await;
        line.frame(0x6).await;
        pass(&worker, Duration::from_secs(11)).await;
        client.status(502).await;
        client.receive("502 Bad Gateway\n").await;
        client.send(&get("/4")).await;
        let mut backend = Backend::accept(&server).await;
        answer(backend.next().await.1);
        client.expect(PASSED).await;
    });
}

#[test]
fn a_silent_response_is_a_504_and_the_connection_stays() {
    in_worker(Limits::default(), async |worker| {
        let server = Server::new().await;
        let group = group_of(&format!("h2c://127.0.0.1:{}", server.port));
        let script = forwards_with(&worker, &group, |forward| {
            forward.response_timeout = Some(Duration::from_secs(3));
            forward.retries = 0;
        });
        let mut client = client(&script, &worker);
        client.send(&get("/1")).await;
        let mut backend = Backend::accept(&server).await;
        let (_, mut respond) = backend.next().await;
        pass(&worker, Duration::from_secs(4)).await;
        client.status(504).await;
        client.receive("504 Gateway Timeout\n").await;
        let reset = poll_fn(|cx| respond.poll_reset(cx));
        assert_eq!(soon("a reset", reset).await.ok(), Some(Reason::CANCEL));
        client.send(&get("/2")).await;
        answer(backend.next().await.1);
        client.expect(PASSED).await;
        assert_eq!(worker.env().counters.connections_made.get(), 1);
    });
}

#[test]
fn servers_of_both_versions_are_in_a_group() {
    in_worker(Limits::default(), async |worker| {
        let (old, new) = (Server::new().await, Server::new().await);
        let servers = format!("127.0.0.1:{},h2c://127.0.0.1:{}", old.port, new.port);
        let script = forwards(&worker, &group_of(&servers));
        let mut client = client(&script, &worker);
        client.send(&get("/1")).await;
        let mut line = old.accept().await;
        line.answer().await;
        client.expect(PASSED).await;
        client.send(&get("/2")).await;
        let mut backend = Backend::accept(&new).await;
        let (request, respond) = backend.next().await;
        assert_eq!(request.uri().path(), "/2");
        answer(respond);
        client.expect(PASSED).await;
        // A server that goes away is left for the other.
        backend.task.abort();
        until("it is over", || backend.task.is_finished()).await;
        drop(new);
        for number in 3..5 {
            client.send(&get(&format!("/{number}"))).await;
            line.answer().await;
            client.expect(PASSED).await;
        }
    });
}

impl End<TcpStream> {
    /// Receives a frame of this kind, after any others.
    async fn frame(&mut self, kind: u8) {
        loop {
            let header = self.bytes(9).await;
            let length =
                usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            self.bytes(length).await;
            if header[3] == kind {
                return;
            }
        }
    }
}
