//! Responses on streams that end before their END_STREAM.

use h2::Reason;
use tokio::io::AsyncReadExt as _;

use netwasm_base::config::Limits;
use netwasm_net::testing::{in_worker, soon};

use super::client;
use super::http2::{Backend, http2_server, response};
use crate::testing::get;

/// Only END_STREAM ends a response: RFC 9113, section 8.1. A reset that names no
/// error says that the rest of the request is not wanted.
#[test]
fn a_stream_that_is_reset_without_an_error_does_not_look_whole() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL] {
        in_worker(Limits::default(), async move |worker| {
            let (server, script) = http2_server(&worker).await;
            let mut client = client(&script, &worker);
            client.send(&get("/")).await;
            let mut backend = Backend::accept(&server).await;
            let (_, mut respond) = backend.next().await;
            let mut stream = respond.send_response(response(200), false).expect("open");
            stream.send_data("half".into(), false).expect("room");
            client.head().await;
            client.receive("half\r\n").await;
            stream.send_reset(reason);
            let mut rest = Vec::new();
            let read = soon("the end", client.stream.read_to_end(&mut rest)).await;
            assert!(read.is_err() || rest.is_empty(), "{reason}: {rest:?}");
            assert_eq!(worker.env().counters.forwards_failed.get(), 1, "{reason}");
        });
    }
}
