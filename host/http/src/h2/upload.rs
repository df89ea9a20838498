//! Bodies of requests to guests that take requests whole.

use std::rc::Rc;
use std::time::Duration;

use h2::RecvStream;
use http::HeaderMap;

use netwasm_exchange::answer::Fields;
use netwasm_exchange::chunked::is_dropped;
use netwasm_exchange::head::Refusal;

use crate::exchange::{self, MALFORMED, SLOW_BODY, TOO_LARGE};
use crate::h2::held::Held;
use crate::h2::link::Link;
use crate::h2::stream::{Outcome, ReadyRequest};
use crate::h2::{request, unread};

/// Why a body does not arrive whole.
enum UploadBroken {
    Refused(Refusal),
    /// The client has left.
    Left,
}

/// Collects the body of a request, of up to `most` bytes, and returns the request
/// as ready. Answers a bad body with a refusal.
pub(super) async fn collect(
    link: Rc<Link>,
    mut exchange: Box<ReadyRequest>,
    most: usize,
) -> Outcome {
    if request::expects_continue(&exchange.head.headers) {
        let mut response = http::Response::new(());
        *response.status_mut() = http::StatusCode::CONTINUE;
        if exchange.outgoing.send_informational(response).is_err() {
            return Outcome::Over;
        }
    }
    let mut held = Held::new(&link.budget);
    let _coming = link.window.begin();
    match receive(&link, &mut exchange.incoming, &mut held, most).await {
        Ok(trailers) => {
            held.arrived();
            exchange.body = Some(held);
            exchange.trailers = trailers;
            Outcome::Ready(exchange)
        }
        Err(UploadBroken::Refused(refusal)) => {
            drop(held);
            let sending = link.refuse(&exchange.head, refusal, exchange.outgoing);
            unread::forget_after(sending, Some(exchange.incoming)).await
        }
        Err(UploadBroken::Left) => {
            exchange::left(&link.transport);
            drop(link.line(&exchange.head));
            Outcome::Over
        }
    }
}

async fn receive(
    link: &Rc<Link>,
    incoming: &mut RecvStream,
    held: &mut Held,
    most: usize,
) -> Result<Fields, UploadBroken> {
    let limits = &link.thread().env.limits.http;
    while let Some(piece) = in_time(limits.body_timeout, incoming.data()).await? {
        let piece = piece.map_err(|error| broken(&error))?;
        if held.len() + piece.len() > most {
            return Err(UploadBroken::Refused(TOO_LARGE));
        }
        held.add(&piece);
        held.room().await;
        incoming
            .flow_control()
            .release_capacity(piece.len())
            .map_err(|_| UploadBroken::Left)?;
    }
    let trailers = in_time(limits.body_timeout, incoming.trailers()).await?;
    let trailers = trailers.map_err(|error| broken(&error))?;
    Ok(trailers.as_ref().map(fields).unwrap_or_default())
}

/// Classifies an error. `h2` resets the stream if the client breaks a rule.
fn broken(error: &h2::Error) -> UploadBroken {
    match error.is_reset() && error.is_library() {
        true => UploadBroken::Refused(MALFORMED),
        false => UploadBroken::Left,
    }
}

async fn in_time<T>(limit: Duration, coming: impl Future<Output = T>) -> Result<T, UploadBroken> {
    let coming = tokio::time::timeout(limit, coming).await;
    coming.map_err(|_elapsed| UploadBroken::Refused(SLOW_BODY))
}

/// Converts trailers for a guest.
fn fields(trailers: &HeaderMap) -> Fields {
    trailers
        .iter()
        .filter(|(name, _)| !is_dropped(name.as_str()))
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}
