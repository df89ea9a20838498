//! A connection to a server that many requests use at once, as they see it.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::SendRequest;
use slab::Slab;

use netwasm_base::error::ConnectionError;
use netwasm_net::thread::{Thread, Tick};
use netwasm_net::transport::Transport;

use super::io::Wire;

/// Maximum of streams on a connection, if the server takes as many. Their windows
/// bound the memory for what slow clients do not take.
pub(super) const MOST_STREAMS: usize = 100;

/// A connection to a server.
pub(in crate::forward) struct Multiplexed {
    state: RefCell<LineState>,
    pub(super) wire: Rc<Wire>,
    thread: Rc<Thread>,
    /// Reason why the connection ended.
    lost: OnceCell<ConnectionError>,
    /// Streams under way.
    active: Cell<usize>,
    /// Streams that have begun, in all.
    begun: Cell<u64>,
    /// Time since which no stream is open.
    idle_since: Cell<Tick>,
    /// Requests that wait for their response, with the end of their patience.
    waiting: RefCell<Slab<(Tick, Waker)>>,
    /// The earliest of these, or earlier.
    earliest: Cell<Option<Tick>>,
}

enum LineState {
    /// It is being made, for requests that wait.
    Dialing(Vec<Waker>),
    Open(SendRequest<Bytes>, Rc<Transport>),
    /// The server, which had the choice, speaks HTTP/1.1. The connection is for
    /// the first who takes it.
    Http1(Option<Rc<Transport>>),
    /// No request begins here any more.
    Retired,
    /// It could not be made.
    Failed(ConnectionError),
}

impl std::fmt::Debug for Multiplexed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Multiplexed").finish_non_exhaustive()
    }
}

/// What is spoken on a connection that was made.
#[derive(Debug)]
pub(in crate::forward) enum Spoken {
    Http2,
    /// HTTP/1.1, on this connection unless another request has it.
    Http1(Option<Rc<Transport>>),
    /// Nothing any more.
    Nothing,
}

