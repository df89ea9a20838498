//! Streams of HTTP/2 clients that change to another protocol: RFC 8441.

use std::rc::Rc;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream, server};
use http::{HeaderValue, Method, Request};
use tokio::task::JoinHandle;

use netwasm_base::config::Limits;
use netwasm_net::testing::{in_worker, soon, until};
use netwasm_net::worker::Worker;

use super::http2::{Asked, Backend, answer, http2_server, response};
use super::{End, PASSED, one_server};
use crate::testing::{Script, ok};

async fn connect(
    script: &Script,
    worker: &Rc<Worker>,
) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let handshake = client::handshake(script.connect(worker));
    let (requests, connection) = soon("a handshake", handshake).await.expect("HTTP/2");
    let connection = tokio::task::spawn_local(connection);
    until("the server says that it can", || {
        requests.is_extended_connect_protocol_enabled()
    })
    .await;
    (requests, connection)
}

fn websocket() -> Request<()> {
    let request = Request::builder().method(Method::CONNECT);
    let request = request.uri("http://test/chat?x=1").header("origin", "o");
    let mut request = request.body(()).expect("a request");
    let protocol = Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    request
}

#[test]
fn a_websocket_passes_from_a_stream_to_a_server_of_http1() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        let (mut requests, connection) = connect(&script, &worker).await;
        let (answered, mut to) = requests.send_request(websocket(), false).expect("open");
        let mut line = server.accept().await;
        let head = line.head().await;
        assert!(
            head.starts_with("GET /chat?x=1 HTTP/1.1\r\nHost: test\r\n"),
            "{head}"
        );
        assert!(head.contains("\r\norigin: o\r\n"), "{head}");
        let end = "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        assert!(head.ends_with(end), "{head}");
        let key = head.split("sec-websocket-key: ").nth(1).expect("a key");
        assert_eq!(key.find("==\r\n"), Some(22), "{head}");
        line.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello",
        )
        .await;
        let answered = soon("a response", answered).await.expect("a response");
        assert_eq!(answered.status(), 200);
        assert_eq!(answered.headers()["sec-websocket-protocol"], "chat");
        assert!(!answered.headers().contains_key("sec-websocket-accept"));
        let mut from = answered.into_body();
        let piece = soon("a piece", from.data()).await.expect("one");
        assert_eq!(piece.expect("whole"), "hello");
        to.send_data("there".into(), false).expect("room");
        line.expect("there").await;
        to.send_data(Bytes::new(), true).expect("room");
        line.ended().await;
        line.send("bye").await;
        drop(line);
        let piece = soon("a piece", from.data()).await.expect("one");
        assert_eq!(piece.expect("whole"), "bye");
        while let Some(last) = soon("the end", from.data()).await {
            assert!(last.expect("no failure").is_empty());
        }
        connection.abort();
    });
}

#[test]
fn a_response_without_the_protocol_does_not_open_a_tunnel() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        let (mut requests, connection) = connect(&script, &worker).await;
        let (answered, _to) = requests.send_request(websocket(), false).expect("open");
        let mut line = server.accept().await;
        line.answer().await;
        let answered = soon("a response", answered).await.expect("a response");
        assert_eq!(answered.status(), 501);
        connection.abort();
        let script = Script::at_head(|_| ok("hello"));
        let (mut requests, connection) = connect(&script, &worker).await;
        let (answered, _to) = requests.send_request(websocket(), false).expect("open");
        let answered = soon("a response", answered).await.expect("a response");
        assert_eq!(answered.status(), 501);
        connection.abort();
    });
}

/// Accepts a WebSocket as a server of HTTP/2.
fn accept((request, mut respond): Asked) -> (RecvStream, SendStream<Bytes>) {
    assert_eq!(request.method(), Method::CONNECT);
    assert_eq!(request.uri().to_string(), "http://test/chat?x=1");
    let protocol = request.extensions().get::<Protocol>();
    assert_eq!(protocol.map(Protocol::as_str), Some("websocket"));
    let headers = request.headers();
    assert_eq!(headers["origin"], "o");
    for name in [
        "upgrade",
        "connection",
        "sec-websocket-key",
        "content-length",
    ] {
        assert!(!headers.contains_key(name), "{headers:?}");
    }
    let mut accepted = response(200);
    let chat = HeaderValue::from_static("chat");
    accepted
        .headers_mut()
        .insert("sec-websocket-protocol", chat);
    let to = respond.send_response(accepted, false).expect("open");
    (request.into_body(), to)
}

