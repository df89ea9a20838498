//! Body of an HTTP/1.1 request, read by a guest as it arrives. It is received from the
//! socket as the guest reads. What the guest does not read stays with the
//! client.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use netwasm_base::error::ConnectionError;
use netwasm_exchange::chunked::{Chunked, Fed};
use netwasm_exchange::content::Arriving;
use netwasm_exchange::failure::Failure;
use netwasm_exchange::head::Refusal;
use netwasm_net::portion::{Portion, Step};
use netwasm_net::thread::Tick;
use netwasm_net::transport::Transport;

/// Minimum of a body that is moved to a server natively, in bytes.
const MOVED: u64 = 64 << 10;

/// Rest of a body.
#[derive(Debug)]
pub(super) enum Remaining {
    /// Remaining bytes.
    Length(u64),
    Chunked(Chunked),
}

/// A body that arrives while it is read.
#[derive(Debug)]
pub(crate) struct Upload {
    transport: Rc<Transport>,
    state: RefCell<UploadState>,
}

#[derive(Debug)]
struct UploadState {
    remaining: Remaining,
    /// Input that is not used yet.
    kept: Vec<u8>,
    /// The part of the body that goes to a server natively.
    portion: Option<Portion>,
    /// True if none goes natively.
    is_copied: bool,
    trailers: Option<HeaderMap>,
    end: Option<UploadEnd>,
    /// True if the client waits for `100 Continue`.
    expects_continue: bool,
    /// True if the guest wants the body for which the client waits.
    wants_continue: bool,
    /// Deadline of the next piece; `None` if the guest does not wait for one.
    deadline: Option<Tick>,
    /// Time at which the guest got the last piece; at first, the body's start.
    moved: Tick,
    /// True if the guest has begun to read.
    begun: bool,
    /// True if the guest gets no more of the body.
    closed: bool,
    /// True if an event guest reads the body. It drops the body at its end.
    by_events: bool,
    /// Waker of a guest that does not read at present, for the loss of the body.
    watcher: Option<Waker>,
}

/// End of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UploadEnd {
    Whole,
    /// The client is answered with this refusal.
    Refused(Refusal),
    Lost(ConnectionError),
}

impl Upload {
    /// Returns the body of a request. `kept` is what has arrived of it, and
    /// perhaps of the next request.
    pub(super) fn new(
        transport: &Rc<Transport>,
        remaining: Remaining,
        kept: Vec<u8>,
        expects_continue: bool,
    ) -> Rc<Self> {
        let whole = matches!(remaining, Remaining::Length(0));
        Rc::new(Self {
            transport: Rc::clone(transport),
            state: RefCell::new(UploadState {
                remaining,
                portion: None,
                is_copied: false,
                trailers: None,
                end: whole.then_some(UploadEnd::Whole),
                expects_continue: expects_continue && kept.is_empty() && !whole,
                kept,
                wants_continue: false,
                deadline: None,
                moved: transport.thread().now(),
                begun: false,
                closed: false,
                by_events: false,
                watcher: None,
            }),
        })
    }

    pub(super) fn end(&self) -> Option<UploadEnd> {
        self.state.borrow().end.clone()
    }

    /// Ends the body, unless it has ended. The exchange is over.
    pub(super) fn stop(&self, end: UploadEnd) {
        let mut state = self.state.borrow_mut();
        state.end.get_or_insert(end);
        state.closed |= state.by_events;
        state.wake();
        drop(state);
        self.transport.wake_streams();
    }

    /// Notes that an event guest reads the body.
    pub(super) fn is_read_by_events(&self) {
        let mut state = self.state.borrow_mut();
        state.begun = true;
        state.by_events = true;
    }

    /// True if the guest has begun to read the body, and gets more of it. An
    /// event guest may have to take what has arrived.
    pub(super) fn is_read(self: &Rc<Self>) -> bool {
        let state = self.state.borrow();
        let more = state.end.is_none() || state.by_events;
        state.begun && more && Rc::strong_count(self) > 1
    }

