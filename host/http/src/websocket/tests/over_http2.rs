//! Connections on streams of HTTP/2: RFC 8441.

use bytes::{Bytes, BytesMut};
use h2::client;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::Method;

use super::*;

/// The two ends of a stream.
struct StreamClient {
    to: SendStream<Bytes>,
    from: RecvStream,
    kept: BytesMut,
}

impl StreamClient {
    fn send(&mut self, data: Vec<u8>) {
        self.to.send_data(data.into(), false).expect("room");
    }

    /// Receives a frame of up to 125 bytes.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let [first, length, ..] = self.kept[..]
                && self.kept.len() >= 2 + usize::from(length)
            {
                let frame = self.kept.split_to(2 + usize::from(length));
                return (first, frame[2..].to_vec());
            }
            let piece = soon("a piece", self.from.data()).await.expect("no end");
            self.kept.extend_from_slice(&piece.expect("no failure"));
        }
    }
}

#[test]
fn streams_of_one_connection_are_connections_of_their_own() {
    in_worker(Limits::default(), async |worker| {
        let guest = Echo::default();
        guest.0.greeting.replace(Some("welcome".into()));
        let handshake = client::handshake(guest.connect(&worker));
        let (mut requests, connection) = soon("a handshake", handshake).await.expect("HTTP/2");
        let connection = tokio::task::spawn_local(connection);
        until("the server says that it can", || {
            requests.is_extended_connect_protocol_enabled()
        })
        .await;
        let mut clients = Vec::new();
        for _ in 0..2 {
            let request = http::Request::builder()
                .method(Method::CONNECT)
                .uri("http://test/chat")
                .header("sec-websocket-version", "13");
            let mut request = request.body(()).expect("a request");
            let protocol = Protocol::from_static("websocket");
            request.extensions_mut().insert(protocol);
            let (answered, to) = requests.send_request(request, false).expect("a stream");
            let answered = soon("a response", answered).await.expect("a response");
            assert_eq!(answered.status(), 200);
            assert_eq!(answered.headers()["x-own"], "1");
            assert!(!answered.headers().contains_key("sec-websocket-accept"));
            clients.push(StreamClient {
                to,
                from: answered.into_body(),
                kept: BytesMut::new(),
            });
        }
        let [first, second] = &mut clients[..] else {
            panic!("there are two");
        };
        assert_eq!(first.frame().await, (0x81, b"welcome".to_vec()));
        assert_eq!(second.frame().await, (0x81, b"welcome".to_vec()));
        second.send(frame(0x81, b"two", KEY));
        assert_eq!(second.frame().await, (0x81, b"two".to_vec()));
        // A guest that sends unasked wakes the stream.
        let socket = Rc::clone(&guest.0.sockets.borrow()[0]);
        settle().await;
        socket.send(MessageKind::Text, b"unasked");
        assert_eq!(first.frame().await, (0x81, b"unasked".to_vec()));
        first.send(frame(0x88, b"\x03\xe8", KEY));
        assert_eq!(first.frame().await, (0x88, b"\x03\xe8".to_vec()));
        while let Some(last) = soon("the end", first.from.data()).await {
            assert!(last.expect("no failure").is_empty());
        }
        second.to.send_reset(h2::Reason::CANCEL);
        guest.noted("closed 1006 ").await;
        assert_eq!(guest.events(), ["text two", "closed 1000 ", "closed 1006 "]);
        connection.abort();
    });
}
