//! The bodies of an exchange, as hyper and the guest see each other's, and for
//! how long one waits for the other.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use send_wrapper::SendWrapper;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::http::client::{Guard, failure};
use crate::stream::Health;

/// What is known of a request's body while it is sent.
#[derive(Default)]
pub(super) struct Upload(Mutex<Progress>);

#[derive(Default)]
struct Progress {
    waits_for: WaitsFor,
    /// How it ended, and whether that was told.
    end: Option<Result<(), Option<Error>>>,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Default)]
enum WaitsFor {
    /// Nobody: there is no connection yet.
    #[default]
    Nobody,
    Guest,
    /// The peer: since when.
    Peer(Instant),
}

impl Upload {
    /// There is a connection.
    pub(super) fn begin(&self) {
        let mut progress = self.progress();
        if let WaitsFor::Nobody = progress.waits_for {
            progress.waits_for = WaitsFor::Peer(Instant::now());
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.progress().end.is_some()
    }

    /// Why it is not whole, if that is not the peer's fault; told once.
    pub(super) fn take_failure(&self) -> Option<Error> {
        match &mut self.progress().end {
            Some(Err(error)) => error.take(),
            _ => None,
        }
    }

    /// Waits until the peer has done nothing for so long, neither answered nor
    /// taken anything of the body, and says what that is called. While the
    /// guest has more to send, nobody waits for the peer.
    pub(super) async fn stalled(&self, limit: Duration) -> Error {
        loop {
            let now = Instant::now();
            let due = match self.progress().waits_for {
                WaitsFor::Peer(since) => since + limit,
                // When the peer's turn has come is looked at then.
                WaitsFor::Nobody | WaitsFor::Guest => now + limit,
            };
            if due <= now {
                return match self.progress().end {
                    Some(_) => Error::ConnectionReadTimeout,
                    None => Error::ConnectionWriteTimeout,
                };
            }
            tokio::time::sleep_until(due).await;
        }
    }

    /// Waits for its end. A peer that answered before it had the whole body, and
    /// wants no more of it, is no error.
    ///
    /// # Errors
    /// Why it is not whole, if that is not the peer's doing.
    pub(super) async fn ended(&self) -> Result<(), Error> {
        std::future::poll_fn(|cx| {
            let mut progress = self.progress();
            match &mut progress.end {
                None => {
                    progress.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                Some(Ok(())) => Poll::Ready(Ok(())),
                Some(Err(error)) => Poll::Ready(error.take().map_or(Ok(()), Err)),
            }
        })
        .await
    }

    fn wait_for(&self, whom: WaitsFor) {
        self.progress().waits_for = whom;
    }

    fn took(&self) {
        self.wait_for(WaitsFor::Peer(Instant::now()));
    }

    fn end(&self, end: Result<(), Option<Error>>) {
        let mut progress = self.progress();
        if progress.end.is_some() {
            return;
        }
        progress.end = Some(end);
        progress.waits_for = WaitsFor::Peer(Instant::now());
        if let Some(waker) = progress.waker.take() {
            waker.wake();
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a request, as hyper takes it from the guest.
pub(super) struct SentBody(Option<Sending>);

struct Sending {
    body: WasiBody,
    /// What was taken of it already.
    first: Option<Frame<Bytes>>,
    /// Bytes that the head tells.
    told: Option<u64>,
    /// Bytes yet to come, where that is known.
    remaining: Option<u64>,
    upload: Arc<Upload>,
    health: SendWrapper<Rc<Health>>,
}

/// The body of a request ended before its time; `Upload` knows why.
#[derive(Debug, thiserror::Error)]
#[error("the request's body is not whole")]
pub(super) struct NotWhole;

impl SentBody {
    pub(super) fn new(
        body: WasiBody,
        first: Option<Frame<Bytes>>,
        told: Option<u64>,
        upload: &Arc<Upload>,
        health: SendWrapper<Rc<Health>>,
    ) -> Self {
        Self(Some(Sending {
            remaining: told.or_else(|| body.size_hint().exact()),
            body,
            first,
            told,
            upload: Arc::clone(upload),
            health,
        }))
    }

    pub(super) fn empty(upload: &Upload) -> Self {
        upload.end(Ok(()));
        Self(None)
    }
}

impl Sending {
    fn took(&mut self, frame: &Frame<Bytes>) {
        self.upload.took();
        self.health.moved();
        if let (Some(remaining), Some(data)) = (&mut self.remaining, frame.data_ref()) {
            *remaining = remaining.saturating_sub(data.len() as u64);
        }
        // It may not be asked for more.
        if self.is_at_end() {
            self.upload.end(Ok(()));
        }
    }

    fn is_at_end(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = NotWhole;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, NotWhole>>> {
        let Some(sending) = &mut self.0 else {
            return Poll::Ready(None);
        };
        if let Some(first) = sending.first.take() {
            sending.took(&first);
            return Poll::Ready(Some(Ok(first)));
        }
        let failure = match Pin::new(&mut sending.body).poll_frame(cx) {
            Poll::Pending => {
                sending.upload.wait_for(WaitsFor::Guest);
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(frame))) => {
                sending.took(&frame);
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(Some(Err(error))) => error,
            // That nothing more comes may be for want of an instance.
            Poll::Ready(None) if sending.health.is_gone() => Error::ConnectionTerminated,
            Poll::Ready(None) => {
                sending.upload.end(Ok(()));
                return Poll::Ready(None);
            }
        };
        sending.upload.end(Err(Some(failure)));
        Poll::Ready(Some(Err(NotWhole)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Sending::is_at_end)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Some(sending) => match (sending.told, &sending.first) {
                // Hyper sends so much, or fails.
                (Some(length), _) => SizeHint::with_exact(length),
                (None, Some(_)) => SizeHint::default(),
                (None, None) => sending.body.size_hint(),
            },
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.upload.end(match self.remaining {
            Some(0) => Ok(()),
            // The connection was lost, or the exchange given up.
            _ => Err(None),
        });
    }
}

/// The body of a response, as the guest takes it from hyper.
pub(super) struct ReceivedBody {
    /// Until it fails: then the connection is not to be used any more.
    body: Option<Incoming>,
    limit: Duration,
    /// When something should have come, while it is waited for.
    late: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    place: Option<OwnedSemaphorePermit>,
    /// Until its end.
    guard: Option<Guard>,
}

impl ReceivedBody {
    pub(super) fn new(
        body: Incoming,
        limit: Duration,
        place: OwnedSemaphorePermit,
        guard: Guard,
    ) -> Self {
        let (place, guard) = match body.is_end_stream() {
            true => (None, None),
            false => (Some(place), Some(guard)),
        };
        Self {
            place,
            guard,
            body: Some(body),
            limit,
            late: None,
            waiting: false,
        }
    }

    /// Whether nothing has come for too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = Instant::now() + self.limit;
        let late = self
            .late
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if !self.waiting {
            self.waiting = true;
            late.as_mut().reset(due);
        }
        late.as_mut().poll(cx)
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let failure = match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.waiting = false;
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(None) => {
                self.place = None;
                self.guard = None;
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => failure::of_body(&error),
            Poll::Pending => {
                std::task::ready!(self.poll_late(cx));
                Error::ConnectionReadTimeout
            }
        };
        self.body = None;
        self.place = None;
        self.guard = None;
        Poll::Ready(Some(Err(failure)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}
