//! A worker's thread as its tasks see it: the clock, the turns, and shared
//! buffers. A connection lives and dies on one thread, so nothing here is
//! locked.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use netwasm_base::config::Limits;
use netwasm_base::meter::Meter;

use crate::env::Env;
use crate::pipe::Pipe;
use crate::turns::{Turn, Turns};

/// Read buffer size in bytes. It exceeds what mostly arrives, so that a short
/// read tells that the socket is empty.
const SCRATCH: usize = 64 << 10;

/// A point in time since the thread began, in the thread's coarse unit.
pub type Tick = u64;

/// State shared by the tasks of a worker's thread.
#[derive(Debug)]
pub struct Thread {
    /// State that all workers share.
    pub env: Arc<Env>,
    /// Counts of the service on this thread.
    pub meter: Arc<Meter>,
    /// Turns of the tasks.
    pub turns: Rc<Turns>,
    /// Receive buffers; borrowed only during one poll.
    pub scratch: RefCell<Scratch>,
    /// Empty buffer for small parts that are sent together.
    pub(crate) joined: RefCell<Vec<u8>>,
    /// Empty pipes for relays.
    pub(crate) pipes: RefCell<Vec<Pipe>>,
    /// True if connections are to end as soon as they can.
    draining: Cell<bool>,
    /// True if idle connections nevertheless wait for their next request.
    spares_idle: Cell<bool>,
    drained: Notify,
    /// True if nothing is waited for any more.
    aborting: Cell<bool>,
    clock: Cell<Tick>,
    tick: Duration,
    /// Number of tasks that must end before the worker may.
    active: Cell<usize>,
    ended: Notify,
    /// Handles of all tasks. They end with the worker, which may end while its
    /// thread goes on.
    tasks: RefCell<Slab<AbortHandle>>,
}

impl Thread {
    pub(crate) fn new(env: Arc<Env>, turns: Rc<Turns>) -> Rc<Self> {
        Rc::new(Self {
            tick: tick(&env.limits),
            turns,
            meter: env.counters.meters.of_thread(),
            env,
            scratch: RefCell::new(Scratch::default()),
            joined: RefCell::default(),
            pipes: RefCell::default(),
            draining: Cell::new(false),
            spares_idle: Cell::new(false),
            drained: Notify::new(),
            aborting: Cell::new(false),
            clock: Cell::new(0),
            active: Cell::new(0),
            ended: Notify::new(),
            tasks: RefCell::default(),
        })
    }

    /// Returns the time, as of the last tick.
    #[inline]
    pub fn now(&self) -> Tick {
        self.clock.get()
    }

    /// Sets the time.
    pub(crate) fn set_clock(&self, now: Tick) {
        self.clock.set(now);
        // A pipe unused since the last tick would only hold descriptors.
        self.pipes.borrow_mut().clear();
    }

    /// True if `limit` has passed since a tick.
    pub fn passed(&self, since: Tick, limit: Duration) -> bool {
        self.now().saturating_sub(since) >= self.ticks(limit)
    }

    /// Converts a duration to ticks, rounded up, plus one because the present
    /// tick has already begun.
    fn ticks(&self, time: Duration) -> Tick {
        // Events ask for this. A division of 128 bits is a call, and 64 are 584 years.
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let ticks = nanos(time).div_ceil(nanos(self.tick).max(1));
        ticks.saturating_add(1)
    }

    /// Returns the time since a tick, to the resolution of the clock.
    pub(crate) fn since(&self, tick: Tick) -> Duration {
        let ticks = self.now().saturating_sub(tick);
        self.tick
            .saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// Returns the tick by which a duration will have passed.
    pub fn tick_after(&self, time: Duration) -> Tick {
        self.now().saturating_add(self.ticks(time))
    }

    /// Returns the deadline of a TLS handshake that begins now, and the message
    /// for missing it.
    pub(crate) fn handshake_deadline(&self) -> (Tick, &'static str) {
        let due = self.tick_after(self.env.limits.handshake_timeout);
        (
            due,
            "the TLS handshake takes too long (--handshake-timeout)",
        )
    }

    /// True if connections are to end as soon as they can: no response may
    /// invite another request. The tasks may not have been notified yet.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.draining.get() || self.env.draining.load(Ordering::Relaxed)
    }