    /// Gives the guest no more of the body. The connection reads the rest.
    pub(super) fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.closed = state.end.is_none() || state.by_events;
        state.wake();
        drop(state);
        self.transport.wake_streams();
    }

    /// Returns what arrived after the body's end.
    pub(super) fn take_rest(&self) -> Vec<u8> {
        std::mem::take(&mut self.state.borrow_mut().kept)
    }

    pub(super) fn deadline(&self) -> Option<Tick> {
        self.state.borrow().deadline
    }

    /// Returns the time at which the guest got the last piece; now, if it waits
    /// for one.
    pub(super) fn moved(&self) -> Tick {
        let state = self.state.borrow();
        match state.deadline {
            Some(_) => self.transport.thread().now(),
            None => state.moved,
        }
    }

    /// True if `100 Continue` is due. Reported once.
    pub(super) fn take_continue(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let wanted = state.wants_continue;
        state.wants_continue = false;
        state.expects_continue &= !wanted;
        wanted
    }

    /// True if `100 Continue` is due before a response begins: the client waits
    /// for it, and the guest goes on to read. Reported once.
    pub(super) fn take_continue_for_reader(self: &Rc<Self>) -> bool {
        let due = self.is_read() && self.expects_continue();
        if due {
            self.state.borrow_mut().expects_continue = false;
        }
        due
    }

    /// True if the client still waits for `100 Continue`.
    pub(super) fn expects_continue(&self) -> bool {
        self.state.borrow().expects_continue
    }

    /// Returns the next piece; `None` once the body has ended in any way.
    pub(super) fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.state.borrow_mut();
        state.end_portion();
        loop {
            if state.end.is_some() {
                return Poll::Ready(None);
            }
            let piece = if state.kept.is_empty() {
                let thread = Rc::clone(self.transport.thread());
                let mut scratch = thread.scratch.borrow_mut();
                match self.transport.poll_receive_piece(cx, &mut scratch) {
                    Poll::Pending => {
                        self.wait(&mut state);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(received)) if received.is_end() => {
                        state.end = Some(UploadEnd::Lost(ConnectionError::Reset));
                        self.transport.nudge();
                        return Poll::Ready(None);
                    }
                    Poll::Ready(Err(reason)) => {
                        state.end = Some(UploadEnd::Lost(reason));
                        self.transport.nudge();
                        return Poll::Ready(None);
                    }
                    Poll::Ready(Ok(received)) => state.take(scratch.get(received)),
                }
            } else {
                state.take_kept()
            };
            state.deadline = None;
            state.moved = self.transport.thread().now();
            if state.end.is_some() {
                self.transport.nudge();
            }
            if !piece.is_empty() {
                return Poll::Ready(Some(piece));
            }
        }
    }

    /// Moves some of the body to a server natively. See
    /// [`Arriving::poll_move`].
    fn poll_move(&self, cx: &mut Context<'_>, to: &Transport) -> Poll<Result<u64, Failure>> {
        let mut state = self.state.borrow_mut();
        let Remaining::Length(remaining) = state.remaining else {
            return Poll::Ready(Ok(0));
        };
        if state.end.is_some() || !state.kept.is_empty() || state.is_copied {
            return Poll::Ready(Ok(0));
        }
        ready!(self.transport.poll_turn_to_receive(cx));
        let mut portion = match state.portion.take() {
            Some(portion) => portion,
            None if remaining < MOVED => return Poll::Ready(Ok(0)),
            None => match Portion::begin(&self.transport, to, remaining) {
                Some(portion) => portion,
                None => {
                    state.is_copied = true;
                    return Poll::Ready(Ok(0));
                }
            },
        };
        let polled = portion.poll(cx, &self.transport, to);
        let waits_for_client = polled.is_pending() && !portion.holds();
        state.portion = Some(portion);
        match polled {
            Poll::Pending => {
                if waits_for_client {
                    self.wait(&mut state);
                }
                Poll::Pending
            }
            Poll::Ready(Ok(Step::Moved(count))) => {
                let left = remaining.saturating_sub(count as u64);
                state.remaining = Remaining::Length(left);
                state.deadline = None;
                state.moved = self.transport.thread().now();
                self.transport.note_received(count);
                if left == 0 {
                    state.portion = None;
                    state.end = Some(UploadEnd::Whole);
                    self.transport.nudge();
                }
                Poll::Ready(Ok(count as u64))
            }
            Poll::Ready(Ok(Step::Copy)) => {
                state.is_copied = true;
                state.end_portion();
                Poll::Ready(Ok(0))
            }
            Poll::Ready(Err(reason)) => {
                state.end = Some(UploadEnd::Lost(reason));
                self.transport.nudge();
                Poll::Ready(Err(Failure::ConnectionTerminated))
            }
        }
    }

    /// Starts the wait for the next piece.
    fn wait(&self, state: &mut UploadState) {
        let begins = state.deadline.is_none();
        if begins {
            let thread = self.transport.thread();
            let limit = thread.env.limits.http.body_timeout;
            state.deadline = Some(thread.tick_after(limit));
        }
        if state.expects_continue && !state.wants_continue {
            state.wants_continue = true;
        }
        if begins {
            // The driver sets the alarm and sends `100 Continue`.
            self.transport.nudge();
        }
    }
}

impl UploadState {
    /// Takes the rest of the body as it arrives. What was on its way natively is
    /// not part of that.
    fn end_portion(&mut self) {
        if let Some(portion) = self.portion.take() {
            self.remaining = Remaining::Length(portion.left());
            if portion.left() == 0 {
                self.end.get_or_insert(UploadEnd::Whole);
            }
        }
    }

