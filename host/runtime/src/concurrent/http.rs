//! Instances that answer HTTP requests: `wasi:http/incoming-handler@0.2` and
//! `wasi:http/handler@0.3`.
//!
//! An instance is a task with its own queue of requests. A handler of 0.2 takes
//! one at a time, because its calls exclude each other; a handler of 0.3 takes
//! several at once. A response goes to the connection as soon as it has begun.
//! The connection takes its body itself.

mod answering;
mod serving;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{poll_fn, ready};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::uri::PathAndQuery;
use tokio::task::AbortHandle;
use wasmtime::component::GuestTaskId;

use netwasm_base::config::Isolation;
use netwasm_base::trace::Trace;
use netwasm_exchange::handler::{Awaiting, Call};
use netwasm_exchange::reply::{NoResponse, Reply};
use netwasm_net::health::Health;
use netwasm_net::permits::Permit;
use netwasm_net::thread::Thread;
use netwasm_net::turns::Turn;

use self::serving::serve;
use crate::concurrent::background::Background;
use crate::concurrent::place::{Own, Seat};
use crate::concurrent::program::{Entry, Program};
use crate::local::{Env, Local};
use crate::served::{Served, request_line, request_lines};

/// The requests of an instance: those that wait, and those being handled.
#[derive(Debug)]
pub(crate) struct Requests {
    /// True if the instance may get another request.
    open: Cell<bool>,
    waiting: RefCell<VecDeque<Call>>,
    /// Requests given to the instance that are not over, oldest first.
    running: RefCell<Vec<Weak<Reply>>>,
    /// Calls of 0.3 that handle requests that are traced, or have of late: a call
    /// may go on after its request. The oldest is first.
    calls: RefCell<VecDeque<(GuestTaskId, Rc<Trace>)>>,
    /// Number of requests given to the instance.
    taken: Cell<usize>,
    program: Arc<Program>,
    most: usize,
    most_at_once: usize,
    waker: RefCell<Option<Waker>>,
    task: RefCell<Option<AbortHandle>>,
    health: Rc<Health>,
    /// True for 0.2, whose calls exclude each other.
    one_at_a_time: bool,
    /// Set for an instance that the connections of a worker share.
    shared: Option<SharedByWorker>,
    /// Requests still being handled whose clients have left.
    left: RefCell<Vec<(Weak<Reply>, Permit)>>,
    /// Number of calls that went on for too long after their clients left.
    overdue: Cell<usize>,
}

/// State that an instance needs and the connections of a worker share.
#[derive(Debug)]
struct SharedByWorker {
    env: Arc<Env>,
    thread: Rc<Thread>,
}

/// Instances that all connections of a worker share, as many as it takes.
pub(crate) type KeptRequests = RefCell<Vec<Rc<Requests>>>;

/// Gives a request of a connection to an instance: a new one, the connection's
/// own, which is kept in `own`, or one of the worker's. Returns that instance's
/// requests.
pub(crate) fn begin(
    local: &Rc<Local>,
    program: &Arc<Program>,
    kept: &KeptRequests,
    own: &mut Own,
    request: Call,
) -> Rc<Requests> {
    let takes = |requests: &Rc<Requests>| requests.takes();
    let found = match local.env.isolation {
        Isolation::Request => None,
        Isolation::Connection => own.requests.take().and_then(|old| {
            if takes(&old) {
                return Some(old);
            }
            old.close();
            None
        }),
        Isolation::Worker => {
            let mut all = kept.borrow_mut();
            all.retain(|requests| requests.open.get());
            all.iter().find(|&it| takes(it)).map(Rc::clone)
        }
    };
    if let Some(requests) = found {
        requests.push(request);
        if local.env.isolation == Isolation::Connection {
            own.requests = Some(Rc::clone(&requests));
        }
        return requests;
    }
    let requests = Requests::new(local, program);
    let turn = Rc::clone(&request.turn);
    requests.push(request);
    match local.env.isolation {
        Isolation::Request => requests.close(),
        Isolation::Connection => own.requests = Some(Rc::clone(&requests)),
        Isolation::Worker => kept.borrow_mut().push(Rc::clone(&requests)),
    }
    let limits = &local.env.net.limits.http;
    let most = limits.connection_instances(local.env.room.connections);
    requests.start(local, own.seat(most), turn);
    requests
}

impl Requests {
    fn new(local: &Local, program: &Arc<Program>) -> Rc<Self> {
        let limits = &local.env.net.limits.http;
        let one = match program.entry {
            Entry::Proxy(_) => Some(1),
            _ => None,
        };
        let shared = local.env.isolation == Isolation::Worker;
        Rc::new(Self {
            open: Cell::new(true),
            waiting: RefCell::default(),
            running: RefCell::default(),
            calls: RefCell::default(),
            taken: Cell::new(0),
            program: Arc::clone(program),
            most: limits.max_instance_reuse,
            most_at_once: one.unwrap_or(limits.max_instance_concurrency),
            waker: RefCell::default(),
            task: RefCell::default(),
            health: Rc::default(),
            one_at_a_time: one.is_some(),
            shared: shared.then(|| SharedByWorker {
                env: Arc::clone(&local.env),
                thread: Rc::clone(&local.worker.thread),
            }),
            left: RefCell::default(),
            overdue: Cell::new(0),
        })
    }

