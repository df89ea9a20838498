//! Body of an exchange's request, from the guest to hyper, and the time limits of
//! each side's waiting.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use send_wrapper::SendWrapper;
use tokio::time::Instant;

use netwasm_exchange::failure::Failure;
use netwasm_exchange::outgoing::WireBody;
use netwasm_net::health::Health;

use crate::client::line::ClientLine;

/// Progress of a request's body.
#[derive(Default)]
pub(super) struct RequestUpload(Mutex<Progress>);

#[derive(Default)]
struct Progress {
    waits_for: WaitsFor,
    /// Result of the body. The error is reported once.
    end: Option<Result<(), Option<Failure>>>,
    /// Waker of the [`Watch`].
    watch: Option<Waker>,
    /// True if the [`Watch`] was dropped.
    unwatched: bool,
    response: ResponseRead,
    /// Waker of [`RequestUpload::rest`].
    rest: Option<Waker>,
}

/// Progress of the response while the request's body is still being sent.
#[derive(Default)]
pub(super) enum ResponseRead {
    #[default]
    Open,
    Whole,
    /// The guest has dropped it before its end. The rest is read and dropped,
    /// as hyper would otherwise end the connection.
    Dropped(Option<Incoming>),
}

#[derive(Clone, Copy, Default)]
enum WaitsFor {
    /// Nobody, because there is no connection yet.
    #[default]
    Nobody,
    Guest,
    /// The peer, since this time.
    Peer(Instant),
}

