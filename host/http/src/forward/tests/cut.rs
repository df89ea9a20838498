//! Responses on streams that end before their END_STREAM.

use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::Request;
use tokio::io::AsyncReadExt as _;

use netwasm_base::config::Limits;
use netwasm_net::testing::{in_worker, soon};

use super::client;
use super::http2::{Backend, http2_server, response};
use crate::testing::get;

/// Only END_STREAM ends a response: RFC 9113, section 8.1. A reset that names no
/// error says that the rest of the request is not wanted.
#[test]
fn a_body_that_is_cut_on_a_stream_does_not_look_whole() {
    type End = fn(&mut SendStream<Bytes>, Backend);
    let ends: [(&str, &str, End); 5] = [
        ("fewer bytes than told", "9", |stream, _| {
            stream.send_data("".into(), true).expect("room");
        }),
        ("INTERNAL_ERROR", "", |stream, _| {
            stream.send_reset(Reason::INTERNAL_ERROR);
        }),
        ("CANCEL", "", |stream, _| stream.send_reset(Reason::CANCEL)),
        ("NO_ERROR", "", |stream, _| {
            stream.send_reset(Reason::NO_ERROR);
        }),
        ("a lost connection", "", |_, backend| backend.task.abort()),
    ];
    for (what, length, end) in ends {
        in_worker(Limits::default(), async move |worker| {
            let (server, script) = http2_server(&worker).await;
            let mut client = client(&script, &worker);
            client.send(&get("/")).await;
            let mut backend = Backend::accept(&server).await;
            let (_, mut respond) = backend.next().await;
            let mut head = response(200);
            if let Ok(length) = length.parse::<u64>() {
                head.headers_mut().insert("content-length", length.into());
            }
            let mut stream = respond.send_response(head, false).expect("open");
            stream.send_data("half".into(), false).expect("room");
            client.head().await;
            client.receive("half").await;
            end(&mut stream, backend);
            let mut rest = Vec::new();
            let read = soon("the end", client.stream.read_to_end(&mut rest)).await;
            assert!(read.is_err() || rest.len() < 4, "{what}: {rest:?}");
            assert_eq!(worker.env().counters.forwards_failed.get(), 1, "{what}");
        });
    }
}

/// The server waits for the rest of the request, and the client for the rest of the
/// response.
#[test]
fn a_request_that_is_refused_once_it_is_answered_resets_both_streams() {
    for (size, reason) in [(11, Reason::ENHANCE_YOUR_CALM), (0, Reason::CANCEL)] {
        let mut limits = Limits::default();
        limits.http.max_body = 10;
        limits.http.body_timeout = Duration::from_secs(1);
        in_worker(limits, async move |worker| {
            let (server, script) = http2_server(&worker).await;
            let handshake = h2::client::handshake(script.connect(&worker));
            let handshaken = soon("a handshake", handshake).await;
            let (mut requests, connection) = handshaken.expect("HTTP/2");
            let connection = tokio::task::spawn_local(connection);
            let request = Request::post("http://test/service/Call").body(());
            let begun = requests.send_request(request.expect("a request"), false);
            let (answered, mut sending) = begun.expect("it is open");
            let mut backend = Backend::accept(&server).await;
            let (request, mut respond) = backend.next().await;
            let _responding = respond.send_response(response(200), false).expect("open");
            let answered = soon("a response", answered).await.expect("a response");
            if size > 0 {
                let body = vec![b'x'; size].into();
                sending.send_data(body, false).expect("room");
            }
            let rest = soon("the end", answered.into_body().data()).await;
            let reset = rest.expect("no end").expect_err("a reset");
            assert_eq!(reset.reason(), Some(reason));
            let rest = soon("the end", request.into_body().data()).await;
            rest.expect("no end").expect_err("a reset");
            assert_eq!(worker.env().counters.requests_refused.get(), 1);
            connection.abort();
        });
    }
}