    /// True if the instance takes another request at present.
    fn takes(&self) -> bool {
        if !self.open.get() {
            return false;
        }
        let running = self.running.borrow();
        let busy = |reply: &&Weak<Reply>| reply.upgrade().is_some_and(|it| !it.is_done());
        running.iter().filter(busy).count() < self.most_at_once
    }

    fn push(&self, request: Call) {
        self.running
            .borrow_mut()
            .push(Rc::downgrade(&request.reply));
        self.waiting.borrow_mut().push_back(request);
        self.taken.set(self.taken.get() + 1);
        if self.taken.get() >= self.most {
            self.open.set(false);
        }
        self.wake();
    }

    /// Gives the instance no more requests. It ends after those that it has.
    pub(crate) fn close(&self) {
        self.open.set(false);
        self.wake();
    }

    /// Limits what goes on in a shared instance for a client that has left. A
    /// single call cannot be ended.
    fn leave_behind(self: &Rc<Self>, shared: &SharedByWorker, reply: &Rc<Reply>) {
        let SharedByWorker {
            env: shared,
            thread,
        } = shared;
        let Some(place) = shared.background.place() else {
            return self.overdue(shared);
        };
        let reply = Rc::downgrade(reply);
        self.left.borrow_mut().push((Weak::clone(&reply), place));
        let (requests, shared) = (Rc::downgrade(self), Arc::clone(shared));
        thread.spawn_local(async move {
            tokio::time::sleep(shared.background.limit()).await;
            if let Some(requests) = requests.upgrade()
                && requests
                    .left
                    .borrow()
                    .iter()
                    .any(|(it, _)| it.ptr_eq(&reply))
            {
                requests.overdue(&shared);
            }
        });
    }

    /// Counts a call that goes on for too long. Closes the instance once it has
    /// as many such calls as it may handle requests at once.
    fn overdue(&self, shared: &Env) {
        self.overdue.set(self.overdue.get() + 1);
        if self.overdue.get() >= self.most_at_once && self.open.get() {
            shared.background.ended(
                "the shared instance is replaced, as calls go on whose clients have left \
                 (--background-timeout, --max-background)",
            );
            self.close();
        }
        self.end_if_unwanted();
    }

    /// Ends an instance that handles only requests for which nobody waits.
    fn end_if_unwanted(&self) {
        if self.shared.is_some() && self.open.get() {
            return;
        }
        if self.is_unwanted()
            && let Some(task) = self.task.take()
        {
            task.abort();
        }
    }

