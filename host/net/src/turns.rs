//! Fairness among the tasks of a worker.
//!
//! Tokio polls tasks in the order in which they are woken. It looks at sockets
//! and timers only when no task is left, or after many polls. A task that wakes
//! itself is therefore polled again before other connections' events are
//! noticed. So a task that has more to do *gives way*: it joins a queue of the
//! worker, and its next poll comes after a look at sockets and timers.
//!
//! ```text
//!   look at sockets --> main task: a new round --> tasks that the look woke
//!         ^             (wakes the first of           |
//!         |              the queue)                   v
//!         +----- a task would go on, and the      the first of the queue,
//!                round's time is over: it joins    and the next while there
//!                the queue  <--------------------  is time
//! ```
//!
//! Time belongs to the worker, not to a task: a round lasts `SLICE`, whoever
//! uses it. After that, tasks that would continue give way. After `OVERDUE`
//! even tasks that only begin give way, because a guest's call may take long.
//! The clock is read once per `WORK` units of work, so a small event costs a
//! few loads and stores.
//!
//! Used time is counted for each [`Turn`], which all tasks of a connection
//! share. The queue is served by least time used, so a connection whose guest
//! computes for long comes after all that used less. A call that runs into its
//! time-out counts `PENALTY` besides: for its connection, and for a while for
//! new connections of its client.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

/// Time for which tasks may run before sockets and timers are looked at. A
/// task's work in one go, such as a TLS echo of 64 KiB, takes about as long.
const SLICE: Duration = Duration::from_micros(125);

/// Time since the last look at sockets and timers after which no task begins
/// either.
const OVERDUE: Duration = Duration::from_millis(10);

/// Extra time counted for a call that runs into its time-out.
const PENALTY: Duration = Duration::from_millis(100);

/// Maximum of time counted as used for a new connection, for its client's past.
const MOST_DEBT: Duration = Duration::from_secs(1);

/// Maximum of clients remembered. When it is reached, all are forgotten.
const MOST_DEBTORS: usize = 4096;

/// Bytes that count as much as a poll. The unit is small enough for the clock
/// to be read after each large piece, though encrypting a piece takes ten times
/// as long as splicing it.
const UNIT: usize = 2 << 10;

/// Work between two reads of the clock, in polls.
const WORK: usize = 16;

/// Work of unknown length, in bytes. The clock is read after it.
pub(crate) const HEAVY: usize = WORK * UNIT;

/// Work of a request, in bytes.
pub const REQUEST: usize = HEAVY / 4;

/// A coarse clock that a thread advances. It reveals a long call of a guest
/// without reading the time around each call.
#[derive(Clone, Debug, Default)]
pub struct Steps(Arc<AtomicU32>);

impl Steps {
    /// Advances the clock by a step.
    pub fn advance(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The turns of a worker's tasks.
#[derive(Debug)]
pub struct Turns {
    steps: Steps,
    /// Number of polls so far; identifies the present one.
    polls: Cell<u32>,
    /// Step in which the round began.
    step: Cell<u32>,
    /// Work since the clock was last read, in polls.
    work: Cell<usize>,
    /// Start of the round; `None` until the clock is read.
    begun: Cell<Option<Instant>>,
    /// Time up to which use has been counted.
    counted: Cell<Option<Instant>>,
    /// True once [`SLICE`] is used.
    over: Cell<bool>,
    /// True once [`OVERDUE`] is used.
    overdue: Cell<bool>,
    /// Tasks that gave way, by time used and then by order of arrival.
    queue: RefCell<BTreeMap<(u64, u64), Rc<Turn>>>,
    /// Next number in the order of arrival.
    next: Cell<u64>,
    /// True if a guest ran into its time-out in the present poll.
    timed_out: Cell<bool>,
    /// Clients whose guests ran into the time-out lately.
    debtors: RefCell<HashMap<IpAddr, Debt>>,
    /// Time used by the task resumed last, in nanoseconds. Tasks that used less
    /// count as this, so that an idle connection saves up no time.
    floor: Cell<u64>,
    /// Waker of the main task, which tokio polls first after a look at sockets.
    main: RefCell<Option<Waker>>,
    /// True if a new round was requested since this one began.
    requested: Cell<bool>,
}

/// Time counted as used for a client's new connections. It halves every second.
#[derive(Clone, Copy, Debug)]
struct Debt {
    time: Duration,
    since: Instant,
}

impl Debt {
    fn left(self, now: Instant) -> Duration {
        let seconds = u32::try_from((now - self.since).as_secs()).unwrap_or(u32::MAX);
        self.time / 2_u32.saturating_pow(seconds)
    }
}

/// A connection's share in the turns, common to its tasks.
#[derive(Debug)]
pub struct Turn {
    turns: Rc<Turns>,
    client: Option<IpAddr>,
    /// Time used, in nanoseconds.
    used: Cell<u64>,
    /// Number in the queue, kept until the turn comes.
    place: Cell<Option<u64>>,
    waits: Cell<bool>,
    resumed: Cell<Resumed>,
    /// Step up to which the connection's long work was counted.
    seen: Cell<u32>,
    /// Wakers of the waiting tasks.
    wakers: RefCell<Vec<Waker>>,
}

/// How a task left the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Resumed {
    #[default]
    No,
    /// Resumed by the task before it, if time is left.
    InTime,
    /// Resumed by the main task: one in each round, so that the queue moves.
    First,
}

impl Turns {
    /// Returns the turns of a worker, by a clock that is advanced elsewhere.
    pub fn new(steps: Steps) -> Rc<Self> {
        Rc::new(Self {
            step: Cell::new(steps.get()),
            steps,
            polls: Cell::new(0),
            work: Cell::new(0),
            begun: Cell::new(None),
            counted: Cell::new(None),
            over: Cell::new(false),
            overdue: Cell::new(false),
            queue: RefCell::default(),
            next: Cell::new(0),
            timed_out: Cell::new(false),
            debtors: RefCell::default(),
            floor: Cell::new(0),
            main: RefCell::new(None),
            requested: Cell::new(false),
        })
    }

