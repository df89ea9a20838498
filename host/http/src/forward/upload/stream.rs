//! Sending of a body on an HTTP/2 stream, as its windows allow.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;

use super::replay::Replay;
use super::{ForwardedUpload, NextPart, PIECE, Source, State, Unsent};
use crate::forward::compose::SentFraming;

impl ForwardedUpload {
    /// Sends what there is of the body, after the head. Ready once nothing is
    /// left to send. `moved` is set if something was sent.
    ///
    /// # Errors
    /// Fails if the client's part of the body does not arrive.
    pub(in crate::forward) fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
        moved: &mut bool,
    ) -> Poll<Result<(), Unsent>> {
        self.waits_for_client = false;
        if self.state == State::Fresh {
            *moved = true;
            self.begin_body();
            if self.framing == SentFraming::None {
                // The head has said so.
                self.state = State::Ended;
            } else if matches!(self.source, Source::Coming(_)) {
                self.replay.get_or_insert_with(Replay::default);
            }
        }
        loop {
            if matches!(self.state, State::Ended | State::Stopped) {
                return Poll::Ready(Ok(()));
            }
            if stream.poll_reset(cx).is_ready() {
                // The server takes no more of it.
                self.stop();
                continue;
            }
            if self.state == State::Held {
                ready!(self.poll_patience(cx));
            }
            if !self.pending.is_empty() {
                ready!(self.poll_pending(cx, stream, moved));
                continue;
            }
            let Poll::Ready(next) = self.poll_next(cx) else {
                self.waits_for_client = true;
                return Poll::Pending;
            };
            match next? {
                NextPart::Piece(piece) if piece.is_empty() && self.is_whole() => {
                    self.end_stream(stream.send_data(Bytes::new(), true).is_ok());
                }
                NextPart::Piece(piece) => self.pending = piece,
                NextPart::End(trailers) => {
                    let trailers = trailers.filter(|trailers| !trailers.is_empty());
                    let sent = match trailers {
                        Some(trailers) => stream.send_trailers(trailers),
                        None => stream.send_data(Bytes::new(), true),
                    };
                    self.end_stream(sent.is_ok());
                }
            }
            *moved = true;
        }
    }

    /// Notes that the end was sent, or could not be.
    fn end_stream(&mut self, sent: bool) {
        self.state = match sent {
            true => State::Ended,
            // The stream's fate shows in the response.
            false => State::Stopped,
        };
    }

    /// Sends as much of a piece as there is room for. Ready if that was
    /// something, or nothing more is taken.
    fn poll_pending(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
        moved: &mut bool,
    ) -> Poll<()> {
        stream.reserve_capacity(self.pending.len().min(PIECE));
        while stream.capacity() == 0 {
            if !matches!(ready!(stream.poll_capacity(cx)), Some(Ok(_))) {
                self.stop();
                return Poll::Ready(());
            }
        }
        let room = stream.capacity().min(self.pending.len()).min(PIECE);
        let piece = self.pending.split_to(room);
        let ends = self.pending.is_empty() && self.is_whole();
        *moved = true;
        match stream.send_data(piece, ends) {
            Ok(()) if ends => self.state = State::Ended,
            Ok(()) => {}
            Err(_) => self.stop(),
        }
        Poll::Ready(())
    }
}
