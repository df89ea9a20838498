//! The body of a response, on its way from a server to the client.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use netwasm_base::error::ConnectionError;
use netwasm_exchange::chunked::{Chunked, Fed};
use netwasm_exchange::content::{Content, FileContent};
use netwasm_exchange::failure::Failure;
use netwasm_exchange::forward::Forward;
use netwasm_exchange::head::HeadLimits;
use netwasm_net::env::Env;
use netwasm_net::portion::{Portion, Step};
use netwasm_net::transport::Transport;
use netwasm_net::upstream::Group;

use crate::forward::line::Line;
use crate::forward::reading::ReceivedFraming;
use crate::forward::upload::{ForwardedUpload, Unsent};
use crate::upload::header_map;

/// The body of a response. While it is polled, the rest of the request is sent,
/// too. Dropping it before its end closes the connection to the server.
pub(super) struct ForwardedBody {
    /// `None` once the response has ended.
    line: Option<Line>,
    upload: ForwardedUpload,
    remaining: RestOfBody,
    /// The part of the body that goes natively.
    portion: Option<Portion>,
    /// True if it may go natively.
    moves: bool,
    trailers: Option<HeaderMap>,
    /// True if the server takes another request on the connection.
    keeps: bool,
    /// True if the request is larger than the handler allows.
    is_too_large: bool,
    /// The group, whose name the log tells.
    group: Arc<Group>,
}

/// Minimum of a body that is moved natively, in bytes.
const MOVED: u64 = 64 << 10;

/// Rest of a body.
enum RestOfBody {
    /// Remaining bytes.
    Length(u64),
    Chunked(Box<Chunked>),
    /// All up to the end of the connection.
    Closed,
    Nothing,
}

/// Why a body is incomplete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Incomplete {
    #[error("the connection was lost: {0}")]
    Lost(ConnectionError),
    #[error("the server has closed the connection")]
    Ended,
    #[error("malformed chunks")]
    Chunks,
    #[error("the request's body is larger than the guest allows")]
    TooLarge,
}

impl ForwardedBody {
    /// Returns the body of a response, whose beginning may have arrived.
    pub(super) fn new(
        line: Line,
        mut upload: ForwardedUpload,
        framing: ReceivedFraming,
        keeps: bool,
        forward: &Forward,
    ) -> Self {
        upload.is_answered();
        let limits = HeadLimits::from(&forward.worker.env().limits.http);
        let mut body = Self {
            line: Some(line),
            upload,
            remaining: match framing {
                ReceivedFraming::Length(length) => RestOfBody::Length(length),
                ReceivedFraming::Chunked => {
                    RestOfBody::Chunked(Box::new(Chunked::new(u64::MAX, &limits)))
                }
                ReceivedFraming::Closed => RestOfBody::Closed,
            },
            portion: None,
            moves: true,
            trailers: None,
            keeps,
            is_too_large: false,
            group: Arc::clone(&forward.group),
        };
        if framing == ReceivedFraming::Length(0) {
            body.finish();
        }
        body
    }

    /// Ends the response, and keeps the connection if another request can follow
    /// there.
    fn finish(&mut self) {
        self.remaining = RestOfBody::Nothing;
        if let Some(mut line) = self.line.take() {
            let sent = self.upload.has_ended();
            // More than the response would be taken for the next one's.
            if self.keeps && sent && line.input.is_empty() {
                line.keep();
            } else {
                line.close(!sent);
            }
        }
    }

    /// Counts and logs that the response is incomplete, and closes the
    /// connection.
    fn fail(&mut self, incomplete: &Incomplete) -> Failure {
        if let Some(mut line) = self.line.take() {
            let env: &Env = &line.transport.thread().env;
            env.counters.forwards_failed.add();
            tracing::warn!(
                guest = %env.guest, upstream = self.group.name(),
                "a response is incomplete: {incomplete}"
            );
            line.close(true);
        }
        Failure::HttpResponseIncomplete
    }

    /// Moves some of a body of known length natively. Returns 0 if it is to be
    /// copied.
    fn poll_portion(
        &mut self,
        cx: &mut Context<'_>,
        to: &Transport,
    ) -> Poll<Result<usize, Incomplete>> {
        let (Some(line), RestOfBody::Length(remaining)) = (&self.line, &mut self.remaining) else {
            return Poll::Ready(Ok(0));
        };
        let source = Rc::clone(&line.transport);
        let _driven = source.drive(cx);
        if self.portion.is_none() {
            self.portion = Portion::begin(&source, to, *remaining);
        }
        let Some(portion) = &mut self.portion else {
            self.moves = false;
            return Poll::Ready(Ok(0));
        };
        let step = match portion.poll(cx, &source, to) {
            Poll::Pending => {
                return match source.failure() {
                    Some(reason) => Poll::Ready(Err(Incomplete::Lost(reason))),
                    None => Poll::Pending,
                };
            }
            Poll::Ready(step) => step.map_err(Incomplete::Lost)?,
        };
        match step {
            Step::Moved(count) => {
                *remaining -= count as u64;
                if *remaining == 0 {
                    self.portion = None;
                    self.finish();
                }
                Poll::Ready(Ok(count))
            }
            Step::Copy => {
                self.portion = None;
                self.moves = false;
                Poll::Ready(Ok(0))
            }
        }
    }

