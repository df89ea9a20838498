//! The body of a forwarded request, on its way to the server.

mod replay;
mod stream;

use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};
use tokio::time::Sleep;

use netwasm_exchange::answer::Fields;
use netwasm_exchange::content::RequestBody;
use netwasm_exchange::failure::Failure;
use netwasm_net::transport::Transport;

use crate::forward::compose::SentFraming;
use crate::forward::upload::replay::Replay;
use crate::response::write_trailers;

/// Time after which a body is sent though the server has not said
/// `100 Continue`, which old ones never do: RFC 9110, section 10.1.1.
const PATIENCE: Duration = Duration::from_secs(1);

/// Maximum of a piece of a body that is at hand, or given to a stream at once, in
/// bytes.
const PIECE: usize = 64 << 10;

/// A request's body, and how much of it was sent.
#[derive(Debug)]
pub(super) struct ForwardedUpload {
    source: Source,
    framing: SentFraming,
    state: State,
    /// Waits for the server's `100 Continue`.
    patience: Option<Pin<Box<Sleep>>>,
    expects: bool,
    /// Bytes that may still come, of these.
    room: u64,
    most: u64,
    /// Part of a piece for which a stream has no room yet.
    pending: Bytes,
    /// The body so far, for a stream that may be refused.
    replay: Option<Replay>,
    /// True if the client is the one that has to go on.
    waits_for_client: bool,
}

/// Place from which the body comes.
pub(super) enum Source {
    Nothing,
    /// All of it, with its trailers.
    AtHand {
        bytes: Bytes,
        sent: usize,
        trailers: Fields,
    },
    Coming(RequestBody),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was sent, not even the head.
    Fresh,
    /// The head was sent, and the server has yet to say `100 Continue`.
    Held,
    Flowing,
    /// All was given to the transport.
    Ended,
    /// The rest is not sent: the server takes no more.
    Stopped,
}

/// Why a body cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The client has left, or was too slow or too eager.
    Client,
    /// It is larger than the handler allows.
    TooLarge,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Source {
    /// Returns how the body is framed.
    pub(super) fn framing(&self) -> SentFraming {
        match self {
            Self::Nothing => SentFraming::None,
            Self::AtHand { trailers, .. } if !trailers.is_empty() => SentFraming::Chunked,
            Self::AtHand { bytes, .. } if bytes.is_empty() => SentFraming::None,
            Self::AtHand { bytes, .. } => SentFraming::Length(bytes.len() as u64),
            Self::Coming(body) => match body.size_hint().exact() {
                Some(length) => SentFraming::Length(length),
                None => SentFraming::Chunked,
            },
        }
    }

    /// Returns the size of the body, as far as it is known, in bytes.
    fn size(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::AtHand { bytes, .. } => bytes.len() as u64,
            Self::Coming(body) => body.size_hint().lower(),
        }
    }
}

impl ForwardedUpload {
    /// `expects` is true if the client waits for `100 Continue`.
    pub(super) fn new(source: Source, expects: bool) -> Self {
        Self {
            framing: source.framing(),
            source,
            state: State::Fresh,
            patience: None,
            expects,
            room: u64::MAX,
            most: u64::MAX,
            pending: Bytes::new(),
            replay: None,
            waits_for_client: false,
        }
    }

    /// Limits the size of a body of which nothing was sent.
    ///
    /// # Errors
    /// Fails if it is known to be larger.
    pub(super) fn limit(&mut self, most: u64) -> Result<(), Unsent> {
        self.room = most;
        self.most = most;
        match self.source.size() <= most {
            true => Ok(()),
            false => Err(Unsent::TooLarge),
        }
    }

    /// Returns how the body is framed.
    pub(super) fn framing(&self) -> SentFraming {
        self.framing
    }

    /// True if the client waits for `100 Continue`, or has waited.
    pub(super) fn expects(&self) -> bool {
        self.expects
    }

    /// True if all of the request was given to the transport.
    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// True if nothing can be sent until more of the body comes from the client.
    pub(super) fn waits_for_client(&self) -> bool {
        self.waits_for_client
    }

