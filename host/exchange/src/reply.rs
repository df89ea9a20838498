//! What a guest that awaits answers, between its instance and the connection:
//! the one puts a response in, the other takes it and sends it.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;

use crate::content::{BoxContent, Ended};
use crate::failure::Failure;

/// A response, the body of which is yet to come.
pub(crate) type Response = http::Response<BoxContent>;

/// Told when a response was sent, or why not.
pub type Sent = oneshot::Sender<Result<(), Failure>>;

/// What a guest answers.
pub(crate) type ReplyResult = Result<Answered, NoResponse>;

/// A response, with the ends of its futures.
pub struct Answered {
    /// The response.
    pub response: Response,
    /// Told when it was sent.
    pub sent: Option<Sent>,
    /// Trailers that come apart from the body.
    pub trailers: Option<Ended>,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoResponse {
    /// No instance could be made.
    NoInstance,
    /// The guest trapped; why was logged.
    Trapped,
    /// The guest took too long.
    TimedOut,
    /// The guest answered by an error, or not at all.
    Failed(String),
}

impl NoResponse {
    /// The status that a client gets for it.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoInstance => 503,
            Self::TimedOut => 504,
            Self::Trapped | Self::Failed(_) => 500,
        }
    }
}

/// One exchange, as both sides see it.
#[derive(Default)]
pub struct Reply {
    answer: RefCell<Option<ReplyResult>>,
    answered: Cell<bool>,
    /// Whether what is there of the response must not look whole.
    broken: Cell<bool>,
    /// Whether nothing more is put into the body.
    returned: Cell<bool>,
    /// Whether the connection is done with it.
    over: Cell<bool>,
    /// Whether the connection gave it up before its end.
    abandoned: Cell<bool>,
    connection: RefCell<Option<Waker>>,
    instance: RefCell<Option<Waker>>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

impl Reply {
    /// Answers, unless that was done before.
    pub fn answer(&self, answer: ReplyResult) {
        if !self.answered.replace(true) {
            *self.answer.borrow_mut() = Some(answer);
        }
        wake(&self.connection);
    }

    /// The instance has failed: there is no response, or not the end of it.
    pub fn fail(&self, reason: NoResponse) {
        self.broken.set(true);
        self.answer(Err(reason));
    }

    /// The guest's call has returned, and puts nothing more into the body.
    pub fn returned(&self) {
        self.returned.set(true);
        wake(&self.connection);
    }

    /// Whether both sides are done with it.
    pub fn is_done(&self) -> bool {
        self.over.get() && self.returned.get()
    }

    /// Gives it up before its end.
    pub fn abandon(&self) {
        self.abandoned.set(true);
        self.finish();
    }

    /// Whether the connection gave it up before its end.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.get()
    }

    /// Waits until the connection is done with it.
    pub fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        if self.over.get() {
            return Poll::Ready(());
        }
        keep(&self.instance, cx);
        Poll::Pending
    }

    /// What was answered.
    pub fn poll_answer(&self, cx: &Context<'_>) -> Poll<ReplyResult> {
        if let Some(answer) = self.answer.borrow_mut().take() {
            return Poll::Ready(answer);
        }
        self.watch(cx);
        Poll::Pending
    }

    /// Has the connection woken when something changes.
    pub fn watch(&self, cx: &Context<'_>) {
        keep(&self.connection, cx);
    }

    /// Whether what is there of the response must not look whole.
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Whether the handler's call has returned.
    pub fn has_returned(&self) -> bool {
        self.returned.get()
    }

    /// The connection is done with it.
    pub fn finish(&self) {
        self.over.set(true);
        wake(&self.instance);
    }
}

fn keep(place: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut place = place.borrow_mut();
    match &*place {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *place = Some(cx.waker().clone()),
    }
}

fn wake(place: &RefCell<Option<Waker>>) {
    let waker = place.borrow_mut().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}
