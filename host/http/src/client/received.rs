//! Body of an exchange's response, from hyper to the guest.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use netwasm_exchange::chunked::without_dropped;
use netwasm_exchange::failure::Failure;

use super::body::ResponseRead;
use super::{Guard, failure};

/// Body of a response, from hyper to the guest.
pub(super) struct ReceivedBody {
    /// `None` after a failure: the connection must not be used any more.
    body: Option<Incoming>,
    /// True if it comes by HTTP/2.
    is_stream: bool,
    limit: Duration,
    /// Timer of the next frame.
    late: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    /// `None` once the body has ended.
    guard: Option<Arc<Guard>>,
}

impl ReceivedBody {
    /// Returns a body that arrives by this version of HTTP; `limit` is that of
    /// silence.
    pub(super) fn new(
        body: Incoming,
        version: Version,
        limit: Duration,
        guard: Arc<Guard>,
    ) -> Self {
        let ended = body.is_end_stream();
        let mut received = Self {
            body: Some(body),
            is_stream: version == Version::HTTP_2,
            limit,
            late: None,
            waiting: false,
            guard: Some(guard),
        };
        if ended {
            received.end();
        }
        received
    }

    /// Notes the end of the body.
    fn end(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.upload.answered(ResponseRead::Whole);
        }
    }

    /// Ready once nothing has arrived for too long.
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
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let is_stream = self.is_stream;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let failure = match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.waiting = false;
                return Poll::Ready(Some(Ok(proper(frame))));
            }
            Poll::Ready(None) if is_stream && is_cut(body) => Failure::HttpResponseIncomplete,
            Poll::Ready(None) => {
                self.end();
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => failure::of_body(&error),
            Poll::Pending => {
                std::task::ready!(self.poll_late(cx));
                Failure::ConnectionReadTimeout
            }
        };
        self.body = None;
        if let Some(guard) = self.guard.take() {
            guard.upload.give_up();
        }
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

/// True if a body of HTTP/2 that yields no more is incomplete. Hyper takes a reset
/// or a GOAWAY without an error for the end, wherever it comes; only END_STREAM
/// is (RFC 9113, section 8.1), or the last byte of a length.
fn is_cut(body: &Incoming) -> bool {
    !body.is_end_stream() && body.size_hint().exact() != Some(0)
}

/// Returns a frame without forbidden trailers. A guest might copy them into the
/// head of another message.
fn proper(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(trailers) => Frame::trailers(without_dropped(trailers)),
        Err(frame) => frame,
    }
}

impl Drop for ReceivedBody {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard
                .upload
                .answered(ResponseRead::Dropped(self.body.take()));
        }
    }
}
