//! Receiving half of a stream of HTTP/2, whose small DATA frames are joined while
//! nobody takes them.
//!
//! `h2` keeps each frame apart, and ends a connection, with all its streams, on
//! which too many small ones wait. Flow control counts their bytes alone, so a
//! peer that sends short messages does not break a rule by that, and one slow
//! reader would cost the others their streams.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;

/// Length below which `h2` counts a frame as small, in bytes.
pub(crate) const SMALL: usize = 256;

/// Maximum of a piece that was joined, in bytes: the largest frame that servers
/// send unasked.
const JOINED: usize = 16 << 10;

/// The receiving half of a stream.
#[derive(Debug)]
pub(crate) struct Coalescing {
    stream: RecvStream,
    /// Pieces that arrived while nobody took them. The stream's window, which is
    /// not opened for them, bounds them.
    held: VecDeque<Bytes>,
    /// Small ones after these, joined.
    joined: BytesMut,
}

impl Coalescing {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            held: VecDeque::new(),
            joined: BytesMut::new(),
        }
    }

    /// Returns the stream, of which nobody wants what is held.
    pub(crate) fn into_rest(mut self) -> RecvStream {
        while let Some(piece) = self.next_held() {
            self.taken(piece);
        }
        self.stream
    }

    /// True if all was taken, and no trailers follow.
    pub(crate) fn is_at_end(&self) -> bool {
        self.held.is_empty() && self.joined.is_empty() && self.stream.is_end_stream()
    }

    /// Returns the next bytes, and opens the window by them; `None` at the end of
    /// the data. A piece is empty only if the stream ends with it.
    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if let Some(piece) = self.next_held() {
            return Poll::Ready(Some(Ok(self.taken(piece))));
        }
        loop {
            match std::task::ready!(self.stream.poll_data(cx)) {
                Some(Ok(piece)) if piece.is_empty() && !self.stream.is_end_stream() => {}
                Some(Ok(piece)) => return Poll::Ready(Some(Ok(self.taken(piece)))),
                end => return Poll::Ready(end),
            }
        }
    }

    fn next_held(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.held.pop_front() {
            return Some(piece);
        }
        let length = self.joined.len().min(JOINED);
        (length > 0).then(|| self.joined.split_to(length).freeze())
    }

    fn taken(&mut self, piece: Bytes) -> Bytes {
        // An error shows in the next poll.
        let _ = self.stream.flow_control().release_capacity(piece.len());
        piece
    }

    /// Holds what arrives, as nobody takes it for now, and joins small frames.
    pub(crate) fn hold(&mut self, cx: &mut Context<'_>) {
        // The next poll returns the end and an error again.
        while let Poll::Ready(Some(Ok(piece))) = self.stream.poll_data(cx) {
            if piece.len() < SMALL {
                self.joined.extend_from_slice(&piece);
                continue;
            }
            if !self.joined.is_empty() {
                self.held.push_back(self.joined.split().freeze());
            }
            self.held.push_back(piece);
        }
    }

    /// Returns the trailers, once all data was taken.
    pub(crate) fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        self.stream.poll_trailers(cx)
    }
}