    /// True if connections that wait for a request are to close.
    #[inline]
    pub fn closes_idle(&self) -> bool {
        self.draining.get() && !self.spares_idle.get()
    }

    /// True if the worker waits for nothing any more: its guests are not to be
    /// called again.
    pub fn is_aborting(&self) -> bool {
        self.aborting.get()
    }

    /// Notes that the worker waits for nothing any more.
    pub(crate) fn abort(&self) {
        self.aborting.set(true);
    }

    /// Begins graceful shutdown: notifies the tasks that wait for the end of
    /// the run. `spares_idle` leaves idle connections open for one more
    /// request, which may be on its way.
    pub(crate) fn drain(&self, spares_idle: bool) {
        self.spares_idle.set(spares_idle);
        self.draining.set(true);
        self.drained.notify_waiters();
    }

    /// Waits until the run is ending.
    pub async fn drained(self: Rc<Self>) {
        let notified = self.drained.notified();
        if !self.draining.get() {
            notified.await;
        }
    }

    /// Waits until the run is ending and no task is left.
    pub async fn all_drained(self: &Rc<Self>) {
        Rc::clone(self).drained().await;
        self.all_ended().await;
    }

    /// Returns a guard. The worker does not end before the guard is dropped.
    pub fn active(self: &Rc<Self>) -> Active {
        Active::new(self)
    }

    /// True if a task is left that the worker waits for.
    pub(crate) fn is_active(&self) -> bool {
        self.active.get() > 0
    }

    /// Runs a task in the turns of a connection. The worker waits for it before
    /// it ends. The returned handle can abort the task earlier.
    pub fn spawn(
        self: &Rc<Self>,
        turn: Rc<Turn>,
        task: impl Future<Output = ()> + 'static,
    ) -> AbortHandle {
        let active = Active::new(self);
        self.spawn_aside(turn, async move {
            task.await;
            drop(active);
        })
    }

    /// Runs a task in the turns of a connection. The worker does not wait for
    /// it: the task ends with the worker.
    pub fn spawn_aside(
        self: &Rc<Self>,
        turn: Rc<Turn>,
        task: impl Future<Output = ()> + 'static,
    ) -> AbortHandle {
        let listed = self.list();
        self.run_listed(async move {
            turn.run(task).await;
            drop(listed);
        })
    }

    /// Runs a task outside of the turns. It ends with the worker.
    pub fn spawn_local(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) -> AbortHandle {
        let listed = self.list();
        self.run_listed(async move {
            task.await;
            drop(listed);
        })
    }

    /// Returns the entry of the next task, which the task holds. A task without
    /// a layer of futures for that is smaller.
    fn list(self: &Rc<Self>) -> Listed {
        Listed {
            key: self.next_task(),
            thread: Rc::clone(self),
        }
    }

    /// Returns the place of the next task in the list, which the task holds and is to
    /// give back by [`Self::unlist`].
    pub(crate) fn next_task(&self) -> usize {
        self.tasks.borrow().vacant_key()
    }

    /// Takes a task out of the list.
    pub(crate) fn unlist(&self, key: usize) {
        let handle = self.tasks.borrow_mut().try_remove(key);
        drop(handle);
    }

    /// Runs the task that holds the place that is next.
    pub(crate) fn run_listed(&self, task: impl Future<Output = ()> + 'static) -> AbortHandle {
        let handle = tokio::task::spawn_local(task).abort_handle();
        // The task runs later, so the key is still vacant.
        self.tasks.borrow_mut().insert(handle.clone());
        handle
    }

    fn abort_tasks(&self) {
        for (_, task) in &*self.tasks.borrow() {
            task.abort();
        }
    }

