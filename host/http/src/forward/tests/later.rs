//! Requests that a handler forwards only after it has waited, or has seen their
//! bodies.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use netwasm_base::config::Limits;
use netwasm_exchange::answer::Answer;
use netwasm_exchange::deferred::{Deferred, Settled};
use netwasm_exchange::handler::Decision;
use netwasm_net::testing::{in_worker, settle, soon};

use super::{OK, PASSED, Server, client, forward, group};
use crate::testing::{Script, get};

/// Returns a handler that defers all requests, and the place of the last.
fn defers() -> (Script, Rc<RefCell<Option<Rc<Deferred>>>>) {
    let last = Rc::<RefCell<Option<Rc<Deferred>>>>::default();
    let place = Rc::clone(&last);
    let script = Script::at_head(move |_| {
        let deferred = Deferred::new(|| {});
        *place.borrow_mut() = Some(Rc::clone(&deferred));
        Ok(Decision::Later(deferred))
    });
    (script, last)
}

#[test]
fn a_deferred_request_is_forwarded_with_the_body_that_arrives() {
    in_worker(Limits::default(), async |worker| {
        let server = Server::new().await;
        let group = group(&[&server], "");
        let (script, last) = defers();
        let settle_it = || {
            let deferred = last.borrow_mut().take().expect("a request");
            let decision = Box::new(forward(&worker, &group));
            deferred.give(Some(Settled::Forward(decision)));
        };
        let mut client = client(&script, &worker);
        client
            .send("POST /1 HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n01234")
            .await;
        script.asked_for("/1", 0).await;
        settle().await;
        assert!(server.is_left_alone().await);
        settle_it();
        let mut line = server.accept().await;
        line.head().await;
        line.expect("01234").await;
        client.send("56789").await;
        line.expect("56789").await;
        line.send(OK).await;
        client.expect(PASSED).await;
        // One is answered after all, and its body is dropped.
        client
            .send("POST /2 HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n01234")
            .await;
        script.asked_for("/2", 1).await;
        let deferred = last.borrow_mut().take().expect("a request");
        deferred.give(Some(Settled::Answer(Answer::status(403, ""))));
        client.status(403).await;
        client.receive("403 Forbidden\n").await;
        client.send(&get("/3")).await;
        script.asked_for("/3", 2).await;
        settle_it();
        assert!(line.answer().await.starts_with("GET /3 "));
        client.expect(PASSED).await;
    });
}

#[test]
fn a_deferred_request_of_http2_is_forwarded() {
    in_worker(Limits::default(), async |worker| {
        let server = Server::new().await;
        let group = group(&[&server], "");
        let (script, last) = defers();
        let handshake = h2::client::handshake(script.connect(&worker));
        let handshaken = soon("a handshake", handshake).await;
        let (mut requests, connection) = handshaken.expect("HTTP/2");
        let connection = tokio::task::spawn_local(connection);
        let request = http::Request::post("http://test/1").header("content-length", "5");
        let request = request.body(()).expect("a request");
        let (answered, mut sending) = requests.send_request(request, false).expect("it is open");
        script.asked_for("/1", 0).await;
        settle().await;
        let deferred = last.borrow_mut().take().expect("a request");
        let decision = Box::new(forward(&worker, &group));
        deferred.give(Some(Settled::Forward(decision)));
        sending.send_data("hello".into(), true).expect("room");
        let mut line = server.accept().await;
        assert!(line.head().await.starts_with("POST /1 "));
        line.expect("hello").await;
        line.send(OK).await;
        let answered = soon("a response", answered).await.expect("a response");
        let body = soon("a body", answered.into_body().data()).await;
        assert_eq!(body.expect("one").expect("whole"), "ok");
        connection.abort();
    });
}

#[test]
fn a_body_that_the_handler_has_seen_is_forwarded_unchanged() {
    in_worker(Limits::default(), async |worker| {
        let server = Server::new().await;
        let group = group(&[&server], "");
        let (asked, handed) = (Rc::new(Cell::new(0)), Rc::clone(&worker));
        let script = Script::at_head(move |_| {
            asked.set(asked.get() + 1);
            Ok(match asked.get() {
                1 => Decision::Collect(Some(100)),
                _ => Decision::Forward(Box::new(forward(&handed, &group))),
            })
        });
        let mut client = client(&script, &worker);
        client
            .send(
                "POST /1 HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5\r\nhello\r\n",
            )
            .await;
        settle().await;
        assert!(server.is_left_alone().await);
        client.send("6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n").await;
        let mut line = server.accept().await;
        // It has trailers, which follow chunks only.
        let head = line.head().await;
        assert!(
            head.contains("\r\nTransfer-Encoding: chunked\r\n"),
            "{head}"
        );
        line.expect("b\r\nhello world\r\n0\r\nx-sum: 1\r\n\r\n")
            .await;
        line.send(OK).await;
        client.expect(PASSED).await;
        client
            .send("POST /2 HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi")
            .await;
        let head = line.head().await;
        assert!(head.contains("\r\nContent-Length: 2\r\n"), "{head}");
        line.expect("hi").await;
        line.send(OK).await;
        client.expect(PASSED).await;
    });
}
