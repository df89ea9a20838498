//! The body of a request as a guest that awaits reads it. What it does not read
//! stays with the client, but for what the window of the stream allows.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use netwasm_exchange::chunked::without_dropped;
use netwasm_exchange::failure::Failure;
use netwasm_exchange::head::Refusal;
use netwasm_net::thread::Thread;
use netwasm_net::transport::LINGER;

use crate::exchange::{MALFORMED, SLOW_BODY, TOO_LARGE};
use crate::h2::window::{Coming, Window};

/// See the module.
pub(super) struct Incoming {
    thread: Rc<Thread>,
    state: RefCell<IncomingState>,
}

struct IncomingState {
    /// None once nobody reads it any more.
    stream: Option<RecvStream>,
    /// None once nothing more of it comes to wait here.
    coming: Option<Coming>,
    /// Bytes that are yet to come, where that is told.
    length: Option<u64>,
    /// Bytes that have come.
    received: u64,
    end: Option<IncomingEnd>,
    /// Whether the client waits to be told to go on.
    expects_continue: bool,
    /// Whether the guest wants what the client waits with.
    wants_continue: bool,
    /// Until when the next piece is to come; none while nobody asks for it.
    deadline: Option<Pin<Box<Sleep>>>,
    /// When the guest got the last piece; at first, when the body began.
    moved: Instant,
    /// True if the guest has begun to read it.
    begun: bool,
    /// The exchange, which is to know of an end.
    watcher: Option<Waker>,
}

/// How a body has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IncomingEnd {
    Whole,
    /// The client is to be told.
    Refused(Refusal),
    Lost,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}

impl Incoming {
    pub(super) fn new(
        thread: &Rc<Thread>,
        stream: RecvStream,
        length: Option<u64>,
        expects_continue: bool,
        window: &Rc<Window>,
    ) -> Rc<Self> {
        let whole = stream.is_end_stream();
        Rc::new(Self {
            thread: Rc::clone(thread),
            state: RefCell::new(IncomingState {
                stream: Some(stream),
                coming: (!whole).then(|| window.begin()),
                length,
                received: 0,
                end: whole.then_some(IncomingEnd::Whole),
                expects_continue: expects_continue && !whole,
                wants_continue: false,
                deadline: None,
                moved: Instant::now(),
                begun: false,
                watcher: None,
            }),
        })
    }

    /// How it has ended; until then, the exchange is woken when it does.
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

    /// When the guest got the last piece of it; now, where it waits for one.
    pub(super) fn moved(&self) -> Instant {
        let state = self.state.borrow();
        match state.deadline {
            Some(_) => Instant::now(),
            None => state.moved,
        }
    }

    /// True if the guest has begun to read it and has not let go of it.
    pub(super) fn is_read(self: &Rc<Self>) -> bool {
        self.state.borrow().begun && Rc::strong_count(self) > 1
    }

    /// When nobody is to wait for more of it once it has its answer: the guest
    /// takes nothing within `--body-timeout`, or the client sends nothing. Some
    /// clients stop where they have their answer (curl 7), and wait themselves.
    pub(super) fn given_up_at(&self) -> Instant {
        let state = self.state.borrow();
        let limit = self.thread.env.limits.http.body_timeout;
        match &state.deadline {
            Some(deadline) => deadline.deadline() - limit + LINGER.min(limit),
            None => state.moved + limit,
        }
    }

    /// Wakes the exchange.
    fn wake(&self) {
        self.state.borrow_mut().wake();
    }

    /// Ends it, where it has not ended yet: nobody wants it any more. Returns
    /// what is still to come of it.
    pub(super) fn stop(&self) -> Option<RecvStream> {
        let mut state = self.state.borrow_mut();
        state.end.get_or_insert(IncomingEnd::Lost);
        state.deadline = None;
        state.coming = None;
        state.stream.take()
    }

    /// Whether the client has told how much is to come, and sends it.
    pub(super) fn is_coming(&self) -> bool {
        let state = self.state.borrow();
        state.end.is_none() && state.length.is_some() && !state.expects_continue
    }

    /// Whether the client is to be told to go on; said once.
    pub(super) fn take_continue(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let wanted = std::mem::take(&mut state.wants_continue);
        state.expects_continue &= !wanted;
        wanted
    }

    /// The next piece of it, or its trailers.
    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.begun = true;
        match state.end {
            None => {}
            Some(IncomingEnd::Whole) => return Poll::Ready(None),
            Some(IncomingEnd::Refused(TOO_LARGE)) => {
                return Poll::Ready(Some(Err(Failure::HttpRequestBodySize(None))));
            }
            Some(IncomingEnd::Refused(MALFORMED)) => {
                return Poll::Ready(Some(Err(Failure::HttpProtocolError)));
            }
            Some(IncomingEnd::Refused(_)) => {
                return Poll::Ready(Some(Err(Failure::ConnectionReadTimeout)));
            }
            Some(IncomingEnd::Lost) => {
                return Poll::Ready(Some(Err(Failure::ConnectionTerminated)));
            }
        }
        let limits = &self.thread.env.limits.http;
        let Some(stream) = &mut state.stream else {
            return Poll::Ready(Some(Err(Failure::ConnectionTerminated)));
        };
        match stream.poll_data(cx) {
            Poll::Ready(Some(Ok(piece))) => {
                state.deadline = None;
                state.moved = Instant::now();
                let count = piece.len();
                state.received += count as u64;
                if state.received > limits.max_body as u64 {
                    return state.fail(
                        IncomingEnd::Refused(TOO_LARGE),
                        Failure::HttpRequestBodySize(None),
                    );
                }
                if stream.flow_control().release_capacity(count).is_err() {
                    return state.fail(IncomingEnd::Lost, Failure::ConnectionTerminated);
                }
                if stream.is_end_stream() {
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
        let deadline = state
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(limits.body_timeout)));
        match deadline.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
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

    /// `h2` resets the stream where the client breaks a rule.
    fn broken(&mut self, error: &h2::Error) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match error.is_reset() && error.is_library() {
            true => self.fail(IncomingEnd::Refused(MALFORMED), Failure::HttpProtocolError),
            false => self.fail(IncomingEnd::Lost, Failure::ConnectionTerminated),
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

/// The body as the guest has it.
pub(super) struct IncomingBody(pub(super) Rc<Incoming>);

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

impl Drop for IncomingBody {
    fn drop(&mut self) {
        // The exchange may go on without it.
        self.0.wake();
    }
}
