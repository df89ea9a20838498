//! The bodies of requests to guests that get them whole.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use h2::RecvStream;
use http::HeaderMap;

use crate::http::answer::Fields;
use crate::http::chunked::is_dropped;
use crate::http::exchange::{self, SLOW_BODY, TOO_LARGE};
use crate::http::head::Refusal;
use crate::http::http2::link::{Exchange, Link};
use crate::http::http2::{Outcome, request, unread};

/// How many of the largest bodies the streams of a connection may have in memory
/// before all but the one that began first wait.
const LARGEST: usize = 4;

/// How many bytes the bodies of a connection have come to.
#[derive(Debug)]
pub(super) struct Budget {
    most: usize,
    kept: Cell<usize>,
    /// Those that are coming, in the order in which they began; who waits.
    coming: RefCell<BTreeMap<u64, Option<Waker>>>,
    next: Cell<u64>,
}

/// A body, or what has come of it.
pub(super) struct Held {
    link: Rc<Link>,
    number: u64,
    bytes: Vec<u8>,
}

/// Why a body does not come whole.
enum Broken {
    Refused(Refusal),
    /// The client has left.
    Left,
}

impl Budget {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.saturating_mul(LARGEST),
            kept: Cell::new(0),
            coming: RefCell::default(),
            next: Cell::new(0),
        }
    }

    /// Waits until a body may grow.
    async fn room(&self, number: u64) {
        poll_fn(|cx| {
            let mut coming = self.coming.borrow_mut();
            let first = coming.first_key_value().is_none_or(|(it, _)| *it >= number);
            if first || self.kept.get() < self.most {
                return Poll::Ready(());
            }
            coming.insert(number, Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    fn wake_all(&self) {
        let mut coming = self.coming.borrow_mut();
        for waker in coming.values_mut().filter_map(Option::take) {
            waker.wake();
        }
    }
}

impl Held {
    fn new(link: &Rc<Link>) -> Self {
        let budget = &link.budget;
        let number = budget.next.get();
        budget.next.set(number + 1);
        budget.coming.borrow_mut().insert(number, None);
        Self {
            link: Rc::clone(link),
            number,
            bytes: Vec::new(),
        }
    }

    fn add(&mut self, piece: &[u8]) {
        let kept = &self.link.budget.kept;
        kept.set(kept.get() + piece.len());
        self.bytes.extend_from_slice(piece);
    }

    /// The body, for the guest.
    pub(super) fn take(mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.bytes);
        self.free(bytes.len());
        bytes
    }

    fn free(&self, count: usize) {
        let budget = &self.link.budget;
        budget.kept.set(budget.kept.get() - count);
    }

    /// All of it has come.
    fn arrived(&self) {
        self.link.budget.coming.borrow_mut().remove(&self.number);
        self.link.budget.wake_all();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.free(self.bytes.len());
        self.arrived();
    }
}

/// Takes the body of a request, then the request is ready; what is wrong with it
/// is answered.
pub(super) async fn collect(link: Rc<Link>, mut exchange: Box<Exchange>) -> Outcome {
    if request::expects_continue(&exchange.head.headers) {
        let mut response = http::Response::new(());
        *response.status_mut() = http::StatusCode::CONTINUE;
        if exchange.outgoing.send_informational(response).is_err() {
            return Outcome::Over;
        }
    }
    let mut held = Held::new(&link);
    match receive(&link, &mut exchange.incoming, &mut held).await {
        Ok(trailers) => {
            held.arrived();
            exchange.body = Some(held);
            exchange.trailers = trailers;
            Outcome::Ready(exchange)
        }
        Err(Broken::Refused(refusal)) => {
            drop(held);
            let sending = link.refuse(&exchange.head, refusal, exchange.outgoing);
            unread::forget_after(sending, Some(exchange.incoming)).await
        }
        Err(Broken::Left) => {
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
) -> Result<Fields, Broken> {
    let limits = &link.thread().env.limits.http;
    while let Some(piece) = in_time(limits.body_timeout, incoming.data()).await? {
        let piece = piece.map_err(|_| Broken::Left)?;
        if held.bytes.len() + piece.len() > limits.max_body {
            return Err(Broken::Refused(TOO_LARGE));
        }
        held.add(&piece);
        link.budget.room(held.number).await;
        incoming
            .flow_control()
            .release_capacity(piece.len())
            .map_err(|_| Broken::Left)?;
    }
    let trailers = in_time(limits.body_timeout, incoming.trailers()).await?;
    let trailers = trailers.map_err(|_| Broken::Left)?;
    Ok(trailers.as_ref().map(fields).unwrap_or_default())
}

async fn in_time<T>(limit: Duration, coming: impl Future<Output = T>) -> Result<T, Broken> {
    let coming = tokio::time::timeout(limit, coming).await;
    coming.map_err(|_elapsed| Broken::Refused(SLOW_BODY))
}

/// Trailers as a guest gets them.
fn fields(trailers: &HeaderMap) -> Fields {
    trailers
        .iter()
        .filter(|(name, _)| !is_dropped(name.as_str()))
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}
