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
    /// The body, if it was dropped before anything of it was asked for, and there may
    /// be another attempt.
    unsent: Option<UnsentBody>,
    /// True if there is no other attempt.
    is_last: bool,
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

    /// Returns the body for another attempt, if nothing of it was asked for in the last
    /// one.
    pub(super) fn take_unsent(self: &Arc<Self>) -> Option<SentBody> {
        let mut progress = self.progress();
        let unsent = progress.unsent.take()?;
        progress.end = None;
        progress.waits_for = WaitsFor::Nobody;
        drop(progress);
        Some(unsent.into_body(self))
    }

    /// Notes that there is no other attempt.
    pub(super) fn settle(&self) {
        let mut progress = self.progress();
        progress.is_last = true;
        let unsent = progress.unsent.take();
        drop(progress);
        drop(unsent);
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
    /// The body, or what is left of it.
    content: UnsentBody,
    /// Remaining bytes, if known.
    remaining: Option<u64>,
    /// True if a frame was asked for.
    has_begun: bool,
    upload: Arc<RequestUpload>,
}

/// A body that is still to be sent.
struct UnsentBody {
    body: WireBody,
    /// A frame that was taken already.
    first: Option<Frame<Bytes>>,
    /// Content-Length of the head.
    told: Option<u64>,
    health: SendWrapper<Rc<Health>>,
}

impl UnsentBody {
    fn into_body(self, upload: &Arc<RequestUpload>) -> SentBody {
        SentBody(Some(Sending {
            remaining: self.told.or_else(|| self.body.size_hint().exact()),
            content: self,
            has_begun: false,
            upload: Arc::clone(upload),
        }))
    }
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
        let content = UnsentBody {
            body,
            first,
            told,
            health,
        };
        content.into_body(upload)
    }

    pub(super) fn empty(upload: &RequestUpload) -> Self {
        upload.end(Ok(()));
        Self(None)
    }
}

impl Sending {
    fn took(&mut self, frame: &Frame<Bytes>) {
        self.upload.took();
        self.content.health.moved();
        if let (Some(remaining), Some(data)) = (&mut self.remaining, frame.data_ref()) {
            *remaining = remaining.saturating_sub(data.len() as u64);
        }
        // Hyper may not poll for more.
        if self.is_at_end() {
            self.upload.end(Ok(()));
        }
    }

    fn is_at_end(&self) -> bool {
        self.content.first.is_none() && self.content.body.is_end_stream()
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
        sending.has_begun = true;
        if let Some(first) = sending.content.first.take() {
            sending.took(&first);
            return Poll::Ready(Some(Ok(first)));
        }
        let failure = match Pin::new(&mut sending.content.body).poll_frame(cx) {
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
            Poll::Ready(None) if sending.content.health.is_gone() => Failure::ConnectionTerminated,
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
            Some(Sending { content, .. }) => match (content.told, &content.first) {
                // Hyper sends this many bytes, or fails.
                (Some(length), _) => SizeHint::with_exact(length),
                (None, Some(_)) => SizeHint::default(),
                (None, None) => content.body.size_hint(),
            },
            // In HTTP/2, hyper would send a length of 0 with all methods but a
            // few.
            None => SizeHint::default(),
        }
    }
}

impl Drop for SentBody {
    fn drop(&mut self) {
        let Some(sending) = self.0.take() else {
            return;
        };
        let Sending {
            content,
            remaining,
            has_begun,
            upload,
        } = sending;
        upload.end(match remaining {
            Some(0) => Ok(()),
            // The connection was lost, or the exchange dropped.
            _ => Err(None),
        });
        let mut progress = upload.progress();
        if !has_begun && !progress.is_last {
            progress.unsent = Some(content);
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn body(upload: &Arc<RequestUpload>) -> SentBody {
        let health = SendWrapper::new(Rc::new(Health::default()));
        let body = Full::new(Bytes::from_static(b"body")).map_err(|never| match never {});
        SentBody::new(body.boxed_unsync(), None, Some(4), upload, health)
    }

    #[tokio::test]
    async fn a_body_of_which_nothing_was_asked_for_can_be_sent_in_another_attempt() {
        let upload = Arc::new(RequestUpload::default());
        drop(body(&upload));
        assert!(upload.has_ended());
        let again = upload.take_unsent().expect("all of the body");
        assert!(!upload.has_ended() && upload.take_unsent().is_none());
        let sent = again.collect().await.expect("it is whole").to_bytes();
        assert_eq!(sent, "body");
        assert!(upload.has_ended() && upload.take_unsent().is_none());
    }

    #[tokio::test]
    async fn a_body_that_has_begun_or_has_no_other_attempt_is_not_kept() {
        let upload = Arc::new(RequestUpload::default());
        let mut begun = body(&upload);
        assert!(begun.frame().await.is_some());
        drop(begun);
        assert!(upload.take_unsent().is_none());
        for settles_first in [true, false] {
            let upload = Arc::new(RequestUpload::default());
            let body = body(&upload);
            if settles_first {
                upload.settle();
            }
            drop(body);
            upload.settle();
            assert!(upload.take_unsent().is_none());
        }
    }
}
