//! Body of a request, read by a guest as it arrives. What the guest does not read
//! stays with the client, except for what the stream's window allows.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use netwasm_exchange::chunked::without_dropped;
use netwasm_exchange::content::Arriving;
use netwasm_exchange::failure::Failure;
use netwasm_exchange::head::Refusal;
use netwasm_net::thread::Thread;
use netwasm_net::transport::LINGER;

use crate::coalescing::Coalescing;
use crate::exchange::{MALFORMED, SLOW_BODY, TOO_LARGE};
use crate::h2::window::{Coming, Window};

/// Body of a request. See the module.
pub(super) struct Http2Body {
    thread: Rc<Thread>,
    state: RefCell<IncomingState>,
}

struct IncomingState {
    /// `None` once nobody reads it any more.
    stream: Option<Coalescing>,
    /// `None` once no more of the body arrives.
    coming: Option<Coming>,
    /// Length of the body in bytes, if told.
    length: Option<u64>,
    /// Bytes that have arrived.
    received: u64,
    end: Option<IncomingEnd>,
    /// True if a refusal was reported.
    told: bool,
    /// True if the client waits for `100 Continue`.
    expects_continue: bool,
    /// True if the guest wants the body for which the client waits.
    wants_continue: bool,
    /// Deadline of the next piece; `None` if the guest does not wait for one.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Time at which the guest got the last piece; at first, the body's start.
    moved: Instant,
    /// True if the guest has begun to read.
    begun: bool,
    /// True if an event guest reads the body. It drops the body at its end.
    by_events: bool,
    /// True if the exchange is over: an event guest gets no more of the body.
    closed: bool,
    /// Waker of the exchange, for the end of the body.
    watcher: Option<Waker>,
    /// Waker of the guest, for the loss of the body.
    reader: Option<Waker>,
}

/// End of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IncomingEnd {
    Whole,
    /// The client is answered with this refusal.
    Refused(Refusal),
    Lost,
}

impl std::fmt::Debug for Http2Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http2Body").finish_non_exhaustive()
    }
}

impl Http2Body {
    pub(super) fn new(
        thread: &Rc<Thread>,
        stream: RecvStream,
        length: Option<u64>,
        expects_continue: bool,
        window: &Rc<Window>,
    ) -> Rc<Self> {
        let whole = stream.is_end_stream();
        let coming = (!whole).then(|| window.begin());
        let expects_continue = expects_continue && !whole;
        let stream = Coalescing::new(stream);
        let body = Self::of(thread, Some(stream), coming, length, expects_continue);
        if !whole {
            window.watch(&body);
        }
        body
    }

    /// Returns the body of a request that has arrived whole.
    pub(super) fn whole(thread: &Rc<Thread>) -> Rc<Self> {
        Self::of(thread, None, None, None, false)
    }

    /// Returns a body; a whole one if it is not coming.
    fn of(
        thread: &Rc<Thread>,
        stream: Option<Coalescing>,
        coming: Option<Coming>,
        length: Option<u64>,
        expects_continue: bool,
    ) -> Rc<Self> {
        let end = coming.is_none().then_some(IncomingEnd::Whole);
        Rc::new(Self {
            thread: Rc::clone(thread),
            state: RefCell::new(IncomingState {
                stream,
                coming,
                length,
                received: 0,
                end,
                told: false,
                expects_continue,
                wants_continue: false,
                deadline: None,
                moved: Instant::now(),
                begun: false,
                by_events: false,
                closed: false,
                watcher: None,
                reader: None,
            }),
        })
    }

