//! Tests that HTTP/1.1 and HTTP/2 treat responses alike.

use std::rc::Rc;

use bytes::Bytes;
use http::{Method, Request, header};
use tokio::task::spawn_local;

use netwasm_base::config::Limits;
use netwasm_net::testing::{in_worker, soon};
use netwasm_net::worker::Worker;

use crate::testing::{AfterAnswer, Pieces, Script, TestResponse, answer};

/// A response of an async guest, and its request.
#[derive(Clone, Debug)]
struct Case {
    method: Method,
    status: u16,
    /// Content-Length of the response.
    told: Option<&'static str>,
    body: &'static str,
    then: AfterAnswer,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for method in [Method::GET, Method::HEAD] {
            for status in [200, 204, 205, 304] {
                for told in [None, Some("0"), Some("4"), Some("9")] {
                    for (body, then) in [
                        ("", AfterAnswer::Ended),
                        ("", AfterAnswer::Ends),
                        ("body", AfterAnswer::Ended),
                        ("body", AfterAnswer::Ends),
                    ] {
                        all.push(Self {
                            method: method.clone(),
                            status,
                            told,
                            body,
                            then,
                        });
                    }
                }
            }
        }
        all
    }

    /// Answers the next request.
    async fn answer(&self, script: &Script) {
        let mut response = http::Response::builder().status(self.status);
        if let Some(told) = self.told {
            response = response.header(header::CONTENT_LENGTH, told);
        }
        let piece = Some(self.body).filter(|body| !body.is_empty());
        let pieces = piece.map(|body| Bytes::from_static(body.as_bytes()));
        let call = script.call().await;
        answer(&call, response, Pieces::new(pieces.into_iter(), self.then));
    }

    /// True if a body follows the head.
    fn has_body(&self) -> bool {
        self.method == Method::GET && self.status == 200
    }

    /// Returns the body that is sent.
    fn sent(&self) -> &'static str {
        if self.has_body() { self.body } else { "" }
    }

    /// True if the Content-Length is wrong for the body.
    fn lies(&self) -> bool {
        let length = self.body.len().to_string();
        self.has_body() && self.told.is_some_and(|told| told != length)
    }

    /// Returns what an HTTP/1.1 client receives; `None` if it is incomplete.
    async fn by_http1(&self, worker: &Rc<Worker>) -> Option<TestResponse> {
        let script = Script::awaiting();
        let mut client = script.client(worker);
        let Self { method, .. } = self;
        let request = format!("{method} / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        client.send(&request).await;
        self.answer(&script).await;
        let received = client.receive(*method == Method::HEAD).await;
        // Nothing follows.
        client.ended().await;
        received.whole.then_some(received)
    }

    /// Like `by_http1`, for HTTP/2. There, not even the head arrives of a
    /// response that is cut short at once.
    async fn by_http2(&self, worker: &Rc<Worker>) -> Option<TestResponse> {
        let script = Script::awaiting();
        let handshake = h2::client::handshake(script.connect(worker));
        let (mut requests, connection) = soon("a handshake", handshake).await.expect("HTTP/2");
        spawn_local(connection);
        let request = Request::builder().method(&self.method).uri("http://test/");
        let request = request.body(()).expect("a request");
        let (response, _) = requests.send_request(request, true).expect("it is sent");
        self.answer(&script).await;
        let response = soon("a response", response).await.ok()?;
        let told = response.headers().get(header::CONTENT_LENGTH);
        let told = told.map(|it| it.to_str().ok().and_then(|it| it.parse().ok()));
        let mut received = TestResponse {
            status: response.status().as_u16(),
            told: told.map(|it| it.expect("a number")),
            body: Vec::new(),
            whole: true,
        };
        let mut stream = response.into_body();
        while let Some(piece) = soon("a piece of a body, or its end", stream.data()).await {
            received.body.extend(piece.ok()?);
        }
        Some(received)
    }
}

#[test]
fn both_protocols_make_the_same_of_what_a_handler_that_awaits_answers() {
    in_worker(Limits::default(), async |worker| {
        for case in Case::all() {
            let (one, two) = (case.by_http1(&worker).await, case.by_http2(&worker).await);
            if case.lies() {
                assert_eq!(two, None, "{case:?}");
                // In HTTP/1.1 nothing can follow a head without a body, not
                // even trailers, so the response is complete.
                assert_eq!(one.is_some(), case.told == Some("0"), "{case:?}");
                continue;
            }
            assert_eq!(one, two, "{case:?}");
            let received = one.expect("it is whole");
            assert_eq!(received.status, case.status, "{case:?}");
            assert_eq!(received.body, case.sent().as_bytes(), "{case:?}");
        }
    });
}
