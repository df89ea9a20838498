//! The reply of an async guest, between its instance and the connection: the
//! instance puts a response in, the connection takes and sends it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::Method;
use http::uri::PathAndQuery;
use netwasm_base::address::Address;
use netwasm_base::trace::Trace;
use tokio::sync::oneshot;

use crate::answer::Interim;
use crate::content::{BoxContent, Ended};
use crate::failure::Failure;
use crate::interim::Interims;

/// A response whose body is yet to come.
pub(crate) type Response = http::Response<BoxContent>;

/// Told when a response was sent, or why not.
pub type Sent = oneshot::Sender<Result<(), Failure>>;

/// Outcome of a guest's call.
pub(crate) type ReplyResult = Result<Answered, NoResponse>;

/// A response, with the ends of its futures.
pub struct Answered {
    /// The response.
    pub response: Response,
    /// Sender to be told when the response was sent.
    pub sent: Option<Sent>,
    /// Receiver of trailers that come apart from the body.
    pub trailers: Option<Ended>,
}

/// Reason why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoResponse {
    /// No instance could be made.
    NoInstance,
    /// The guest trapped; why was logged.
    Trapped,
    /// The guest took too long.
    TimedOut,
    /// The guest answered with an error, or not at all.
    Failed(String),
    /// The upstream gave none, so that the client gets this status; why was
    /// logged.
    OfUpstream(u16),
}

impl NoResponse {
    /// Returns the status for the client.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoInstance => 503,
            Self::TimedOut => 504,
            Self::Trapped | Self::Failed(_) => 500,
            Self::OfUpstream(status) => *status,
        }
    }
}

/// A request as the log shows it. Cloning its parts copies no text.
#[derive(Clone, Debug)]
pub struct Requested {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: Option<PathAndQuery>,
}

/// One exchange, shared by the instance and the connection.
#[derive(Default)]
pub struct Reply {
    answer: RefCell<Option<ReplyResult>>,
    answered: Cell<bool>,
    interims: Interims,
    /// True if the response is broken: the client must not take it for
    /// complete.
    broken: Cell<bool>,
    /// True if the guest's call has returned: nothing more is put into the body.
    returned: Cell<bool>,
    /// True if the connection is done with the exchange.
    over: Cell<bool>,
    /// True if the connection abandoned the exchange before its end.
    abandoned: Cell<bool>,
    connection: RefCell<Option<Waker>>,
    instance: RefCell<Option<Waker>>,
    /// The client, for the log.
    peer: Option<Address>,
    /// The request, for the log.
    asked: Option<Requested>,
    /// Span of the request, if requests are traced.
    trace: Option<Rc<Trace>>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

impl Reply {
    /// Makes the place for an answer to a client, whose request has this span.
    #[must_use]
    pub fn to(peer: Address, asked: Requested, trace: Option<Rc<Trace>>) -> Self {
        Self {
            peer: Some(peer),
            asked: Some(asked),
            trace,
            ..Self::default()
        }
    }

    /// Returns the client, if it is known.
    pub fn peer(&self) -> Option<&Address> {
        self.peer.as_ref()
    }

    /// Returns the request, if it is known.
    pub fn asked(&self) -> Option<&Requested> {
        self.asked.as_ref()
    }

    /// Returns the span of the request, if requests are traced.
    pub fn trace(&self) -> Option<&Rc<Trace>> {
        self.trace.as_ref()
    }

    /// Answers, unless that was done before.
    pub fn answer(&self, answer: ReplyResult) {
        if !self.answered.replace(true) {
            *self.answer.borrow_mut() = Some(answer);
        }
        wake(&self.connection);
    }

    /// Adds an interim response.
    ///
    /// # Errors
    /// Fails if too many wait, or if the request has had too many. The text says
    /// which.
    pub fn inform(&self, interim: Interim) -> Result<(), &'static str> {
        let added = self.interims.add(interim);
        wake(&self.connection);
        added
    }

    /// Takes the interim responses that wait to be sent.
    pub fn take_interim(&self) -> Vec<Interim> {
        self.interims.take()
    }

    /// Notes that the instance has failed: the response, or the end of it, is
    /// missing.
    pub fn fail(&self, reason: NoResponse) {
        self.broken.set(true);
        self.answer(Err(reason));
    }

    /// Notes that the guest's call has returned: nothing more is put into the
    /// body.
    pub fn returned(&self) {
        self.returned.set(true);
        wake(&self.connection);
    }

    /// True if both sides are done with the exchange.
    pub fn is_done(&self) -> bool {
        self.over.get() && self.returned.get()
    }

    /// Abandons the exchange before its end.
    pub fn abandon(&self) {
        self.abandoned.set(true);
        self.finish();
    }

    /// True if the connection abandoned the exchange before its end.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.get()
    }

    /// Waits until the connection is done with the exchange.
    pub fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        if self.over.get() {
            return Poll::Ready(());
        }
        keep(&self.instance, cx);
        Poll::Pending
    }

    /// Waits for the answer.
    pub fn poll_answer(&self, cx: &Context<'_>) -> Poll<ReplyResult> {
        if let Some(answer) = self.answer.borrow_mut().take() {
            return Poll::Ready(answer);
        }
        self.watch(cx);
        Poll::Pending
    }

    /// Registers the connection's task, to be woken when something changes.
    pub fn watch(&self, cx: &Context<'_>) {
        keep(&self.connection, cx);
    }

    /// True if the response is broken: the client must not take it for
    /// complete.
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// True if the guest's call has returned.
    pub fn has_returned(&self) -> bool {
        self.returned.get()
    }

    /// Notes that the connection is done with the exchange.
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
