//! Requests that an event guest deferred.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::server::SendResponse;
use tokio::time::timeout;

use netwasm_exchange::answer::Answer;
use netwasm_exchange::deferred::Deferred;
use netwasm_exchange::reply::NoResponse;
use netwasm_exchange::request::Request;

use crate::exchange;
use crate::h2::line::LogLine;
use crate::h2::link::Link;
use crate::h2::stream::Outcome;

/// Waits for the answer and sends it.
pub(super) async fn answer_later(
    link: Rc<Link>,
    request: Box<Request>,
    deferred: Rc<Deferred>,
    mut outgoing: SendResponse<Bytes>,
    line: LogLine,
) -> Outcome {
    let limit = link.thread().env.limits.http.response_timeout;
    let waiting = WaitingFor(deferred);
    let answered = poll_fn(|cx| match waiting.0.poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer.unwrap_or_else(exchange::gone))),
        // The client may reset the stream.
        Poll::Pending => outgoing.poll_reset(cx).map(|_| None),
    });
    let answer: Answer = match timeout(limit, answered).await {
        Ok(Some(answer)) => answer,
        Ok(None) => {
            exchange::left(&link.transport);
            return Outcome::Over;
        }
        Err(_elapsed) => {
            let path = request.head.target();
            let env = &link.thread().env;
            exchange::late(env, path);
            exchange::missing(env, path, &NoResponse::TimedOut)
        }
    };
    drop(waiting);
    let sending = link.send(&request, answer, outgoing, line);
    link.local.put_request(request);
    match sending {
        Some(rest) => rest.await,
        None => Outcome::Over,
    }
}

/// An answer that is awaited. If dropped before it came, the guest is told that
/// nobody waits.
struct WaitingFor(Rc<Deferred>);

impl Drop for WaitingFor {
    fn drop(&mut self) {
        self.0.give_up();
    }
}