    /// Returns a share in the turns for work of no client.
    pub fn turn(self: &Rc<Self>) -> Rc<Turn> {
        self.turn_of(None)
    }

    /// Returns a share in the turns for a connection.
    pub(crate) fn turn_of(self: &Rc<Self>, client: Option<IpAddr>) -> Rc<Turn> {
        let debtors = self.debtors.borrow();
        let debt = client.and_then(|client| debtors.get(&client));
        let debt = debt.map_or(Duration::ZERO, |debt| debt.left(Instant::now()));
        Rc::new(Turn {
            turns: Rc::clone(self),
            client,
            used: Cell::new(self.floor.get().saturating_add(nanoseconds(debt))),
            place: Cell::new(None),
            waits: Cell::new(false),
            resumed: Cell::default(),
            seen: Cell::new(self.steps.get()),
            wakers: RefCell::default(),
        })
    }

    /// Runs the thread's main task. Tokio polls it first after a look at
    /// sockets and timers, so each of its polls begins a round.
    pub async fn run<R>(&self, main: impl Future<Output = R>) -> R {
        let mut main = pin!(main);
        poll_fn(|cx| {
            self.begin_round(cx);
            main.as_mut().poll(cx)
        })
        .await
    }

    fn begin_round(&self, cx: &Context<'_>) {
        let mut main = self.main.borrow_mut();
        if !main.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
            *main = Some(cx.waker().clone());
        }
        drop(main);
        self.step.set(self.steps.get());
        self.work.set(0);
        self.begun.set(None);
        self.counted.set(None);
        self.over.set(false);
        self.overdue.set(false);
        self.requested.set(false);
        self.resume(Resumed::First);
        if !self.queue.borrow().is_empty() {
            self.request_round();
        }
    }

    /// Notes that a guest ran into its time-out.
    pub fn note_time_out(&self) {
        self.timed_out.set(true);
    }

    /// Adds a penalty to the time counted as used for a client's new connections.
    fn lend(&self, client: IpAddr) {
        let now = Instant::now();
        let mut debtors = self.debtors.borrow_mut();
        let before = debtors.get(&client).map(|debt| debt.left(now));
        if before.is_none() && debtors.len() >= MOST_DEBTORS {
            debtors.clear();
        }
        let time = (before.unwrap_or_default() + PENALTY).min(MOST_DEBT);
        debtors.insert(client, Debt { time, since: now });
    }

    /// Requests a poll of the main task after the next look at sockets and
    /// timers.
    fn request_round(&self) {
        if let Some(main) = &*self.main.borrow()
            && !self.requested.replace(true)
        {
            defer(main);
        }
    }