    /// Takes a piece that has arrived. Returns its share in the body.
    fn take(&mut self, piece: Bytes) -> Result<Bytes, Incomplete> {
        let Some(line) = &mut self.line else {
            return Ok(Bytes::new());
        };
        let body = match &mut self.remaining {
            RestOfBody::Nothing => return Ok(Bytes::new()),
            RestOfBody::Closed => return Ok(piece),
            RestOfBody::Length(remaining) => {
                let length = usize::try_from(*remaining).unwrap_or(usize::MAX);
                let mut piece = piece;
                if piece.len() > length {
                    line.input = BytesMut::from(&*piece.split_off(length));
                }
                *remaining -= piece.len() as u64;
                if *remaining > 0 {
                    return Ok(piece);
                }
                piece
            }
            RestOfBody::Chunked(chunked) => {
                let mut body = Vec::with_capacity(piece.len());
                let fed = chunked.feed(&piece, &mut body);
                let Fed { consumed, done } = fed.map_err(|_| Incomplete::Chunks)?;
                let rest = piece.get(consumed..).unwrap_or_default();
                line.input.extend_from_slice(rest);
                if !done {
                    return Ok(body.into());
                }
                self.trailers = header_map(chunked.trailers());
                body.into()
            }
        };
        self.finish();
        Ok(body)
    }

    /// Sends what there is of the request. Returns false if the client's part of
    /// it does not arrive, as its driver is about to see.
    fn send_on(&mut self, cx: &mut Context<'_>, transport: &Transport) -> Result<bool, Incomplete> {
        if self.upload.has_ended() && transport.queued() == 0 {
            return Ok(true);
        }
        let env: &Env = &transport.thread().env;
        let high = env.limits.write_high as u64;
        match self.upload.poll(cx, transport, &[], high, &mut false) {
            Poll::Ready(Err(Unsent::Client)) => {
                self.upload.stop();
                cx.waker().wake_by_ref();
                Ok(false)
            }
            Poll::Ready(Err(Unsent::TooLarge)) => Err(Incomplete::TooLarge),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(true),
        }
    }

    /// Waits for the next piece of the body, and sends what there is of the
    /// request. An empty piece is the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Incomplete>> {
        loop {
            let Some(line) = &self.line else {
                return Poll::Ready(Ok(Bytes::new()));
            };
            let transport = Rc::clone(&line.transport);
            let _driven = transport.drive(cx);
            if self.is_too_large {
                return Poll::Ready(Err(Incomplete::TooLarge));
            }
            if !self.send_on(cx, &transport)? {
                return Poll::Pending;
            }
            let Some(line) = &mut self.line else {
                return Poll::Ready(Ok(Bytes::new()));
            };
            let piece = match line.poll_piece(cx) {
                Poll::Ready(piece) => piece.map_err(Incomplete::Lost)?,
                Poll::Pending => {
                    let failure = transport.failure();
                    return match failure {
                        Some(reason) => Poll::Ready(Err(Incomplete::Lost(reason))),
                        None => Poll::Pending,
                    };
                }
            };
            if piece.is_empty() {
                if !matches!(self.remaining, RestOfBody::Closed) {
                    return Poll::Ready(Err(Incomplete::Ended));
                }
                self.keeps = false;
                self.finish();
                return Poll::Ready(Ok(Bytes::new()));
            }
            let body = self.take(piece)?;
            if !body.is_empty() {
                return Poll::Ready(Ok(body));
            }
        }
    }
}

impl Body for ForwardedBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        Poll::Ready(match ready!(self.poll_piece(cx)) {
            Ok(piece) if piece.is_empty() => self.trailers.take().map(|it| Ok(Frame::trailers(it))),
            Ok(piece) => Some(Ok(Frame::data(piece))),
            Err(incomplete) => Some(Err(self.fail(&incomplete))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.line.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.remaining {
            RestOfBody::Length(length) => SizeHint::with_exact(length),
            RestOfBody::Nothing => SizeHint::with_exact(0),
            RestOfBody::Chunked(_) | RestOfBody::Closed => SizeHint::default(),
        }
    }
}

impl Content for ForwardedBody {
    fn take_file(&mut self) -> Option<FileContent> {
        None
    }

    fn may_move(&self) -> bool {
        let (Some(line), &RestOfBody::Length(remaining)) = (&self.line, &self.remaining) else {
            return false;
        };
        let begun = self.portion.is_some() || remaining >= MOVED;
        // The rest of the request needs the polls of a body that is copied.
        let alone = self.upload.has_ended() && line.transport.queued() == 0;
        begun && self.moves && alone && line.input.is_empty()
    }

    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        if let Some(line) = &self.line {
            let transport = Rc::clone(&line.transport);
            let _driven = transport.drive(cx);
            if self.send_on(cx, &transport).is_err() {
                // The next poll of the body says so.
                self.is_too_large = true;
                cx.waker().wake_by_ref();
            }
        }
    }

    fn poll_move(&mut self, cx: &mut Context<'_>, to: &Transport) -> Poll<Result<u64, Failure>> {
        match ready!(self.poll_portion(cx, to)) {
            Ok(count) => Poll::Ready(Ok(count as u64)),
            Err(incomplete) => Poll::Ready(Err(self.fail(&incomplete))),
        }
    }
}
