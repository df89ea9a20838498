//! Tests of the driver, with a handler and a client in one thread.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use netwasm_base::config::Limits;
use netwasm_exchange::handler::NoAnswer;
use netwasm_exchange::reply::NoResponse;
use netwasm_net::guest::NoGuest;
use netwasm_net::testing::{in_worker, pass, settle, until};

use crate::testing::{AfterAnswer, Busy, Pieces, Script, answer, answer_ok, get, ok};

/// Body size in bytes, above what a socket takes plus the high watermark.
const LARGE: usize = 1 << 20;

const SECOND: Duration = Duration::from_secs(1);

/// Returns a handler that answers `/large` with a large body, and other targets
/// with their names.
fn echo() -> Script {
    Script::whole(|target| match target {
        "/large" => ok(vec![1; LARGE]),
        other => ok(other),
    })
}

#[test]
fn requests_that_come_together_are_answered_in_their_order() {
    in_worker(Limits::default(), async |worker| {
        let script = echo();
        let mut client = script.client(&worker);
        let targets: Vec<_> = (0..100).map(|number| format!("/{number}")).collect();
        let requests: String = targets.iter().map(|target| get(target)).collect();
        client.send(&requests).await;
        for target in &targets {
            let response = client.response().await;
            assert_eq!(response.body, target.as_bytes());
        }
        assert_eq!(script.asked(), targets);
    });
}

#[test]
fn a_handler_that_awaits_gets_the_next_request_after_its_answer() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::awaiting();
        let mut client = script.client(&worker);
        client.send(&(get("/1") + &get("/2"))).await;
        let call = script.call().await;
        settle().await;
        assert_eq!(script.asked(), ["/1"]);
        answer_ok(&call, "one");
        assert_eq!(client.response().await.body, b"one");
        answer_ok(&script.call().await, "two");
        assert_eq!(client.response().await.body, b"two");
        assert_eq!(script.abandoned(), 0);
    });
}

#[test]
fn the_next_request_waits_until_a_large_response_is_taken() {
    in_worker(Limits::default(), async |worker| {
        let script = echo();
        let mut client = script.client(&worker);
        client.send(&(get("/large") + &get("/next"))).await;
        script.asked_for("/large", 0).await;
        settle().await;
        assert_eq!(script.asked(), ["/large"]);
        assert_eq!(client.response().await.body, vec![1; LARGE]);
        script.asked_for("/next", 1).await;
        assert_eq!(client.response().await.body, b"/next");
    });
}

#[test]
fn a_body_is_made_as_the_client_takes_it() {
    in_worker(Limits::default(), async |worker| {
        const PIECE: usize = 10 << 10;
        const COUNT: usize = 200;
        let script = Script::awaiting();
        let mut client = script.client(&worker);
        client.send(&(get("/large") + &get("/next"))).await;
        let made = Rc::new(Cell::new(0));
        let counted = Rc::clone(&made);
        let pieces = (0..COUNT).map(move |number| {
            counted.set(number + 1);
            Bytes::from_static(&[1; PIECE])
        });
        let body = Pieces::new(pieces, AfterAnswer::Ends);
        answer(&script.call().await, http::Response::builder(), body);
        until("some is made", || made.get() > 1).await;
        settle().await;
        let before = made.get();
        assert!(before < COUNT / 2, "{before} pieces were made for nobody");
        settle().await;
        assert_eq!(made.get(), before);
        assert_eq!(script.asked(), ["/large"]);
        let response = client.response().await;
        assert!(response.whole && response.body == vec![1; PIECE * COUNT]);
        answer_ok(&script.call().await, "next");
        assert_eq!(client.response().await.body, b"next");
    });
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let limits = Limits::default();
    let limit = limits.write_timeout;
    in_worker(limits, async |worker| {
        let script = echo();
        let mut client = script.client(&worker);
        client.get("/large").await;
        script.asked_for("/large", 0).await;
        pass(&worker, limit - 3 * SECOND).await;
        let lost = &worker.env().counters.connections_lost;
        assert_eq!(lost.get(), 0);
        pass(&worker, 6 * SECOND).await;
        until("the connection is lost", || lost.get() == 1).await;
        assert!(!client.response().await.whole);
    });
}

#[test]
fn a_client_that_ends_its_side_still_gets_its_answer() {
    in_worker(Limits::default(), async |worker| {
        let script = echo();
        let mut client = script.client(&worker);
        client
            .send(&(get("/1") + &get("/large") + &get("/2")))
            .await;
        client.end().await;
        assert_eq!(client.response().await.body, b"/1");
        assert_eq!(client.response().await.body, vec![1; LARGE]);
        assert_eq!(client.response().await.body, b"/2");
        client.ended().await;
        assert_eq!(worker.env().counters.connections_closed.get(), 1);
    });
}