    /// Aborts all tasks, and waits until they are gone with all that they hold.
    pub(crate) async fn end_tasks(&self) {
        while !self.tasks.borrow().is_empty() {
            // They are dropped later, so none of them is removed here. What they
            // begin in their end is aborted in the next round.
            self.abort_tasks();
            tokio::task::yield_now().await;
        }
    }

    /// Notes a task that the worker waits for, until [`Self::one_ended`].
    pub(crate) fn one_began(&self) {
        self.active.set(self.active.get() + 1);
    }

    /// Notes the end of a task that the worker waits for.
    pub(crate) fn one_ended(&self) {
        self.active.set(self.active.get() - 1);
        if self.active.get() == 0 {
            self.ended.notify_one();
        }
    }

    /// Waits until no task is left.
    pub(crate) async fn all_ended(&self) {
        while self.active.get() > 0 {
            self.ended.notified().await;
        }
    }
}

/// Entry of a task in the list of its thread.
#[derive(Debug)]
struct Listed {
    thread: Rc<Thread>,
    key: usize,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.thread.unlist(self.key);
    }
}

/// Returns the resolution of deadlines: a fraction of the shortest.
pub fn tick(limits: &Limits) -> Duration {
    let http = &limits.http;
    let times = [
        limits.handshake_timeout,
        limits.write_timeout,
        http.head_timeout,
        http.body_timeout,
        http.websocket.ping.unwrap_or(http.websocket.ping_timeout),
        http.websocket.ping_timeout,
        http.keep_alive_timeout,
        http.response_body_timeout,
    ];
    let shortest = times
        .into_iter()
        .chain(limits.idle_timeout)
        .chain(limits.half_close_timeout)
        .min()
        .unwrap_or(Duration::MAX);
    (shortest / 16).clamp(Duration::from_millis(5), Duration::from_millis(500))
}

/// Guard of a task that the worker waits for before it ends.
#[derive(Debug)]
pub struct Active(Rc<Thread>);

impl Active {
    fn new(thread: &Rc<Thread>) -> Self {
        thread.one_began();
        Self(Rc::clone(thread))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.one_ended();
    }
}

/// Buffers used during one poll.
#[derive(Debug, Default)]
pub struct Scratch {
    wire: Vec<u8>,
    plain: Vec<u8>,
}

/// Location and length of received bytes in the scratch buffers.
#[derive(Clone, Copy, Debug)]
pub enum Received {
    /// Bytes as they came from the socket.
    Wire(usize),
    /// Plain text from a TLS session.
    Plain(usize),
}

impl Received {
    /// Returns the number of bytes.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::Wire(count) | Self::Plain(count) => count,
        }
    }

    /// True at the end of the stream.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Wire(0) | Self::Plain(0))
    }

    /// True if the buffer was filled, so that there may be more.
    pub(crate) fn filled(self) -> bool {
        matches!(self, Self::Wire(SCRATCH..) | Self::Plain(SCRATCH..))
    }
}

impl Scratch {
    pub(crate) fn wire(&mut self) -> &mut [u8] {
        buffer(&mut self.wire)
    }

    /// Returns both buffers: for bytes from the socket, and for a session's
    /// plain text.
    pub(crate) fn both(&mut self) -> (&mut [u8], &mut [u8]) {
        (buffer(&mut self.wire), buffer(&mut self.plain))
    }

    /// Returns the received bytes.
    pub fn get(&self, received: Received) -> &[u8] {
        let (buffer, count) = match received {
            Received::Wire(count) => (&self.wire, count),
            Received::Plain(count) => (&self.plain, count),
        };
        buffer.get(..count).unwrap_or_default()
    }
}

/// Allocates a buffer on first use.
fn buffer(buffer: &mut Vec<u8>) -> &mut [u8] {
    if buffer.is_empty() {
        buffer.resize(SCRATCH, 0);
    }
    buffer
}
