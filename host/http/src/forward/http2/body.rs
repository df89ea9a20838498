//! The body of a response that comes on a stream, on its way to the client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use netwasm_exchange::chunked::without_dropped;
use netwasm_exchange::content::{Content, FileContent};
use netwasm_exchange::failure::Failure;
use netwasm_exchange::forward::Forward;
use netwasm_net::env::Env;
use netwasm_net::upstream::Group;

use super::stream::UpstreamStream;
use crate::coalescing::Coalescing;
use crate::forward::upload::{ForwardedUpload, Unsent};

/// The body of a response. While it is polled, the rest of the request is sent,
/// too. Dropping it before its end resets the stream.
pub(in crate::forward) struct StreamedResponse {
    /// `None` once the response has ended.
    stream: Option<UpstreamStream>,
    body: Coalescing,
    upload: ForwardedUpload,
    /// Bytes that have yet to come, if the length is known.
    left: Option<u64>,
    /// True if it cannot be completed, which was logged.
    is_broken: bool,
    env: Arc<Env>,
    /// The group, whose name the log tells.
    group: Arc<Group>,
}

impl StreamedResponse {
    /// Returns the body of a response; `length` is its length if known.
    pub(in crate::forward) fn new(
        stream: UpstreamStream,
        body: RecvStream,
        mut upload: ForwardedUpload,
        length: Option<u64>,
        forward: &Forward,
    ) -> Self {
        upload.is_answered();
        let mut response = Self {
            left: length,
            is_broken: false,
            stream: Some(stream),
            body: Coalescing::new(body),
            upload,
            env: Arc::clone(forward.worker.env()),
            group: Arc::clone(&forward.group),
        };
        if response.body.is_at_end() {
            response.end();
        }
        response
    }

    /// Sends what there is of the request. Returns false if the client's part of
    /// it does not arrive, as its driver is about to see.
    ///
    /// # Errors
    /// Fails if the request is larger than the handler allows.
    fn send_on(&mut self, cx: &mut Context<'_>) -> Result<bool, Failure> {
        let Some(stream) = &mut self.stream else {
            return Ok(true);
        };
        if self.upload.has_ended() {
            return Ok(true);
        }
        match stream.poll_upload(cx, &mut self.upload, &mut false) {
            Poll::Ready(Err(Unsent::Client)) => {
                self.upload.stop();
                cx.waker().wake_by_ref();
                Ok(false)
            }
            Poll::Ready(Err(Unsent::TooLarge)) => {
                Err(self.fail(&"the request is larger than the guest allows"))
            }
            Poll::Ready(Ok(())) | Poll::Pending => Ok(true),
        }
    }

    /// Takes the end of the response.
    fn end(&mut self) {
        self.stream = None;
        self.left = Some(0);
    }

    /// Counts and logs that the response is incomplete.
    fn fail(&mut self, why: &dyn std::fmt::Display) -> Failure {
        if self.stream.take().is_some() {
            self.is_broken = true;
            self.env.counters.forwards_failed.add();
            tracing::warn!(
                guest = %self.env.guest, upstream = self.group.name(),
                "a response is incomplete: {why}"
            );
        }
        Failure::HttpResponseIncomplete
    }

    /// Returns the next piece of the body. The window opens as the client takes
    /// what has come.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match std::task::ready!(self.body.poll_data(cx)) {
            Some(Ok(piece)) => {
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(piece.len() as u64);
                }
                if self.body.is_at_end() {
                    self.end();
                }
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            Some(Err(error)) => return Poll::Ready(self.broken(error)),
            None => {}
        }
        match std::task::ready!(self.body.poll_trailers(cx)) {
            Ok(trailers) => {
                self.end();
                Poll::Ready(trailers.map(|it: HeaderMap| Ok(Frame::trailers(without_dropped(it)))))
            }
            Err(error) => Poll::Ready(self.broken(error)),
        }
    }

    /// Handles an error. A server may reset the stream without fault once all of
    /// the response has come: RFC 9113, section 8.1. `h2` reports that as its end
    /// if the stream has ended, so the length must tell it here.
    fn broken(&mut self, error: h2::Error) -> Option<Result<Frame<Bytes>, h2::Error>> {
        let done = error.is_reset() && error.reason() == Some(Reason::NO_ERROR);
        if done && error.is_remote() && self.left == Some(0) {
            self.end();
            return None;
        }
        Some(Err(error))
    }
}

impl Body for StreamedResponse {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if self.is_broken {
            return Poll::Ready(Some(Err(Failure::HttpResponseIncomplete)));
        }
        if self.stream.is_none() {
            return Poll::Ready(None);
        }
        match self.send_on(cx) {
            Ok(true) => {}
            Ok(false) => return Poll::Pending,
            Err(failure) => return Poll::Ready(Some(Err(failure))),
        }
        self.poll_piece(cx)
            .map(|frame| frame.map(|it| it.map_err(|error| self.fail(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none() && !self.is_broken
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}

impl Content for StreamedResponse {
    fn take_file(&mut self) -> Option<FileContent> {
        None
    }

    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        if self.send_on(cx).is_err() {
            cx.waker().wake_by_ref();
        }
        if self.stream.is_some() {
            self.body.hold(cx);
        }
    }
}
