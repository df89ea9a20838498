//! Streams of HTTP/2 clients that change to another protocol: RFC 8441.

use std::rc::Rc;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::ext::Protocol;
use http::{Method, Request};
use tokio::task::JoinHandle;

use netwasm_base::config::Limits;
use netwasm_net::testing::{in_worker, soon, until};
use netwasm_net::worker::Worker;

use super::{OK, Server, forwards, group};
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
        let server = Server::new().await;
        let script = forwards(&worker, &group(&[&server], ""));
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
        let server = Server::new().await;
        let script = forwards(&worker, &group(&[&server], ""));
        let (mut requests, connection) = connect(&script, &worker).await;
        let (answered, _to) = requests.send_request(websocket(), false).expect("open");
        let mut line = server.accept().await;
        line.head().await;
        line.send(OK).await;
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