impl RequestUpload {
    /// Starts the peer's time, as there is a connection.
    pub(super) fn begin(&self) {
        let mut progress = self.progress();
        if let WaitsFor::Nobody = progress.waits_for {
            progress.waits_for = WaitsFor::Peer(Instant::now());
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.progress().end.is_some()
    }

    /// Returns why the body is incomplete, unless that is the peer's fault.
    /// Reported once.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        match &mut self.progress().end {
            Some(Err(error)) => error.take(),
            _ => None,
        }
    }

    /// Waits until the peer has been silent for `limit`: it has neither
    /// answered nor taken any of the body. Returns the failure for that. While
    /// the guest has more to send, the peer's time does not run.
    pub(super) async fn stalled(&self, limit: Duration, line: Option<&ClientLine>) -> Failure {
        // Interval of checks whether the peer has acknowledged something: a
        // socket may hold more than the peer takes within `limit`.
        let step = limit / 4;
        let (mut held, mut moved) = (0, Instant::now());
        loop {
            let now = Instant::now();
            let before = std::mem::replace(&mut held, line.map_or(0, ClientLine::held));
            if held < before {
                moved = now;
            }
            let due = match self.progress().waits_for {
                WaitsFor::Peer(since) => since.max(moved) + limit,
                // The peer's turn is noticed at the next check.
                WaitsFor::Nobody | WaitsFor::Guest => now + limit,
            };
            if due <= now {
                return match self.progress().end {
                    Some(_) => Failure::ConnectionReadTimeout,
                    None => Failure::ConnectionWriteTimeout,
                };
            }
            tokio::time::sleep_until(due.min(now + step)).await;
        }
    }

    /// Returns the guest's watch of the body's end.
    pub(super) fn watch(self: &Arc<Self>) -> Watch {
        Watch(Arc::clone(self))
    }

    /// Notes that the response has ended, or is no longer read.
    pub(super) fn answered(&self, how: ResponseRead) {
        let mut progress = self.progress();
        if progress.end.is_none() {
            progress.response = how;
            wake(&mut progress.rest);
        }
    }

    /// Notes that nobody wants the exchange any more.
    pub(super) fn give_up(&self) {
        self.progress().unwatched = true;
        self.answered(ResponseRead::Dropped(None));
    }

    /// Waits until the body has ended. A peer that answers early may still want
    /// the rest. Returns false if the rest must not be sent: the guest has
    /// dropped the exchange, or the peer has answered and takes nothing within
    /// `limit`.
    pub(super) async fn rest(&self, limit: Duration, line: Option<&ClientLine>) -> bool {
        let ended = poll_fn(|cx| {
            let mut progress = self.progress();
            progress.poll_forget(cx);
            progress.rest = Some(cx.waker().clone());
            match (&progress.end, &progress.response) {
                (Some(_), _) => Poll::Ready(true),
                (None, ResponseRead::Dropped(_)) if progress.unwatched => Poll::Ready(false),
                (None, _) => Poll::Pending,
            }
        });
        let stalled = async {
            poll_fn(|_| match self.progress().response {
                // `ended` is woken when this changes.
                ResponseRead::Open => Poll::Pending,
                ResponseRead::Whole | ResponseRead::Dropped(_) => Poll::Ready(()),
            })
            .await;
            self.stalled(limit, line).await
        };
        let sent = tokio::select! {
            biased;
            sent = ended => sent,
            error = stalled => {
                self.end(Err(Some(error)));
                false
            }
        };
        self.progress().response = ResponseRead::Whole;
        sent
    }

    fn wait_for(&self, whom: WaitsFor) {
        self.progress().waits_for = whom;
    }

    fn took(&self) {
        self.wait_for(WaitsFor::Peer(Instant::now()));
    }

    fn end(&self, end: Result<(), Option<Failure>>) {
        let mut progress = self.progress();
        if progress.end.is_some() {
            return;
        }
        progress.end = Some(end);
        progress.waits_for = WaitsFor::Peer(Instant::now());
        wake(&mut progress.watch);
        wake(&mut progress.rest);
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    /// Reads and drops the rest of a dropped response.
    fn poll_forget(&mut self, cx: &mut Context<'_>) {
        if let ResponseRead::Dropped(dropped) = &mut self.response
            && let Some(response) = dropped
        {
            loop {
                match Pin::new(&mut *response).poll_frame(cx) {
                    Poll::Pending => return,
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(_)) | None) => break,
                }
            }
            *dropped = None;
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Watch that tells the guest how the body of its request ended. If dropped,
/// nobody wants to know.
pub(super) struct Watch(Arc<RequestUpload>);

impl Watch {
    /// Waits for the end of the body. An error is never returned by the first
    /// poll, because wasmtime-wasi-http would take it for the response's.
    ///
    /// # Errors
    /// Fails with the reason if the body is incomplete; with
    /// `ConnectionTerminated` if the peer took no more.
    pub(super) async fn ended(self) -> Result<(), Failure> {
        let mut first = true;
        poll_fn(|cx| {
            let mut progress = self.0.progress();
            match &mut progress.end {
                Some(Ok(())) => return Poll::Ready(Ok(())),
                Some(Err(error)) if !first => {
                    let error = error.take().unwrap_or(Failure::ConnectionTerminated);
                    return Poll::Ready(Err(error));
                }
                Some(Err(_)) => cx.waker().wake_by_ref(),
                None => progress.watch = Some(cx.waker().clone()),
            }
            first = false;
            Poll::Pending
        })
        .await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut progress = self.0.progress();
        progress.unwatched = true;
        wake(&mut progress.rest);
    }
}

/// Body of a request, from the guest to hyper.
pub(super) struct SentBody(Option<Sending>);

struct Sending {
    body: WireBody,
    /// A frame that was taken already.
    first: Option<Frame<Bytes>>,
    /// Content-Length of the head.
    told: Option<u64>,
    /// Remaining bytes, if known.
    remaining: Option<u64>,
    upload: Arc<RequestUpload>,
    health: SendWrapper<Rc<Health>>,
}

/// The body of a request ended early. `RequestUpload` knows why.
#[derive(Debug, thiserror::Error)]
#[error("the request's body is not whole")]
pub(super) struct NotWhole;

impl SentBody {
    pub(super) fn new(
        body: WireBody,
        first: Option<Frame<Bytes>>,
        told: Option<u64>,
        upload: &Arc<RequestUpload>,
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

    pub(super) fn empty(upload: &RequestUpload) -> Self {
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
        // Hyper may not poll for more.
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
            // If the instance is gone, the end of the body is not genuine.
            Poll::Ready(None) if sending.health.is_gone() => Failure::ConnectionTerminated,
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
                // Hyper sends this many bytes, or fails.
                (Some(length), _) => SizeHint::with_exact(length),
                (None, Some(_)) => SizeHint::default(),
                (None, None) => sending.body.size_hint(),
            },
            // In HTTP/2, hyper would send a length of 0 with all methods but a
            // few.
            None => SizeHint::default(),
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.upload.end(match self.remaining {
            Some(0) => Ok(()),
            // The connection was lost, or the exchange dropped.
            _ => Err(None),
        });
    }
}