    /// Ready when the body has ended. Registers the exchange's waker until
    /// then.
    pub(super) fn poll_end(&self, cx: &Context<'_>) -> Poll<IncomingEnd> {
        let mut state = self.state.borrow_mut();
        match state.end {
            Some(end) => Poll::Ready(end),
            None => {
                state.watcher = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Returns why the rest of the body is refused, if it is. Reported once.
    pub(super) fn take_refusal(&self) -> Option<Refusal> {
        let mut state = self.state.borrow_mut();
        match state.end {
            Some(IncomingEnd::Refused(refusal)) => {
                (!std::mem::replace(&mut state.told, true)).then_some(refusal)
            }
            Some(IncomingEnd::Whole | IncomingEnd::Lost) | None => None,
        }
    }

    /// Registers the exchange's waker for the end of the body, or of the guest's
    /// reading.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        self.state.borrow_mut().watcher = Some(cx.waker().clone());
    }

    /// Returns the time at which the guest got the last piece; now, if it waits
    /// for one.
    pub(super) fn moved(&self) -> Instant {
        let state = self.state.borrow();
        match state.deadline {
            Some(_) => Instant::now(),
            None => state.moved,
        }
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

    /// Returns the time at which the rest is given up once the response was
    /// sent: the guest takes nothing within `--body-timeout`, or the client
    /// sends nothing. Some clients stop sending at the response (curl 7) and
    /// then wait.
    pub(super) fn given_up_at(&self) -> Instant {
        let state = self.state.borrow();
        let limit = self.thread.env.limits.http.body_timeout;
        match &state.deadline {
            Some(deadline) => deadline.deadline() - limit + LINGER.min(limit),
            None => state.moved + limit,
        }
    }

    /// Returns true if the guest waits for a piece; `None` once the body has ended.
    pub(super) fn is_awaited(&self) -> Option<bool> {
        let state = self.state.borrow();
        state.end.is_none().then_some(state.deadline.is_some())
    }

    /// Wakes the exchange.
    fn wake(&self) {
        self.state.borrow_mut().wake();
    }

    /// Ends the body unless it has ended: nobody wants it any more. Returns the
    /// stream of its rest.
    pub(super) fn stop(&self) -> Option<RecvStream> {
        let mut state = self.state.borrow_mut();
        state.end.get_or_insert(IncomingEnd::Lost);
        state.closed = true;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        state.deadline = None;
        state.coming = None;
        state.stream.take().map(Coalescing::into_rest)
    }

    /// Joins small frames that have arrived. A guest that waits for them was woken, or
    /// is woken by the next one.
    pub(super) fn join(&self) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if state.end.is_some() {
            return;
        }
        if let Some(stream) = &mut state.stream {
            let waiting = state.deadline.as_ref().and(state.reader.as_ref());
            stream.hold(&mut Context::from_waker(waiting.unwrap_or(Waker::noop())));
        }
    }

    /// True if the body's length is known and the client is sending it.
    pub(super) fn is_coming(&self) -> bool {
        let state = self.state.borrow();
        state.end.is_none() && state.length.is_some() && !state.expects_continue
    }

    /// True if the client waits for `100 Continue`.
    pub(super) fn expects_continue(&self) -> bool {
        self.state.borrow().expects_continue
    }

    /// True if `100 Continue` is due. Reported once.
    pub(super) fn take_continue(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let wanted = std::mem::take(&mut state.wants_continue);
        state.expects_continue &= !wanted;
        wanted
    }

    /// True if `100 Continue` is due before a response begins: the client waits
    /// for it, and the guest goes on to read. Reported once.
    pub(super) fn take_continue_for_reader(self: &Rc<Self>) -> bool {
        let reads = self.is_read();
        let mut state = self.state.borrow_mut();
        reads && std::mem::take(&mut state.expects_continue)
    }

    /// Returns the next piece, or the trailers.
    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.begun = true;
        if let Some(failure) = state.lost() {
            return Poll::Ready(Some(Err(failure)));
        }
        if state.end.is_some() {
            return Poll::Ready(None);
        }
        let limits = &self.thread.env.limits.http;
        let Some(stream) = &mut state.stream else {
            return Poll::Ready(Some(Err(Failure::ConnectionTerminated)));
        };
        match stream.poll_data(cx) {
            Poll::Ready(Some(Ok(piece))) => {
                state.deadline = None;
                state.moved = Instant::now();
                state.received += piece.len() as u64;
                if state.received > limits.max_body as u64 {
                    return state.fail(
                        IncomingEnd::Refused(TOO_LARGE),
                        Failure::HttpRequestBodySize(None),
                    );
                }
                if stream.is_at_end() {
                    state.ended(IncomingEnd::Whole);
                }
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            Poll::Ready(Some(Err(error))) => return state.broken(&error),
            Poll::Ready(None) => match stream.poll_trailers(cx) {
                Poll::Ready(Ok(trailers)) => {
                    state.ended(IncomingEnd::Whole);
                    let trailers = trailers.map(without_dropped);
                    return Poll::Ready(trailers.map(|it| Ok(Frame::trailers(it))));
                }
                Poll::Ready(Err(error)) => return state.broken(&error),
                Poll::Pending => {}
            },
            Poll::Pending => {}
        }
        if state.expects_continue && !state.wants_continue {
            state.wants_continue = true;
            state.wake();
        }
        if state.by_events && state.deadline.is_none() {
            // The exchange may wait for the guest.
            state.wake();
        }
        let deadline = state
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(limits.body_timeout)));
        match deadline.as_mut().poll(cx) {
            Poll::Pending => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Poll::Ready(()) => state.fail(
                IncomingEnd::Refused(SLOW_BODY),
                Failure::ConnectionReadTimeout,
            ),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.state.borrow().end == Some(IncomingEnd::Whole)
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.state.borrow();
        match state.length {
            Some(length) => SizeHint::with_exact(length.saturating_sub(state.received)),
            None => SizeHint::default(),
        }
    }
}

impl IncomingState {
    fn fail(
        &mut self,
        end: IncomingEnd,
        error: Failure,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        self.ended(end);
        Poll::Ready(Some(Err(error)))
    }