#[test]
fn a_client_that_ends_its_side_still_gets_the_answer_of_a_handler_that_awaits() {
    // At once, and after the client was probed.
    for waits in [Duration::ZERO, 10 * SECOND] {
        in_worker(Limits::default(), async |worker| {
            let script = Script::awaiting();
            let mut client = script.client(&worker);
            client.get("/1").await;
            client.end().await;
            let call = script.call().await;
            pass(&worker, waits).await;
            answer_ok(&call, "one");
            let response = client.response().await;
            assert_eq!((response.status, &response.body[..]), (200, &b"one"[..]));
            client.ended().await;
            assert_eq!(script.abandoned(), 0);
        });
    }
}

#[test]
fn a_client_that_leaves_is_noticed_while_a_handler_awaits() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::awaiting();
        let mut client = script.client(&worker);
        client.get("/1").await;
        let call = script.call().await;
        drop(client);
        pass(&worker, 2 * SECOND).await;
        until("the request is given up", || script.abandoned() == 1).await;
        assert!(call.reply.is_abandoned());
    });
}

#[test]
fn a_head_that_takes_too_long_is_answered_by_408() {
    let limits = Limits::default();
    let limit = limits.http.head_timeout;
    in_worker(limits, async |worker| {
        let script = echo();
        let mut client = script.client(&worker);
        client.send("GET /1 HTTP/1.1\r\nHost").await;
        pass(&worker, limit - 3 * SECOND).await;
        assert!(!client.has_more());
        pass(&worker, 6 * SECOND).await;
        assert_eq!(client.response().await.status, 408);
        client.ended().await;
        assert_eq!(script.asked(), [""; 0]);
    });
}

#[test]
fn a_body_that_takes_too_long_is_answered_by_408() {
    let limits = Limits::default();
    let limit = limits.http.body_timeout;
    in_worker(limits, async |worker| {
        let script = echo();
        let mut client = script.client(&worker);
        client
            .send("POST /1 HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n1234")
            .await;
        pass(&worker, limit - 3 * SECOND).await;
        // This restarts the time-out.
        client.send("5678").await;
        pass(&worker, limit - 3 * SECOND).await;
        assert!(!client.has_more());
        pass(&worker, 6 * SECOND).await;
        assert_eq!(client.response().await.status, 408);
        client.ended().await;
        assert_eq!(script.asked(), [""; 0]);
    });
}

#[test]
fn a_connection_without_a_request_is_closed_after_the_keep_alive_timeout() {
    let limits = Limits::default();
    let limit = limits.http.keep_alive_timeout;
    in_worker(limits, async |worker| {
        let script = echo();
        let mut client = script.client(&worker);
        for target in ["/1", "/2"] {
            client.get(target).await;
            assert_eq!(client.response().await.body, target.as_bytes());
            pass(&worker, limit - 3 * SECOND).await;
        }
        let closed = &worker.env().counters.connections_closed;
        assert_eq!(closed.get(), 0);
        pass(&worker, 6 * SECOND).await;
        client.ended().await;
        assert_eq!(closed.get(), 1);
    });
}

#[test]
fn a_handler_without_an_answer_in_time_gives_504() {
    let limits = Limits::default();
    let limit = limits.http.response_timeout;
    in_worker(limits, async |worker| {
        let script = Script::awaiting();
        let mut client = script.client(&worker);
        client.send(&(get("/1") + &get("/2"))).await;
        let late = script.call().await;
        pass(&worker, limit - 3 * SECOND).await;
        assert!(!client.has_more());
        pass(&worker, 6 * SECOND).await;
        assert_eq!(client.response().await.status, 504);
        assert_eq!(script.abandoned(), 1);
        // Nobody gets this answer.
        answer_ok(&late, "late");
        answer_ok(&script.call().await, "two");
        assert_eq!(client.response().await.body, b"two");
    });
}

#[test]
fn a_body_that_does_not_go_on_in_time_is_cut_short() {
    let limits = Limits::default();
    let limit = limits.http.response_body_timeout;
    in_worker(limits, async |worker| {
        let script = Script::awaiting();
        let mut client = script.client(&worker);
        client.get("/1").await;
        let piece = Bytes::from_static(b"begun");
        let body = Pieces::new([piece].into_iter(), AfterAnswer::Stalls);
        let call = script.call().await;
        answer(&call, http::Response::builder(), body);
        pass(&worker, limit - 3 * SECOND).await;
        assert_eq!(script.abandoned(), 0);
        pass(&worker, 6 * SECOND).await;
        let response = client.response().await;
        assert_eq!((response.whole, &response.body[..]), (false, &b"begun"[..]));
        assert_eq!(script.abandoned(), 1);
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
        let mut many = script.client(&worker);
        let mut client = script.client(&worker);
        many.send(&get("/").repeat(1000)).await;
        until("much is under way", || bulk.get() > 20).await;
        for _ in 0..10 {
            let before = bulk.get();
            client.get("/small").await;
            until("the small one is handled", || handled.get().is_some()).await;
            let waited = handled.take().expect("it is") - before;
            assert!(waited <= 2, "{waited} requests of another came first");
            client.response().await;
        }
        assert!(bulk.get() < 1000);
        for _ in 0..1000 {
            many.response().await;
        }
    });
}