    /// True if it handles requests, and nobody waits for any of them.
    fn is_unwanted(&self) -> bool {
        let wanted = |reply: &Weak<Reply>| reply.upgrade().is_some_and(|it| !it.is_abandoned());
        let running = self.running.borrow();
        !running.is_empty() && !running.iter().any(wanted)
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Polls for the next request; `None` if there will be none.
    fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Call>> {
        if let Some(request) = self.waiting.borrow_mut().pop_front() {
            return Poll::Ready(Some(request));
        }
        if !self.open.get() {
            return Poll::Ready(None);
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// True if requests wait to be begun.
    fn is_waited_for(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// True if requests wait, or several are being handled.
    fn is_behind(&self) -> bool {
        self.is_waited_for() || self.running.borrow().len() > 1
    }

    fn finished(&self, reply: &Rc<Reply>) {
        self.running
            .borrow_mut()
            .retain(|other| !std::ptr::eq(other.as_ptr(), Rc::as_ptr(reply)));
        self.left
            .borrow_mut()
            .retain(|(other, _)| !std::ptr::eq(other.as_ptr(), Rc::as_ptr(reply)));
        self.wake();
        self.end_if_unwanted();
    }

    /// Waits until a call of 0.2 that nobody wants any more has gone on for too
    /// long. Until then it may block all that is in its store, so nothing there
    /// can look at a clock.
    async fn left_behind(&self, background: &Background) {
        loop {
            let reply = poll_fn(|cx| self.poll_unwanted(cx)).await;
            // The store's task polls this too, whenever something returns in
            // it.
            let returned = poll_fn(|_| match reply.has_returned() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            if background.bound(ready(()), returned).await.is_none() {
                return;
            }
        }
    }

    /// Waits for a request that is over for its client but not for the guest.
    fn poll_unwanted(&self, cx: &Context<'_>) -> Poll<Rc<Reply>> {
        let running = self.running.borrow();
        // Once a call has returned, `Answering` waits for the reply, which
        // keeps one waker.
        match running.last().and_then(Weak::upgrade) {
            Some(reply) if !reply.has_returned() => reply.poll_over(cx).map(|()| reply),
            _ => Poll::Pending,
        }
    }

    /// Waits until no request is being handled.
    async fn all_finished(&self) {
        poll_fn(|cx| {
            if self.running.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits, after the guest exited with success, until the connections have
    /// what it answered. A body is whole only if the guest had ended it.
    async fn exited(&self) {
        self.open.set(false);
        self.waiting.borrow_mut().clear();
        let running: Vec<Rc<Reply>> = {
            let running = self.running.borrow();
            running.iter().filter_map(Weak::upgrade).collect()
        };
        for reply in &running {
            let unanswered = NoResponse::Failed("it exits before it answers".into());
            reply.answer(Err(unanswered));
            reply.returned();
        }
        for reply in &running {
            poll_fn(|cx| reply.poll_over(cx)).await;
        }
        self.running.borrow_mut().clear();
    }

    /// Returns the requests being handled, and their clients.
    fn served(&self) -> Served {
        let running = self.running.borrow();
        let line = |reply: &Reply| {
            let asked = reply.asked()?;
            let target = asked.target.as_ref().map_or("", PathAndQuery::as_str);
            Some(request_line(asked.method.as_str(), target))
        };
        let replies: Vec<_> = running.iter().filter_map(Weak::upgrade).collect();
        match &*replies {
            [only] => Served {
                peer: only.peer().cloned(),
                request: line(only),
                waiting: None,
            },
            several => Served {
                waiting: request_lines(
                    several
                        .iter()
                        .filter_map(|it| Some((line(it)?, it.peer().cloned()))),
                ),
                ..Served::default()
            },
        }
    }

    /// Returns the span of the request being handled; `None` if there are
    /// several, or requests are not traced.
    fn trace(&self) -> Option<Rc<Trace>> {
        let running = self.running.borrow();
        let mut replies = running.iter().filter_map(Weak::upgrade);
        match (replies.next(), replies.next()) {
            (Some(only), None) => only.trace().cloned(),
            _ => None,
        }
    }

    /// Notes the call of 0.3 that handles a request.
    fn note_call(&self, call: GuestTaskId, reply: &Reply) {
        let Some(trace) = reply.trace() else {
            return;
        };
        let mut calls = self.calls.borrow_mut();
        // The number is that of a call that has ended.
        calls.retain(|(other, _)| *other != call);
        calls.push_back((call, Rc::clone(trace)));
        let most = self.most_at_once.saturating_mul(2);
        while calls.len() > most {
            calls.pop_front();
        }
    }

    /// Returns the span of the request that a call handles. Only calls of 0.3 tell
    /// which one that is, and need to.
    fn trace_of(&self, call: GuestTaskId) -> Option<Rc<Trace>> {
        if self.one_at_a_time {
            return self.trace();
        }
        let calls = self.calls.borrow();
        let found = calls.iter().find(|(other, _)| *other == call);
        found.map(|(_, trace)| Rc::clone(trace))
    }

    fn fail_all(&self, reason: &NoResponse) {
        self.open.set(false);
        let running = self.running.take();
        for reply in running.iter().filter_map(Weak::upgrade) {
            reply.fail(reason.clone());
        }
        self.waiting.borrow_mut().clear();
    }

    /// Starts the instance's task, in the turns of its connection unless it is
    /// shared.
    fn start(self: &Rc<Self>, local: &Rc<Local>, seat: Rc<Seat>, turn: Rc<Turn>) {
        let shared = local.env.isolation == Isolation::Worker;
        let turn = if shared {
            local.worker.thread.turns.turn()
        } else {
            turn
        };
        let (requests, serving, own) = (Rc::clone(self), Rc::clone(local), Rc::clone(&turn));
        let life = async move {
            // A shared instance serves requests of any connection, and takes no
            // place.
            let place = match shared {
                true => None,
                false => Some(seat.take(&serving.env.net.places).await),
            };
            let place = Cell::new(place);
            serve(&serving, &requests, &own, &place).await;
        };
        let task = if shared {
            // Shutdown waits for the connections; this task ends with the
            // worker.
            local.worker.thread.spawn_aside(turn, life)
        } else {
            local.worker.thread.spawn(turn, life)
        };
        *self.task.borrow_mut() = Some(task);
    }
}

impl Awaiting for Requests {
    /// Gives up a request. An instance of one connection ends if it has no
    /// others. A shared instance goes on: its state is not the client's.
    fn abandon(self: Rc<Self>, reply: &Rc<Reply>) {
        reply.abandon();
        let Some(shared) = &self.shared else {
            self.close();
            return self.end_if_unwanted();
        };
        if self.is_unwanted() {
            // Nobody else needs what it waits for. Its calls go on with an
            // error.
            self.health.give_up();
        }
        // `left_behind` limits a call of 0.2.
        if !self.one_at_a_time {
            self.leave_behind(shared, reply);
        }
    }
}