    /// Handles an error. `h2` resets the stream if the client breaks a rule.
    fn broken(&mut self, error: &h2::Error) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match error.is_reset() && error.is_library() {
            true => self.fail(IncomingEnd::Refused(MALFORMED), Failure::HttpProtocolError),
            false => self.fail(IncomingEnd::Lost, Failure::ConnectionTerminated),
        }
    }

    /// Returns why the guest gets no more of the body, if the body is lost.
    fn lost(&self) -> Option<Failure> {
        match self.end? {
            IncomingEnd::Refused(TOO_LARGE) => Some(Failure::HttpRequestBodySize(None)),
            IncomingEnd::Refused(MALFORMED) => Some(Failure::HttpProtocolError),
            IncomingEnd::Refused(_) => Some(Failure::ConnectionReadTimeout),
            IncomingEnd::Lost => Some(Failure::ConnectionTerminated),
            IncomingEnd::Whole if self.closed && self.by_events => {
                Some(Failure::ConnectionTerminated)
            }
            IncomingEnd::Whole => None,
        }
    }

    fn ended(&mut self, end: IncomingEnd) {
        self.end = Some(end);
        self.coming = None;
        self.deadline = None;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.wake();
        }
    }
}

/// The guest's end of a body.
pub(super) struct IncomingBody(pub(super) Rc<Http2Body>);

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        self.0.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl Arriving for IncomingBody {
    fn poll_lost(&self, cx: &Context<'_>) -> Poll<Failure> {
        let mut state = self.0.state.borrow_mut();
        match state.lost() {
            Some(failure) => Poll::Ready(failure),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for IncomingBody {
    fn drop(&mut self) {
        // Nobody waits for a piece any more.
        let mut state = self.0.state.borrow_mut();
        state.deadline = None;
        state.moved = Instant::now();
        drop(state);
        // The exchange may continue without the guest.
        self.0.wake();
    }
}