    fn wake(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.wake();
        }
    }

    /// Returns why the guest gets no more of the body, if the body is lost.
    fn lost(&self) -> Option<Failure> {
        match &self.end {
            Some(UploadEnd::Refused(refusal)) => Some(match refusal.status {
                413 => Failure::HttpRequestBodySize(None),
                408 => Failure::ConnectionReadTimeout,
                _ => Failure::HttpProtocolError,
            }),
            Some(UploadEnd::Lost(ConnectionError::Timeout(_))) => {
                Some(Failure::ConnectionReadTimeout)
            }
            Some(UploadEnd::Lost(_)) => Some(Failure::ConnectionTerminated),
            Some(UploadEnd::Whole) | None => self.closed.then_some(Failure::ConnectionTerminated),
        }
    }

    fn take_kept(&mut self) -> Bytes {
        let kept = std::mem::take(&mut self.kept);
        match &mut self.remaining {
            Remaining::Length(remaining) if kept.len() as u64 <= *remaining => {
                *remaining -= kept.len() as u64;
                if *remaining == 0 {
                    self.end = Some(UploadEnd::Whole);
                }
                Bytes::from(kept)
            }
            _ => self.take(&kept),
        }
    }

    /// Returns the part of a piece that belongs to the body, and keeps the
    /// rest.
    fn take(&mut self, piece: &[u8]) -> Bytes {
        let (body, used) = match &mut self.remaining {
            Remaining::Length(remaining) => {
                let length = usize::try_from(*remaining).unwrap_or(usize::MAX);
                let body = piece.get(..length).unwrap_or(piece);
                *remaining -= body.len() as u64;
                if *remaining == 0 {
                    self.end = Some(UploadEnd::Whole);
                }
                (Bytes::copy_from_slice(body), body.len())
            }
            Remaining::Chunked(chunked) => {
                let mut body = Vec::with_capacity(piece.len());
                match chunked.feed(piece, &mut body) {
                    Ok(Fed { consumed, done }) => {
                        if done {
                            self.end = Some(UploadEnd::Whole);
                            self.trailers = header_map(chunked.trailers());
                        }
                        (Bytes::from(body), consumed)
                    }
                    Err(refusal) => {
                        self.end = Some(UploadEnd::Refused(refusal));
                        return Bytes::new();
                    }
                }
            }
        };
        let rest = piece.get(used..).unwrap_or_default();
        self.kept.extend_from_slice(rest);
        body
    }
}

/// Converts trailers for a guest.
pub(super) fn header_map(trailers: &[(String, Vec<u8>)]) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in trailers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(value),
        ) {
            // Trailers beyond the map's capacity are left out.
            let _ = map.try_append(name, value);
        }
    }
    (!map.is_empty()).then_some(map)
}

/// The guest's end of a body.
#[derive(Debug)]
pub(super) struct UploadBody(pub(super) Rc<Upload>);

impl Body for UploadBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let upload = &self.0;
        let mut state = upload.state.borrow_mut();
        state.begun = true;
        if state.closed {
            return Poll::Ready(state.lost().map(Err));
        }
        drop(state);
        let piece = std::task::ready!(upload.poll_piece(cx));
        if let Some(piece) = piece {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let mut state = upload.state.borrow_mut();
        Poll::Ready(match state.lost() {
            Some(failure) => Some(Err(failure)),
            None => state.trailers.take().map(|it| Ok(Frame::trailers(it))),
        })
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.state.borrow();
        state.end == Some(UploadEnd::Whole) && state.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.state.borrow().remaining {
            Remaining::Length(length) => SizeHint::with_exact(length),
            Remaining::Chunked(_) => SizeHint::default(),
        }
    }
}

impl Arriving for UploadBody {
    fn poll_move(&mut self, cx: &mut Context<'_>, to: &Transport) -> Poll<Result<u64, Failure>> {
        let state = self.0.state.borrow();
        if state.closed {
            return Poll::Ready(Ok(0));
        }
        drop(state);
        self.0.poll_move(cx, to)
    }

    fn poll_lost(&self, cx: &Context<'_>) -> Poll<Failure> {
        let mut state = self.0.state.borrow_mut();
        match state.lost() {
            Some(failure) => Poll::Ready(failure),
            None => {
                state.watcher = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for UploadBody {
    fn drop(&mut self) {
        // Nobody waits for a piece any more.
        let mut state = self.0.state.borrow_mut();
        state.deadline = None;
        state.moved = self.0.transport.thread().now();
        drop(state);
        // The connection may continue without the guest.
        self.0.transport.nudge();
    }
}