impl Multiplexed {
    pub(super) fn dialing(thread: &Rc<Thread>) -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(LineState::Dialing(Vec::new())),
            wire: Rc::default(),
            thread: Rc::clone(thread),
            lost: OnceCell::new(),
            active: Cell::new(0),
            begun: Cell::new(0),
            idle_since: Cell::new(thread.now()),
            waiting: RefCell::default(),
            earliest: Cell::new(None),
        })
    }

    /// Returns the thread of the connection.
    pub(super) fn thread(&self) -> &Rc<Thread> {
        &self.thread
    }

    /// Waits until the connection is made.
    ///
    /// # Errors
    /// Fails with the reason why it cannot be.
    pub(in crate::forward) fn poll_made(
        &self,
        cx: &Context<'_>,
    ) -> Poll<Result<Spoken, ConnectionError>> {
        Poll::Ready(match &mut *self.state.borrow_mut() {
            LineState::Dialing(waiting) => {
                if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiting.push(cx.waker().clone());
                }
                return Poll::Pending;
            }
            LineState::Open(..) => Ok(Spoken::Http2),
            LineState::Http1(transport) => Ok(Spoken::Http1(transport.take())),
            LineState::Retired => Ok(Spoken::Nothing),
            LineState::Failed(reason) => Err(reason.clone()),
        })
    }

    /// True if the connection is being made.
    pub(super) fn is_dialing(&self) -> bool {
        matches!(&*self.state.borrow(), LineState::Dialing(waiting) if waiting.len() < MOST_STREAMS)
    }

    /// True if a stream can begin.
    pub(super) fn has_room(&self) -> bool {
        match &*self.state.borrow() {
            LineState::Open(sender, transport) => {
                let most = sender.current_max_send_streams().min(MOST_STREAMS);
                self.active.get() < most && !transport.has_failed()
            }
            _ => false,
        }
    }

    /// Takes a place for a stream, if there is one.
    pub(in crate::forward) fn enter(self: &Rc<Self>) -> Option<(StreamPermit, SendRequest<Bytes>)> {
        if !self.has_room() {
            return None;
        }
        let state = self.state.borrow();
        let LineState::Open(sender, _) = &*state else {
            return None;
        };
        self.active.set(self.active.get() + 1);
        self.begun.set(self.begun.get() + 1);
        let permit = StreamPermit {
            line: Rc::clone(self),
            key: None,
        };
        Some((permit, sender.clone()))
    }

    /// Lets requests use the connection.
    pub(super) fn open(&self, sender: SendRequest<Bytes>, transport: &Rc<Transport>) {
        self.become_state(LineState::Open(sender, Rc::clone(transport)));
    }

    /// Leaves the connection to HTTP/1.1.
    pub(super) fn speaks_http1(&self, transport: Rc<Transport>) {
        self.become_state(LineState::Http1(Some(transport)));
    }

    /// Lets no more requests use the connection.
    pub(super) fn retire(&self) {
        if !matches!(*self.state.borrow(), LineState::Failed(_)) {
            self.become_state(LineState::Retired);
        }
    }

    /// Ends the connection, which none could use yet if it is being made.
    pub(super) fn end(&self, reason: ConnectionError) {
        let dialing = matches!(*self.state.borrow(), LineState::Dialing(_));
        let _ = self.lost.set(reason.clone());
        match dialing {
            true => self.become_state(LineState::Failed(reason)),
            false => self.retire(),
        }
        for (_, (_, waker)) in &*self.waiting.borrow() {
            waker.wake_by_ref();
        }
    }

    fn become_state(&self, state: LineState) {
        if let LineState::Dialing(waiting) = self.state.replace(state) {
            for waker in waiting {
                waker.wake();
            }
        }
    }

    /// Returns the number of streams under way.
    pub(super) fn active(&self) -> usize {
        self.active.get()
    }

    /// Returns the number of streams that have begun, in all.
    pub(super) fn begun(&self) -> u64 {
        self.begun.get()
    }

    /// Returns the time since which no stream is open.
    pub(super) fn idle_since(&self) -> Tick {
        self.idle_since.get()
    }

    /// Returns the reason why the connection ended, if it has.
    pub(super) fn lost(&self) -> Option<&ConnectionError> {
        self.lost.get()
    }

    /// Wakes the requests whose patience is over. Returns the time of the next.
    pub(super) fn ring(&self, now: Tick) -> Option<Tick> {
        if self.earliest.get().is_none_or(|earliest| now < earliest) {
            return self.earliest.get();
        }
        let waiting = self.waiting.borrow();
        let mut next: Option<Tick> = None;
        for (_, (due, waker)) in &*waiting {
            match *due <= now {
                true => waker.wake_by_ref(),
                false => next = Some(next.map_or(*due, |next| next.min(*due))),
            }
        }
        self.earliest.set(next);
        next
    }
}

/// Place of a stream on its connection. Dropping it frees the place.
#[derive(Debug)]
pub(in crate::forward) struct StreamPermit {
    pub(super) line: Rc<Multiplexed>,
    /// Number among those that wait for their response.
    key: Option<usize>,
}

impl StreamPermit {
    /// Wakes the task at a time, unless that is changed before.
    pub(super) fn wake_at(&mut self, due: Tick, cx: &Context<'_>) {
        let mut waiting = self.line.waiting.borrow_mut();
        match self.key.and_then(|key| waiting.get_mut(key)) {
            Some((place, waker)) => {
                *place = due;
                waker.clone_from(cx.waker());
            }
            None => self.key = Some(waiting.insert((due, cx.waker().clone()))),
        }
        // It is set in the driver's next poll: something was just sent.
        let earliest = self.line.earliest.get();
        let earliest = earliest.map_or(due, |earliest| earliest.min(due));
        self.line.earliest.set(Some(earliest));
    }

    /// True if the time has come.
    pub(super) fn is_due(&self, now: Tick) -> bool {
        let waiting = self.line.waiting.borrow();
        let due = self.key.and_then(|key| waiting.get(key));
        due.is_some_and(|(due, _)| now >= *due)
    }

    /// Wakes the task no more.
    pub(super) fn forget(&mut self) {
        if let Some(key) = self.key.take() {
            self.line.waiting.borrow_mut().try_remove(key);
        }
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.forget();
        let line = &self.line;
        line.active.set(line.active.get() - 1);
        if line.active.get() == 0
            && let LineState::Open(_, transport) = &*line.state.borrow()
        {
            line.idle_since.set(line.thread.now());
            // The driver's time-out begins.
            transport.nudge();
        }
    }
}
