//! A connection to a server that many requests use at once, as they see it.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use slab::Slab;
use tokio::time::Sleep;

use netwasm_base::address::Address;
use netwasm_base::error::ConnectionError;
use netwasm_net::thread::{Thread, Tick};
use netwasm_net::transport::Transport;
use netwasm_net::upstream::Server;

use super::io::Wire;
use super::queue::StreamQueue;

/// Maximum of streams on a connection, if the server takes as many. Their windows
/// bound the memory for what slow clients do not take.
pub(super) const MOST_STREAMS: usize = 100;

/// A connection to a server.
pub(in crate::forward) struct Multiplexed {
    state: RefCell<LineState>,
    pub(super) wire: Rc<Wire>,
    thread: Rc<Thread>,
    /// Address of the server's name that was wanted.
    wanted: Option<IpAddr>,
    /// Requests that wait for room on the server's connections.
    queue: Rc<StreamQueue>,
    /// Longest time limit of the requests for which the connection is made.
    limit: Cell<Duration>,
    /// Task that makes the connection.
    maker: RefCell<Option<Waker>>,
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
    Dialing(Slab<Option<Waker>>),
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

/// Protocol that is spoken on a connection that was made.
#[derive(Debug)]
pub(in crate::forward) enum SpokenToServer {
    Http2,
    /// HTTP/1.1, on this connection unless another request has it.
    Http1(Option<Rc<Transport>>),
    /// Nothing any more.
    Nothing,
}

impl Multiplexed {
    /// Returns a connection that is to be made, to an address of the server's
    /// name if one is wanted.
    pub(super) fn dialing(
        thread: &Rc<Thread>,
        queue: &Rc<StreamQueue>,
        wanted: Option<IpAddr>,
    ) -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(LineState::Dialing(Slab::new())),
            wire: Rc::default(),
            thread: Rc::clone(thread),
            wanted,
            queue: Rc::clone(queue),
            limit: Cell::default(),
            maker: RefCell::default(),
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

    /// Returns the address that was wanted, of the server's name.
    pub(super) fn wanted(&self) -> Option<IpAddr> {
        self.wanted
    }

    /// Returns the longest time limit of the requests for which the connection is
    /// made.
    pub(super) fn limit(&self) -> Duration {
        self.limit.get()
    }

    /// Lets a request wait until the connection is made, for so long.
    pub(super) fn join(self: &Rc<Self>, limit: Duration) -> Joined {
        let (mut key, mut turn) = (None, None);
        if let LineState::Dialing(waiting) = &mut *self.state.borrow_mut() {
            key = Some(waiting.insert(None));
            turn = Some(self.queue.turn());
            self.limit.set(self.limit.get().max(limit));
        }
        Joined {
            line: Rc::clone(self),
            // Most connections are open.
            late: key.map(|_| Box::pin(tokio::time::sleep(limit))),
            key,
            turn,
        }
    }

    /// Ready once no request waits for the connection, which is being made.
    pub(super) fn poll_unwanted(&self, cx: &Context<'_>) -> Poll<()> {
        match &*self.state.borrow() {
            LineState::Dialing(waiting) if waiting.is_empty() => Poll::Ready(()),
            LineState::Dialing(_) => {
                *self.maker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Pending,
        }
    }

    /// True if the connection is being made, and fewer than `most` requests wait
    /// for that.
    pub(super) fn is_dialing(&self, most: usize) -> bool {
        matches!(&*self.state.borrow(), LineState::Dialing(waiting) if waiting.len() < most)
    }

    /// True if it is a connection to an address, or is being made to it.
    pub(super) fn is_to(&self, ip: IpAddr) -> bool {
        match &*self.state.borrow() {
            LineState::Dialing(_) => self.wanted == Some(ip),
            LineState::Open(_, transport) => {
                matches!(transport.peer(), Address::Ip(peer) if peer.ip() == ip)
            }
            _ => false,
        }
    }

    /// Lets no more requests begin here if the server has left the address.
    pub(super) fn retire_elsewhere(&self, server: &Server) {
        let elsewhere = match &*self.state.borrow() {
            LineState::Open(_, transport) if !server.is_at(transport.peer()) => {
                Rc::clone(transport)
            }
            _ => return,
        };
        self.retire();
        // Its task ends it after the streams that are open.
        elsewhere.nudge();
    }

    /// True if no request uses the connection, which is open.
    pub(super) fn is_idle(&self) -> bool {
        match &*self.state.borrow() {
            LineState::Open(_, transport) => self.active.get() == 0 && !transport.has_failed(),
            _ => false,
        }
    }

    /// True if no more requests begin here.
    pub(super) fn is_retired(&self) -> bool {
        matches!(&*self.state.borrow(), LineState::Retired)
    }

    /// Closes an idle connection at once, in favour of others.
    pub(super) fn give_way(&self) {
        let state = self.state.borrow();
        let LineState::Open(_, transport) = &*state else {
            return;
        };
        transport.say_close_notify();
        // Wakes its task, which sees to the rest.
        transport.fail(ConnectionError::Aborted);
        transport.release();
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
        self.queue
            .learn(sender.current_max_send_streams().min(MOST_STREAMS));
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
            for waker in waiting.into_iter().filter_map(|(_, waker)| waker) {
                waker.wake();
            }
        }
        self.queue.wake_first();
    }