    /// Prepares for another attempt. Returns false if some of the body is gone.
    pub(super) fn rewind(&mut self) -> bool {
        match &mut self.source {
            _ if self.state == State::Fresh => return true,
            Source::Nothing => {}
            Source::AtHand { sent, .. } => *sent = 0,
            Source::Coming(_) if self.state == State::Held => {}
            Source::Coming(_) => match &mut self.replay {
                Some(replay) => replay.rewind(),
                None => return false,
            },
        }
        self.pending = Bytes::new();
        self.waits_for_client = false;
        self.room = self.most;
        self.state = State::Fresh;
        self.patience = None;
        true
    }

    /// Lets the body go on, as the server wants it.
    pub(super) fn goes_on(&mut self) {
        if self.state == State::Held {
            self.state = State::Flowing;
            self.patience = None;
        }
    }

    /// Sends nothing of a body that the server has not asked for: it has
    /// answered.
    pub(super) fn is_answered(&mut self) {
        self.replay = None;
        if self.state == State::Held {
            self.stop();
        }
    }

    /// Sends no more of the body.
    pub(super) fn stop(&mut self) {
        if self.state != State::Ended {
            self.state = State::Stopped;
        }
    }

    /// Sends the head, and what there is of the body. Ready once nothing is left
    /// to send. `high` is the most that may be queued before the client waits,
    /// in bytes. `moved` is set if something was sent.
    ///
    /// # Errors
    /// Fails if the client's part of the body does not arrive, or is too large.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        transport: &Transport,
        head: &[u8],
        high: u64,
        moved: &mut bool,
    ) -> Poll<Result<(), Unsent>> {
        self.waits_for_client = false;
        if self.state == State::Fresh {
            *moved = true;
            self.begin(cx, transport, head)?;
        }
        loop {
            match transport.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(reason)) => {
                    // Words that the server has said before may still be read.
                    transport.fail(reason);
                    self.stop();
                }
                Poll::Pending if transport.queued() > high => return Poll::Pending,
                Poll::Pending => {}
            }
            if transport.has_failed() {
                self.stop();
            }
            match self.state {
                State::Ended if transport.queued() > 0 => return Poll::Pending,
                State::Ended | State::Stopped => return Poll::Ready(Ok(())),
                State::Held => ready!(self.poll_patience(cx)),
                State::Fresh | State::Flowing => {}
            }
            let native = match self.poll_move(cx, transport) {
                Poll::Ready(native) => native?,
                Poll::Pending => {
                    self.waits_for_client = !transport.waits_for_room();
                    return Poll::Pending;
                }
            };
            if let Some(count) = native {
                *moved |= count > 0;
                continue;
            }
            let Poll::Ready(next) = self.poll_next(cx) else {
                self.waits_for_client = transport.queued() == 0;
                return Poll::Pending;
            };
            let next = next?;
            *moved = true;
            self.send(transport, &[], next);
        }
    }

    /// Moves some of the body natively, if its length is known. Returns `None` if
    /// it is to be copied.
    fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        transport: &Transport,
    ) -> Poll<Result<Option<u64>, Unsent>> {
        let Source::Coming(body) = &mut self.source else {
            return Poll::Ready(Ok(None));
        };
        let alone = transport.queued() == 0 && self.replay.is_none();
        if !alone || !matches!(self.framing, SentFraming::Length(_)) {
            return Poll::Ready(Ok(None));
        }
        let moved = ready!(body.poll_move(cx, transport)).map_err(|_| Unsent::Client)?;
        if moved == 0 {
            return Poll::Ready(Ok(None));
        }
        if body.is_end_stream() {
            self.state = State::Ended;
        }
        Poll::Ready(Ok(Some(moved)))
    }

    /// Sends the head, with what is at hand of the body.
    fn begin(
        &mut self,
        cx: &mut Context<'_>,
        transport: &Transport,
        head: &[u8],
    ) -> Result<(), Unsent> {
        self.begin_body();
        if self.state == State::Held {
            transport.write(head);
            return Ok(());
        }
        match self.poll_next(cx) {
            Poll::Ready(next) => self.send(transport, head, next?),
            Poll::Pending => transport.write(head),
        }
        Ok(())
    }

    /// Lets the body flow, unless the client waits for `100 Continue`.
    fn begin_body(&mut self) {
        self.state = State::Flowing;
        if self.expects {
            self.state = State::Held;
            self.patience = Some(Box::pin(tokio::time::sleep(PATIENCE)));
        }
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(patience) = &mut self.patience {
            ready!(patience.as_mut().poll(cx));
        }
        self.goes_on();
        Poll::Ready(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<NextPart, Unsent>> {
        Poll::Ready(Ok(match &mut self.source {
            Source::Nothing => NextPart::End(None),
            Source::AtHand {
                bytes,
                sent,
                trailers,
            } => {
                let end = bytes.len().min(*sent + PIECE);
                let piece = bytes.slice(*sent..end);
                *sent = end;
                match piece.is_empty() {
                    false => NextPart::Piece(piece),
                    true => NextPart::End(Some(to_map(trailers))),
                }
            }
            Source::Coming(body) => match ready!(poll_coming(body, &mut self.replay, cx)) {
                None => NextPart::End(None),
                Some(Err(_)) => return Poll::Ready(Err(Unsent::Client)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => {
                        let room = self.room.checked_sub(piece.len() as u64);
                        self.room = room.ok_or(Unsent::TooLarge)?;
                        NextPart::Piece(piece)
                    }
                    Err(frame) => NextPart::End(frame.into_trailers().ok()),
                },
            },
        }))
    }

    /// Sends a piece, or the end, after the rest of the head.
    fn send(&mut self, transport: &Transport, head: &[u8], next: NextPart) {
        let chunked = self.framing == SentFraming::Chunked;
        match next {
            NextPart::Piece(piece) if piece.is_empty() => {
                if !head.is_empty() {
                    transport.write(head);
                }
            }
            NextPart::Piece(piece) if chunked => {
                let mut before = Vec::with_capacity(head.len() + 16);
                before.extend_from_slice(head);
                // Writing to memory cannot fail.
                let _ = write!(before, "{:x}\r\n", piece.len());
                transport.write_vectored(&[&before, &piece, b"\r\n"]);
            }
            NextPart::Piece(piece) if head.is_empty() => transport.write(&piece),
            NextPart::Piece(piece) => transport.write_vectored(&[head, &piece]),
            NextPart::End(trailers) => {
                self.state = State::Ended;
                if chunked {
                    let mut end = head.to_vec();
                    end.extend_from_slice(b"0\r\n");
                    write_trailers(trailers.as_ref(), &mut end);
                    end.extend_from_slice(b"\r\n");
                    transport.write(&end);
                } else if !head.is_empty() {
                    transport.write(head);
                }
            }
        }
        let tells_length = self.framing != SentFraming::Chunked;
        if tells_length && self.is_whole() && self.state == State::Flowing {
            self.state = State::Ended;
        }
    }

    /// True if nothing of the body is left, nor trailers.
    fn is_whole(&self) -> bool {
        match &self.source {
            Source::Nothing => true,
            Source::AtHand {
                bytes,
                sent,
                trailers,
            } => *sent == bytes.len() && trailers.is_empty(),
            Source::Coming(body) => {
                let replayed = self.replay.as_ref().is_none_or(Replay::is_over);
                replayed && body.is_end_stream()
            }
        }
    }
}

/// Rest of a body.
enum NextPart {
    Piece(Bytes),
    End(Option<HeaderMap>),
}

/// Returns what follows of a body that is arriving.
fn poll_coming(
    body: &mut RequestBody,
    replay: &mut Option<Replay>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
    if let Some(frame) = replay.as_mut().and_then(Replay::next) {
        return Poll::Ready(Some(Ok(frame)));
    }
    let frame = ready!(Pin::new(body).poll_frame(cx));
    if let Some(Ok(frame)) = &frame {
        replay::note(replay, frame);
    }
    Poll::Ready(frame)
}

fn to_map(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = http::HeaderName::from_bytes(name.as_bytes());
        let value = http::HeaderValue::from_bytes(value);
        if let (Ok(name), Ok(value)) = (name, value) {
            // Trailers beyond the map's capacity are left out.
            let _ = map.try_append(name, value);
        }
    }
    map
}
