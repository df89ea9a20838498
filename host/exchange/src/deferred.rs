//! An answer that a handler gives later, between its instance and the
//! connection, and the interim responses before it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::answer::{Answer, Interim};
use crate::forward::Forward;
use crate::handler::Awaiting;
use crate::interim::Interims;
use crate::reply::Reply;

/// An answer that a handler gives later.
pub struct Deferred {
    state: RefCell<DeferredState>,
    interims: Interims,
    /// Tells the handler that nobody waits any more.
    on_abandon: Cell<Option<Box<dyn FnOnce()>>>,
}

enum DeferredState {
    Waiting(Option<Waker>),
    /// `None` if the handler is gone; the reason was logged.
    Given(Option<Settled>),
    /// The connection has the answer, or waits no more.
    Over,
}

/// A handler's decision about a request that it has deferred.
#[derive(Debug)]
pub enum Settled {
    /// The answer. Its body may be a stream.
    Answer(Answer),
    /// The driver forwards the request, and passes the response on.
    Forward(Box<Forward>),
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").finish_non_exhaustive()
    }
}

impl Deferred {
    /// Returns an answer that is yet to be given. `on_abandon` is called if
    /// nobody waits for it any more.
    pub fn new(on_abandon: impl FnOnce() + 'static) -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(DeferredState::Waiting(None)),
            interims: Interims::default(),
            on_abandon: Cell::new(Some(Box::new(on_abandon))),
        })
    }

    /// Returns an answer that is given already.
    pub fn given(answer: Answer) -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(DeferredState::Given(Some(Settled::Answer(answer)))),
            interims: Interims::default(),
            on_abandon: Cell::new(None),
        })
    }

    /// Adds an interim response.
    ///
    /// # Errors
    /// Fails if too many wait, or if the request has had too many. The text says
    /// which.
    pub fn inform(&self, interim: Interim) -> Result<(), &'static str> {
        self.interims.add(interim)?;
        if let DeferredState::Waiting(waker) = &mut *self.state.borrow_mut()
            && let Some(waker) = waker.take()
        {
            waker.wake();
        }
        Ok(())
    }

    /// Takes the interim responses that wait to be sent.
    pub fn take_interim(&self) -> Vec<Interim> {
        self.interims.take()
    }

    /// Gives the decision; `None` if the handler is gone. Only the first counts.
    pub fn give(&self, decision: Option<Settled>) {
        let mut state = self.state.borrow_mut();
        if let DeferredState::Waiting(waker) = &mut *state {
            let waker = waker.take();
            *state = DeferredState::Given(decision);
            drop(state);
            self.on_abandon.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Waits for the decision; `None` if the handler is gone.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<Option<Settled>> {
        let mut state = self.state.borrow_mut();
        match std::mem::replace(&mut *state, DeferredState::Over) {
            DeferredState::Waiting(_) => {
                *state = DeferredState::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
            DeferredState::Given(decision) => Poll::Ready(decision),
            DeferredState::Over => Poll::Ready(None),
        }
    }

    /// Notes that nobody waits for the answer any more, and tells the handler
    /// unless it has given one.
    pub fn give_up(&self) {
        // Dropping an answer may tell the handler something.
        drop(self.state.replace(DeferredState::Over));
        if let Some(tell) = self.on_abandon.take() {
            tell();
        }
    }
}

impl Awaiting for Deferred {
    fn abandon(self: Rc<Self>, _reply: &Rc<Reply>) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> (Rc<Deferred>, Rc<Cell<u32>>) {
        let count = Rc::new(Cell::new(0));
        let told = Rc::clone(&count);
        (Deferred::new(move || told.set(told.get() + 1)), count)
    }

    fn poll(deferred: &Deferred) -> Poll<Option<Settled>> {
        deferred.poll(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn an_answer_is_taken_once_and_is_not_abandoned_after_that() {
        let (deferred, count) = told();
        assert!(poll(&deferred).is_pending());
        deferred.give(Some(Settled::Answer(Answer::status(200, ""))));
        deferred.give(None);
        let taken = poll(&deferred);
        assert!(matches!(
            taken,
            Poll::Ready(Some(Settled::Answer(Answer { status: 200, .. })))
        ));
        deferred.give_up();
        assert_eq!(count.get(), 0);
    }

    #[test]
    fn interim_responses_are_bounded() {
        let (deferred, _) = told();
        let interim = || Interim {
            status: 103,
            headers: Vec::new(),
        };
        let taken = (0..100)
            .take_while(|_| deferred.inform(interim()).is_ok())
            .count();
        assert_eq!((taken, deferred.take_interim().len()), (16, 16));
        assert_eq!(deferred.inform(interim()), Ok(()));
    }

    #[test]
    fn a_request_has_no_interim_responses_without_end() {
        let (deferred, _) = told();
        let inform = || {
            let interim = Interim {
                status: 103,
                headers: vec![("link".into(), vec![b'a'; 8 << 10])],
            };
            let added = deferred.inform(interim);
            // The connection takes each at once.
            deferred.take_interim();
            added
        };
        let taken = (0..1000).take_while(|_| inform().is_ok()).count();
        assert!((20..=32).contains(&taken), "{taken}");
        assert!(inform().is_err_and(|why| why.contains("256 KiB")));
    }

    #[test]
    fn the_handler_is_told_once_that_nobody_waits() {
        let (deferred, count) = told();
        deferred.give_up();
        deferred.give_up();
        deferred.give(Some(Settled::Answer(Answer::status(200, ""))));
        assert_eq!(count.get(), 1);
        assert!(matches!(poll(&deferred), Poll::Ready(None)));
    }
}