    /// Tells the first request that waits if there is room for it.
    pub(super) fn tell_room(&self) {
        if !self.queue.is_empty() && self.has_room() {
            self.queue.wake_first();
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

/// A request's wait for a connection that is being made. Dropping it gives the
/// connection up, if no other request waits for it.
pub(in crate::forward) struct Joined {
    line: Rc<Multiplexed>,
    /// Number among those that wait for the connection.
    key: Option<usize>,
    /// The request's turn, if it is to wait for another connection.
    turn: Option<u64>,
    /// The request's own time limit.
    late: Option<Pin<Box<Sleep>>>,
}

impl std::fmt::Debug for Joined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joined").finish_non_exhaustive()
    }
}

impl Joined {
    /// Returns the connection.
    pub(in crate::forward) fn line(&self) -> &Rc<Multiplexed> {
        &self.line
    }

    /// Returns the request's turn if it has to wait in the queue after all.
    pub(in crate::forward) fn turn(&self) -> Option<u64> {
        self.turn
    }

    /// Gives the request the turn that it had before, if it had one.
    pub(in crate::forward) fn with_turn(mut self, before: Option<u64>) -> Self {
        self.turn = before.or(self.turn);
        self
    }

    /// Waits until the connection is made.
    ///
    /// # Errors
    /// Fails with the reason why it cannot be, or if that takes too long.
    pub(in crate::forward) fn poll_made(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SpokenToServer, ConnectionError>> {
        Poll::Ready(match &mut *self.line.state.borrow_mut() {
            LineState::Dialing(waiting) => {
                if let Some(waker) = self.key.and_then(|key| waiting.get_mut(key))
                    && !waker.as_ref().is_some_and(|it| it.will_wake(cx.waker()))
                {
                    *waker = Some(cx.waker().clone());
                }
                match &mut self.late {
                    Some(late) => std::task::ready!(late.as_mut().poll(cx)),
                    None => return Poll::Pending,
                }
                Err(ConnectionError::Timeout("connecting takes too long"))
            }
            LineState::Open(..) => Ok(SpokenToServer::Http2),
            LineState::Http1(transport) => Ok(SpokenToServer::Http1(transport.take())),
            LineState::Retired => Ok(SpokenToServer::Nothing),
            LineState::Failed(reason) => Err(reason.clone()),
        })
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let line = &self.line;
        if let Some(key) = self.key
            && let LineState::Dialing(waiting) = &mut *line.state.borrow_mut()
        {
            waiting.try_remove(key);
            if waiting.is_empty()
                && let Some(maker) = line.maker.borrow_mut().take()
            {
                maker.wake();
            }
            // Another request may take the place.
            line.queue.wake_first();
        }
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
        line.queue.wake_first();
        if line.active.get() == 0
            && let LineState::Open(_, transport) = &*line.state.borrow()
        {
            line.idle_since.set(line.thread.now());
            // The driver's time-out begins.
            transport.nudge();
        }
    }
}
