//! Bodies that guests do not read.

use std::time::Instant;

use bytes::Bytes;
use tokio::time::sleep;

use netwasm_base::config::Limits;
use netwasm_net::testing::{in_worker, settle};
use netwasm_net::transport::LINGER;

use super::{Client, SECOND, receive};
use crate::testing::{Pieces, Script, answer, answer_ok};

const PART: &[u8] = b"12345678";

#[test]
fn small_frames_that_guests_do_not_read_do_not_end_the_connection() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::awaiting();
        let mut client = Client::new(&script, &worker).await;
        let mut unread = Vec::new();
        for _ in 0..3 {
            let (response, mut body) = client.post("/").await;
            let call = script.call().await;
            // As much as the window allows.
            let mut sent = 0;
            loop {
                body.reserve_capacity(1 << 20);
                settle().await;
                let count = body.capacity() / PART.len();
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    let part = Bytes::from_static(PART);
                    body.send_data(part, false).expect("the stream is open");
                }
                sent += count * PART.len();
            }
            assert!(sent >= super::WINDOW, "{sent}");
            unread.push((response, body, call));
        }
        let other = client.get("/other").await;
        answer_ok(&script.call().await, "/other");
        assert_eq!(receive(other).await.expect("a response").1, b"/other");
    });
}

#[test]
fn a_client_that_goes_on_sending_is_not_reset_after_an_early_answer() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::awaiting();
        let mut client = Client::new(&script, &worker).await;
        let (response, mut body) = client.post("/").await;
        let head = http::Response::builder().header("content-length", 5);
        answer(&script.call().await, head, Pieces::of("early"));
        let answered = receive(response).await.expect("a response");
        assert_eq!(answered.1, b"early");
        let begun = Instant::now();
        while begun.elapsed() < LINGER + SECOND {
            let part = Bytes::from_static(PART);
            body.send_data(part, false).expect("the stream is open");
            sleep(SECOND / 10).await;
        }
        let end = Bytes::from_static(PART);
        body.send_data(end, true).expect("the stream is open");
    });
}