    /// Wakes the first task of the queue.
    fn resume(&self, resumed: Resumed) {
        let first = self.queue.borrow_mut().pop_first();
        if let Some(((used, _), turn)) = first {
            self.floor.set(self.floor.get().max(used));
            turn.waits.set(false);
            turn.seen.set(self.steps.get());
            turn.resumed.set(resumed);
            let wakers = turn.wakers.take();
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Reads the clock and counts the time since the last read.
    fn read_clock(&self, turn: &Turn) {
        let now = Instant::now();
        if let Some(counted) = self.counted.replace(Some(now)) {
            turn.count(now - counted);
        }
        match self.begun.get() {
            None => {
                self.begun.set(Some(now));
                self.request_round();
            }
            Some(begun) => {
                let elapsed = now - begun;
                if elapsed >= SLICE {
                    self.over.set(true);
                }
                if elapsed >= OVERDUE {
                    self.overdue.set(true);
                }
            }
        }
    }

    /// True if even a task that begins has to wait.
    pub fn is_overdue(&self) -> bool {
        self.overdue.get() || self.steps.get() != self.step.get()
    }

    /// Notes work. Returns true if the round is over.
    fn worked(&self, turn: &Turn, work: usize) -> bool {
        let work = self.work.get() + work;
        if work < WORK {
            self.work.set(work);
        } else {
            self.work.set(0);
            self.read_clock(turn);
        }
        self.over.get() || self.is_overdue()
    }
}

impl Turn {
    /// Polls a task of the connection, unless other tasks come first.
    pub(crate) fn poll<R>(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        task: impl FnOnce(&mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        ready!(self.poll_begin(cx));
        let turns = &self.turns;
        turns.polls.set(turns.polls.get().wrapping_add(1));
        turns.timed_out.set(false);
        self.seen.set(turns.steps.get());
        let polled = task(cx);
        if self.took_a_step() {
            turns.overdue.set(true);
        } else {
            turns.worked(self, 1);
        }
        if turns.timed_out.take() {
            self.count(PENALTY);
            if let Some(client) = self.client {
                turns.lend(client);
            }
        }
        polled
    }

    /// Runs a task in the connection's turns.
    pub async fn run<R>(self: &Rc<Self>, task: impl Future<Output = R>) -> R {
        let mut task = pin!(task);
        poll_fn(|cx| self.poll(cx, |cx| task.as_mut().poll(cx))).await
    }

    fn poll_begin(self: &Rc<Self>, cx: &Context<'_>) -> Poll<()> {
        if self.waits.get() {
            self.keep(cx);
            return Poll::Pending;
        }
        let turns = &self.turns;
        let waits = match self.resumed.take() {
            Resumed::No => turns.is_overdue(),
            Resumed::InTime => turns.over.get() || turns.is_overdue(),
            Resumed::First => false,
        };
        if waits {
            self.wait(cx);
            return Poll::Pending;
        }
        if self.place.take().is_some() {
            // This task's turn has come. There may be time for the next one
            // too.
            turns.resume(Resumed::InTime);
        }
        Poll::Ready(())
    }

    /// Notes that the work goes on after a wait, whose time does not count.
    pub fn resume(&self) {
        self.seen.set(self.turns.steps.get());
    }

    /// Notes that bytes were moved, or that `HEAVY` work was done.
    pub fn note(&self, bytes: usize) {
        self.is_over(bytes);
    }

    /// Notes that bytes were moved, or that `HEAVY` work was done. Returns
    /// true if the task is to give way before it continues.
    pub fn is_over(&self, bytes: usize) -> bool {
        self.took_a_step();
        self.turns.worked(self, 1 + bytes / UNIT)
    }

    /// Counts the time of work that lasted a step of the coarse clock or more.
    /// Such work is over before the clock is read. If its task were not
    /// charged, it would stay first in the queue.
    fn took_a_step(&self) -> bool {
        let turns = &self.turns;
        let step = turns.steps.get();
        let passed = step.wrapping_sub(self.seen.replace(step));
        if passed == 0 {
            return false;
        }
        if turns.counted.get().is_none() {
            self.count(OVERDUE * passed.min(100));
        }
        turns.read_clock(self);
        true
    }

    /// Ends a poll of a task that has more to do, so that others have their
    /// turn. The task returns `Pending`, and is woken when its turn comes.
    pub fn give_way(self: &Rc<Self>, cx: &Context<'_>) {
        if self.waits.get() {
            self.keep(cx);
        } else {
            self.place.set(None);
            self.wait(cx);
        }
    }

    /// Returns the number of the present poll.
    pub(crate) fn number(&self) -> u32 {
        self.turns.polls.get()
    }

    /// True while the connection waits for its turn, and its tasks do nothing.
    pub fn waits(&self) -> bool {
        self.waits.get()
    }

    /// Gives way if the round is over after this much work.
    pub async fn pause(self: &Rc<Self>, bytes: usize) {
        if self.is_over(bytes) {
            self.yields().await;
        }
    }

    /// Gives way once.
    async fn yields(self: &Rc<Self>) {
        let mut gave_way = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut gave_way, true) && !self.waits() {
                return Poll::Ready(());
            }
            self.give_way(cx);
            Poll::Pending
        })
        .await;
    }

    fn wait(self: &Rc<Self>, cx: &Context<'_>) {
        let turns = &self.turns;
        if turns.main.borrow().is_none() {
            // Nothing serves the queue, as in a test.
            return defer(cx.waker());
        }
        self.keep(cx);
        self.waits.set(true);
        self.used.set(self.used.get().max(turns.floor.get()));
        let number = self.place.get().unwrap_or_else(|| {
            let next = turns.next.get();
            turns.next.set(next + 1);
            next
        });
        self.place.set(Some(number));
        let place = (self.used.get(), number);
        turns.queue.borrow_mut().insert(place, Rc::clone(self));
        turns.request_round();
    }

    /// Stores a task's waker until the turn comes.
    fn keep(&self, cx: &Context<'_>) {
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
    }

    fn count(&self, time: Duration) {
        let used = self.used.get().saturating_add(nanoseconds(time));
        self.used.set(used);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Wakes a task after the next look at sockets and timers.
fn defer(waker: &Waker) {
    // The first poll leaves the waker with the runtime.
    let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(waker));
}

#[cfg(test)]
mod tests;