async fn expect(from: &mut RecvStream, text: &str) {
    let piece = soon("a piece", from.data()).await.expect("one");
    let piece = piece.expect("whole");
    let _ = from.flow_control().release_capacity(piece.len());
    assert_eq!(piece, text);
}

fn extended() -> server::Builder {
    let mut builder = server::Builder::new();
    builder.enable_connect_protocol();
    builder
}

const HANDSHAKE: &str = "GET /chat?x=1 HTTP/1.1\r\nHost: test\r\nOrigin: o\r\n\
                         Connection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn a_websocket_of_http1_passes_to_a_stream_of_a_server() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = http2_server(&worker).await;
        let mut client = End::of(script.connect(&worker));
        client.send(HANDSHAKE).await;
        client.send("early").await;
        let mut backend = Backend::accept_with(&server, &extended()).await;
        let (mut from, mut to) = accept(backend.next().await);
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // RFC 6455, section 1.3.
        let accepts = "\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        assert!(head.contains(accepts), "{head}");
        assert!(
            head.contains("\r\nsec-websocket-protocol: chat\r\n"),
            "{head}"
        );
        assert!(head.contains("\r\nUpgrade: websocket\r\n"), "{head}");
        expect(&mut from, "early").await;
        to.send_data("hello".into(), false).expect("room");
        client.expect("hello").await;
        client.send("there").await;
        expect(&mut from, "there").await;
        // Other requests go on beside it.
        let mut other = End::of(script.connect(&worker));
        other.send("GET /2 HTTP/1.1\r\nHost: test\r\n\r\n").await;
        answer(backend.next().await.1);
        other.expect(PASSED).await;
        to.send_data("bye".into(), true).expect("room");
        client.expect("bye").await;
        client.ended().await;
        drop(client);
        while let Some(Ok(piece)) = soon("the end", from.data()).await {
            assert!(piece.is_empty());
        }
        assert_eq!(worker.env().counters.connections_made.get(), 1);
    });
}

#[test]
fn a_websocket_passes_between_two_streams() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = http2_server(&worker).await;
        let (mut requests, connection) = connect(&script, &worker).await;
        let (answered, mut to_server) = requests.send_request(websocket(), false).expect("open");
        let mut backend = Backend::accept_with(&server, &extended()).await;
        let (mut from_client, mut to_client) = accept(backend.next().await);
        let answered = soon("a response", answered).await.expect("a response");
        assert_eq!(answered.status(), 200);
        assert_eq!(answered.headers()["sec-websocket-protocol"], "chat");
        assert!(!answered.headers().contains_key("sec-websocket-accept"));
        let mut from_server = answered.into_body();
        for text in ["one", "two"] {
            to_server.send_data(text.into(), false).expect("room");
            expect(&mut from_client, text).await;
            to_client.send_data(text.into(), false).expect("room");
            expect(&mut from_server, text).await;
        }
        // A client that leaves resets the server's stream.
        to_server.send_reset(h2::Reason::CANCEL);
        let reset = std::future::poll_fn(|cx| to_client.poll_reset(cx));
        soon("a reset", reset).await.expect("a reason");
        connection.abort();
    });
}

#[test]
fn a_server_of_http2_may_refuse_a_websocket_or_not_know_it() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = http2_server(&worker).await;
        let mut client = End::of(script.connect(&worker));
        client.send(HANDSHAKE).await;
        let mut backend = Backend::accept_with(&server, &extended()).await;
        let (_, mut respond) = backend.next().await;
        respond.send_response(response(403), true).expect("open");
        client.status(403).await;
        backend.task.abort();
        until("it is over", || backend.task.is_finished()).await;
        // Without its word, it gets what any other server gets.
        let mut client = End::of(script.connect(&worker));
        client.send(HANDSHAKE).await;
        let mut backend = Backend::accept(&server).await;
        let (request, respond) = backend.next().await;
        assert_eq!(request.method(), Method::GET);
        assert!(!request.headers().contains_key("upgrade"));
        answer(respond);
        client.expect(PASSED).await;
    });
}