#[test]
fn a_small_request_does_not_wait_for_a_body_that_has_always_more() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::awaiting();
        let (mut many, mut client) = (script.client(&worker), script.client(&worker));
        many.get("/bulk").await;
        let made = Rc::new(Cell::new(0));
        let (counted, steps) = (Rc::clone(&made), worker.env().steps.clone());
        let pieces = (0..1000).map(move |_| {
            counted.set(counted.get() + 1);
            steps.advance();
            Bytes::from_static(&[1; 20 << 10])
        });
        let body = Pieces::new(pieces, AfterAnswer::Ends);
        answer(&script.call().await, http::Response::builder(), body);
        let taking = tokio::task::spawn_local(async move { many.response().await });
        until("much is under way", || made.get() > 20).await;
        for _ in 0..10 {
            let before = made.get();
            client.get("/small").await;
            answer_ok(&script.call().await, "small");
            let waited = made.get() - before;
            assert!(waited <= 4, "{waited} pieces of another came first");
            client.response().await;
        }
        assert!(made.get() < 1000);
        until("the bulk is taken", || taking.is_finished()).await;
        assert!(taking.await.expect("a response").whole);
    });
}

#[test]
fn a_handler_that_is_gone_costs_one_request() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::whole(|target| match target {
            "/gone" => Err(NoAnswer::Gone),
            other => ok(other),
        });
        let (mut client, mut other) = (script.client(&worker), script.client(&worker));
        client.send(&(get("/gone") + &get("/1"))).await;
        other.get("/2").await;
        assert_eq!(client.response().await.status, 500);
        assert_eq!(client.response().await.body, b"/1");
        assert_eq!(other.response().await.body, b"/2");
    });
}

#[test]
fn a_request_without_a_handler_is_answered_by_503() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::whole(|target| match target {
            "/none" => Err(NoAnswer::NoGuest(NoGuest("there is no place".into()))),
            other => ok(other),
        });
        let mut client = script.client(&worker);
        client.send(&(get("/none") + &get("/1"))).await;
        assert_eq!(client.response().await.status, 503);
        assert_eq!(client.response().await.body, b"/1");
        assert_eq!(worker.env().counters.instances_failed.get(), 1);
    });
}

#[test]
fn a_handler_that_awaits_and_fails_costs_one_request() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::awaiting();
        let mut client = script.client(&worker);
        let failed = || NoResponse::Failed("it says so".into());
        for (reason, status) in [
            (NoResponse::NoInstance, 503),
            (NoResponse::Trapped, 500),
            (NoResponse::TimedOut, 504),
            (failed(), 500),
        ] {
            client.get("/").await;
            script.call().await.reply.fail(reason);
            assert_eq!(client.response().await.status, status);
        }
        client.get("/").await;
        answer_ok(&script.call().await, "well");
        assert_eq!(client.response().await.body, b"well");
    });
}

#[test]
fn a_body_whose_handler_fails_does_not_look_whole() {
    in_worker(Limits::default(), async |worker| {
        let script = Script::awaiting();
        let (mut client, mut other) = (script.client(&worker), script.client(&worker));
        client.get("/1").await;
        let call = script.call().await;
        let piece = Bytes::from_static(b"begun");
        let body = Pieces::new([piece].into_iter(), AfterAnswer::Stalls);
        answer(&call, http::Response::builder(), body);
        settle().await;
        call.reply.fail(NoResponse::Trapped);
        let response = client.response().await;
        assert_eq!((response.whole, &response.body[..]), (false, &b"begun"[..]));
        other.get("/2").await;
        answer_ok(&script.call().await, "well");
        assert_eq!(other.response().await.body, b"well");
    });
}

#[test]
fn the_task_of_a_connection_is_of_the_smallest_size_there_is() {
    // Tokio aligns tasks to 128 bytes. The allocator has blocks of 256 and of 512 for
    // that. Tokio takes 104 of them, and the worker 32.
    let size = size_of::<super::Driver>();
    assert!(size <= 256 - 104 - 32, "{size}");
}
