//! A worker: one thread with its own runtime, listening sockets, scratch
//! buffers and instances. A connection lives and dies on one worker, so
//! nothing here is locked.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use slab::Slab;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::config::{Isolation, ListenerKind};
use crate::connection::Driver;
use crate::dns::Resolver;
use crate::error::ConnectionError;
use crate::http;
use crate::listener::{Accepted, Listener, StreamListener};
use crate::relay::Pipe;
use crate::server::{Phase, Shared};
use crate::tls::Tls;
use crate::transport::Transport;
use crate::turns::{HEAVY, Turn, Turns};
use crate::udp;
use crate::wasm::concurrent;
use crate::wasm::instance::{Instance, InstanceError};

/// What one read may bring, bytes. Larger than what mostly arrives, so that a
/// short read tells that the socket is empty.
const SCRATCH: usize = 64 << 10;

/// How much work it is to accept a connection: about that of so many bytes.
const ACCEPT: usize = HEAVY / 4;

/// A point in time, in the worker's own coarse unit since it began.
pub(crate) type Tick = u32;

/// What the tasks of one thread share.
#[derive(Debug)]
pub(crate) struct Worker {
    /// What all workers share.
    pub(crate) shared: Arc<Shared>,
    /// The turns that tasks take.
    pub(crate) turns: Rc<Turns>,
    /// For what arrives, and only during one poll.
    pub(crate) scratch: RefCell<Scratch>,
    /// Empty pipes, for relays.
    pub(crate) pipes: RefCell<Vec<Pipe>>,
    /// The connections of this worker.
    transports: RefCell<Slab<Rc<Transport>>>,
    /// The instance that all share under `--isolation worker`.
    instance: RefCell<Option<Rc<Instance>>>,
    /// The same for guests that await.
    pub(crate) calls: RefCell<Option<concurrent::Calls>>,
    /// The same for those that answer HTTP requests; as many as it takes.
    pub(crate) requests: RefCell<Vec<Rc<concurrent::Requests>>>,
    pub(crate) resolver: Resolver,
    /// What its HTTP connections share.
    pub(crate) http: http::Local,
    /// Sends the HTTP requests of its guests; made when first used.
    http_client: OnceCell<http::Client>,
    /// Whether the run is at its end, and what is idle should go.
    draining: Cell<bool>,
    drained: Notify,
    clock: Cell<Tick>,
    tick: Duration,
    /// Tasks that must end before the worker may.
    active: Cell<usize>,
    ended: Notify,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            tick: tick(&shared.limits),
            http: http::Local::new(shared.access_log.as_ref()),
            http_client: OnceCell::new(),
            draining: Cell::new(false),
            drained: Notify::new(),
            resolver: Resolver::new(&shared.names),
            turns: Turns::new(shared.steps.clone()),
            shared,
            scratch: RefCell::new(Scratch::default()),
            pipes: RefCell::default(),
            transports: RefCell::default(),
            instance: RefCell::default(),
            calls: RefCell::default(),
            requests: RefCell::default(),
            clock: Cell::new(0),
            active: Cell::new(0),
            ended: Notify::new(),
        })
    }

    /// The time, as of the last tick.
    pub(crate) fn now(&self) -> Tick {
        self.clock.get()
    }

    /// Whether a length of time has passed since a tick.
    pub(crate) fn passed(&self, since: Tick, limit: Duration) -> bool {
        self.now().saturating_sub(since) >= self.ticks(limit)
    }

    /// A length of time in ticks, rounded up; one more, since the present
    /// tick has begun already.
    fn ticks(&self, time: Duration) -> Tick {
        let ticks = time.as_nanos().div_ceil(self.tick.as_nanos().max(1)) + 1;
        Tick::try_from(ticks).unwrap_or(Tick::MAX)
    }

    /// The tick by which a length of time will have passed.
    pub(crate) fn tick_after(&self, time: Duration) -> Tick {
        self.now().saturating_add(self.ticks(time))
    }

    /// Whether connections are to end as soon as they can.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    pub(crate) fn handshake_deadline(&self) -> (Tick, &'static str) {
        let due = self.tick_after(self.shared.limits.handshake_timeout);
        (
            due,
            "the TLS handshake takes too long (--handshake-timeout)",
        )
    }

    /// The instance for a new connection: its own, or the worker's.
    ///
    /// # Errors
    /// No instance can be made.
    pub(crate) fn instance(self: &Rc<Self>) -> Result<Rc<Instance>, InstanceError> {
        if self.shared.isolation != Isolation::Worker {
            return Instance::new(self);
        }
        let mut kept = self.instance.borrow_mut();
        match &*kept {
            Some(instance) if !instance.is_dead() => Ok(Rc::clone(instance)),
            _ => Ok(Rc::clone(kept.insert(Instance::new(self)?))),
        }
    }

    /// What sends the HTTP requests of its guests.
    pub(crate) fn http_client(self: &Rc<Self>) -> &http::Client {
        let make = || http::Client::new(Rc::downgrade(self));
        self.http_client.get_or_init(make)
    }

    /// Has the worker wait, before it ends, until what this returns is dropped.
    pub(crate) fn active(self: &Rc<Self>) -> Active {
        Active::new(self)
    }

    /// Runs a task in the turns of a connection. The worker waits for it before
    /// it ends; it may be aborted before that.
    pub(crate) fn spawn(
        self: &Rc<Self>,
        turn: Rc<Turn>,
        task: impl Future<Output = ()> + 'static,
    ) -> AbortHandle {
        let active = Active::new(self);
        let task = tokio::task::spawn_local(async move {
            turn.run(task).await;
            drop(active);
        });
        task.abort_handle()
    }

    /// Runs a connection's driver.
    pub(crate) fn drive(
        self: &Rc<Self>,
        transport: &Rc<Transport>,
        driver: impl Future<Output = ()> + Unpin + 'static,
    ) {
        let key = self.transports.borrow_mut().insert(Rc::clone(transport));
        let registered = Registered {
            active: Active::new(self),
            key,
        };
        tokio::task::spawn_local(Driving {
            driver,
            turn: Rc::clone(&transport.turn),
            _registered: registered,
        });
    }

    /// Takes a connection that was accepted.
    fn accept(self: &Rc<Self>, accepted: Accepted) {
        let Accepted {
            socket,
            peer,
            kind,
            permit,
        } = accepted;
        let transport = match Transport::new(self, socket, peer, Some(permit)) {
            Ok(transport) => transport,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be watched");
                return;
            }
        };
        self.shared.counters.connections_accepted.add();
        if kind.is_encrypted() {
            let tls = &self.shared.tls;
            let config = match kind {
                ListenerKind::Https => tls.https_server(),
                _ => tls.server(),
            };
            match config.map(Tls::accept) {
                Some(Ok(session)) => transport.core.borrow_mut().begin_tls(session),
                Some(Err(error)) => {
                    tracing::error!(%error, "no TLS session for a connection");
                    return;
                }
                None => return,
            }
        }
        if kind.is_http() {
            self.drive(&transport, http::Driver::accepted(Rc::clone(&transport)));
        } else {
            self.drive(&transport, Driver::accepted(Rc::clone(&transport)));
        }
    }

    /// Closes idle connections whenever places are wanted for new ones.
    async fn make_room(self: Rc<Self>) -> io::Result<()> {
        loop {
            self.shared.places.wanted().await;
            self.close_idle();
        }
    }

    /// Closes a part of the connections that are idle, the longest idle first.
    fn close_idle(&self) {
        let now = self.now();
        let all = self.transports.borrow();
        // One that has just become so may have its next request on the way.
        let idle = |it: &&Rc<Transport>| it.idle.get() && it.moved() < now;
        let mut idle: Vec<_> = all.iter().map(|(_, it)| it).filter(idle).collect();
        // As many as nginx closes.
        let count = (idle.len() / 8).clamp(1, 32);
        idle.sort_by_key(|transport| transport.moved());
        let quiet = idle.into_iter().filter(|transport| transport.is_quiet());
        for transport in quiet.take(count) {
            self.shared.counters.connections_reclaimed.add();
            tracing::info!(peer = %transport.peer(),
                "closing an idle connection for a new one (--max-connections)");
            transport.reclaim();
        }
    }

    /// Ends all connections, for a reason.
    fn fail_all(&self, reason: &ConnectionError) {
        for transport in self.all_transports() {
            transport.fail(reason.clone());
        }
    }

    /// The connections; a copy, since ending one may end others.
    fn all_transports(&self) -> Vec<Rc<Transport>> {
        self.transports
            .borrow()
            .iter()
            .map(|(_, transport)| Rc::clone(transport))
            .collect()
    }

    /// Closes what is left, without waiting for its peers.
    async fn close_all(&self) {
        for transport in self.all_transports() {
            transport.close();
        }
        // Each connection's task has its turn.
        tokio::task::yield_now().await;
    }

    /// Ends what is left, and says how many connections that were; a guest that
    /// goes on without any counts as one.
    async fn abort(&self) -> usize {
        let going_on = usize::from(self.active.get() > 0);
        let aborted = self.transports.borrow().len().max(going_on);
        self.fail_all(&ConnectionError::Aborted);
        // What is left has a moment to tell its guests.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.all_ended()).await;
        self.http.flush_log();
        aborted
    }

    /// Keeps the clock, and ends what is late.
    ///
    /// # Errors
    /// The clock has stopped.
    async fn watch_deadlines(self: Rc<Self>, mut clock: watch::Receiver<Tick>) -> io::Result<()> {
        loop {
            let changed = clock.changed().await;
            changed.map_err(|_| io::Error::other("the clock has stopped"))?;
            self.clock.set(*clock.borrow_and_update());
            for (_, transport) in &*self.transports.borrow() {
                transport.check_deadlines();
            }
            self.http.tick();
            // A pipe that was not used since would only hold descriptors.
            self.pipes.borrow_mut().clear();
        }
    }

    /// Waits until the run is at its end.
    pub(crate) async fn drained(self: Rc<Self>) {
        let notified = self.drained.notified();
        if !self.is_draining() {
            notified.await;
        }
    }

    /// Waits until the run is at its end, and no task is left.
    pub(crate) async fn all_drained(self: &Rc<Self>) {
        Rc::clone(self).drained().await;
        self.all_ended().await;
    }

    /// Has connections end that need not go on.
    fn drain(&self) {
        self.draining.set(true);
        self.drained.notify_waiters();
        for (_, transport) in &*self.transports.borrow() {
            transport.nudge();
        }
    }

    fn one_ended(&self) {
        self.active.set(self.active.get() - 1);
        if self.active.get() == 0 {
            self.ended.notify_one();
        }
    }

    /// Waits until no task is left.
    async fn all_ended(&self) {
        while self.active.get() > 0 {
            self.ended.notified().await;
        }
    }
}

/// How fine the deadlines are: a fraction of the shortest.
pub(crate) fn tick(limits: &crate::config::Limits) -> Duration {
    let http = &limits.http;
    let times = [
        limits.handshake_timeout,
        limits.write_timeout,
        http.head_timeout,
        http.body_timeout,
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

/// A task that the worker waits for.
#[derive(Debug)]
pub(crate) struct Active(Rc<Worker>);

impl Active {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.active.set(worker.active.get() + 1);
        Self(Rc::clone(worker))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.one_ended();
    }
}

/// Tasks without which a worker does not do its work.
#[derive(Debug, Default)]
struct Vital(JoinSet<io::Result<()>>);

impl Vital {
    /// Runs a task, which may come to its end but must not fail.
    fn spawn(&mut self, task: impl Future<Output = io::Result<()>> + 'static) -> AbortHandle {
        self.0.spawn_local(task)
    }

    /// Waits until one of them has failed, by an error or a panic.
    async fn failed(&mut self) {
        loop {
            match self.0.join_next().await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => {
                    tracing::error!(%error, "a worker fails");
                    return;
                }
                Some(Err(error)) if error.is_cancelled() => {}
                // The panic was logged.
                Some(Err(_)) => return,
                None => std::future::pending().await,
            }
        }
    }
}

/// A connection's place among those of its worker.
#[derive(Debug)]
struct Registered {
    /// Dropped last: the worker waits for it.
    active: Active,
    key: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let transport = self.active.0.transports.borrow_mut().try_remove(self.key);
        if let Some(transport) = transport
            && thread::panicking()
        {
            transport.abandon();
        }
    }
}

/// A driver with its registration: a future of its own, so that the hot path
/// has no layer more than it needs.
struct Driving<D> {
    driver: D,
    turn: Rc<Turn>,
    _registered: Registered,
}

impl<D: Future<Output = ()> + Unpin> Future for Driving<D> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { driver, turn, .. } = &mut *self;
        turn.poll(cx, |cx| Pin::new(driver).poll(cx))
    }
}

/// Buffers that are used during one poll.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    wire: Vec<u8>,
    plain: Vec<u8>,
}

/// Where in the scratch buffers something was received, and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Received {
    /// As it came from the socket.
    Wire(usize),
    /// Out of a TLS session.
    Plain(usize),
}

impl Received {
    /// Bytes.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::Wire(count) | Self::Plain(count) => count,
        }
    }

    /// Whether it is the end of the stream.
    pub(crate) fn is_end(self) -> bool {
        matches!(self, Self::Wire(0) | Self::Plain(0))
    }

    /// Whether the buffer was filled, so that there may be more.
    pub(crate) fn filled(self) -> bool {
        matches!(self, Self::Wire(SCRATCH..) | Self::Plain(SCRATCH..))
    }
}

impl Scratch {
    pub(crate) fn wire(&mut self) -> &mut [u8] {
        buffer(&mut self.wire)
    }

    /// Both: for what comes from the socket, and for what a session makes of it.
    pub(crate) fn both(&mut self) -> (&mut [u8], &mut [u8]) {
        (buffer(&mut self.wire), buffer(&mut self.plain))
    }

    pub(crate) fn get(&self, received: Received) -> &[u8] {
        let (buffer, count) = match received {
            Received::Wire(count) => (&self.wire, count),
            Received::Plain(count) => (&self.plain, count),
        };
        buffer.get(..count).unwrap_or_default()
    }
}

/// Allocated when first used.
fn buffer(buffer: &mut Vec<u8>) -> &mut [u8] {
    if buffer.is_empty() {
        buffer.resize(SCRATCH, 0);
    }
    buffer
}

/// What a worker is given to serve.
#[derive(Debug)]
pub(crate) struct Assignment {
    /// Its own listening sockets.
    pub(crate) listeners: Vec<Listener>,
    /// Connections that another worker accepted for it.
    pub(crate) handed: mpsc::UnboundedReceiver<Accepted>,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ended {
    /// Connections, and the command, that had to be aborted.
    pub(crate) aborted: usize,
    /// What the command said of itself.
    pub(crate) code: Option<u8>,
    /// True if the worker could not go on, or never began.
    pub(crate) failed: bool,
}

/// Serves until the run ends, or runs the command until that ends.
pub(crate) async fn run(
    shared: Arc<Shared>,
    assignment: Assignment,
    phase: watch::Receiver<Phase>,
    clock: watch::Receiver<Tick>,
) -> Ended {
    let worker = Worker::new(shared);
    let turns = Rc::clone(&worker.turns);
    turns.run(serve(worker, assignment, phase, clock)).await
}

async fn serve(
    worker: Rc<Worker>,
    assignment: Assignment,
    mut phase: watch::Receiver<Phase>,
    clock: watch::Receiver<Tick>,
) -> Ended {
    let mut vital = Vital::default();
    vital.spawn(Rc::clone(&worker).watch_deadlines(clock));
    vital.spawn(Rc::clone(&worker).make_room());
    let mut listening = Vec::new();
    for listener in assignment.listeners {
        match listener {
            Listener::Stream(listener) => {
                listening.push(vital.spawn(accept(Rc::clone(&worker), listener)));
            }
            Listener::Datagram(socket) => {
                let (active, turn) = (worker.active(), worker.turns.turn());
                let (worker, phase) = (Rc::clone(&worker), phase.clone());
                let serving = udp::serve(worker, socket, phase, Rc::clone(&turn));
                vital.spawn(async move {
                    let result = turn.run(serving).await;
                    drop(active);
                    result
                });
            }
        }
    }
    let mut handed = assignment.handed;
    let taking = Rc::clone(&worker);
    listening.push(vital.spawn(async move {
        let turn = taking.turns.turn();
        while let Some(accepted) = handed.recv().await {
            taking.accept(accepted);
            if !handed.is_empty() {
                turn.pause(ACCEPT).await;
            }
        }
        Ok(())
    }));

    if worker.shared.program.is_command() {
        return command(&worker, phase, vital).await;
    }
    let mut failed = tokio::select! {
        // An error means that the server is gone, which is an end as well.
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => false,
        () = vital.failed() => true,
    };
    listening.iter().for_each(AbortHandle::abort);
    worker.drain();
    if !failed {
        tokio::select! {
            () = worker.all_ended() => {}
            _ = phase.wait_for(|phase| *phase == Phase::Aborting) => {}
            () = vital.failed() => failed = true,
        }
    }
    // Connections of a worker that fails have nobody who ends them in time.
    let aborted = worker.abort().await;
    Ended {
        aborted,
        code: None,
        failed,
    }
}

/// Runs the command until it ends, or has to. Its connections go with it, as
/// those of a process do.
async fn command(
    worker: &Rc<Worker>,
    mut phase: watch::Receiver<Phase>,
    mut vital: Vital,
) -> Ended {
    let mut aborting = phase.clone();
    let draining = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        // An error means that the server is gone, which is an end as well.
        let _ = phase.wait_for(|phase| *phase != Phase::Serving).await;
        draining.drain();
    });
    let mut failed = false;
    let (running, turn) = (Rc::clone(worker), worker.turns.turn());
    // Not the main task, whose polls begin the rounds of the turns.
    let mut program = JoinSet::new();
    program.spawn_local(async move {
        match running.shared.program.command() {
            Some(program) => turn.run(concurrent::run(&running, program)).await,
            None => 1,
        }
    });
    let code = tokio::select! {
        code = program.join_next() => {
            let code = code.and_then(Result::ok);
            // It panicked, which was logged.
            failed = code.is_none();
            code
        }
        _ = aborting.wait_for(|phase| *phase == Phase::Aborting) => None,
        () = vital.failed() => {
            failed = true;
            None
        }
    };
    if code.is_some() {
        worker.close_all().await;
    } else {
        worker.abort().await;
    }
    Ended {
        aborted: usize::from(code.is_none()),
        code,
        failed,
    }
}

/// Accepts connections for ever.
///
/// # Errors
/// The runtime cannot watch the socket.
async fn accept(worker: Rc<Worker>, listener: StreamListener) -> io::Result<()> {
    let shared = Arc::clone(&worker.shared);
    let acceptor = listener.into_acceptor()?;
    let mut next = 0_usize;
    let turn = worker.turns.turn();
    let mut poll = None;
    loop {
        let accepted = acceptor.accept(&shared.places).await;
        if poll.replace(turn.number()) == Some(turn.number()) {
            // Another was accepted in the same poll: there may be more.
            turn.pause(ACCEPT).await;
        }
        match acceptor.share() {
            [] => worker.accept(accepted),
            others => {
                next = (next + 1) % others.len();
                if let Some(other) = others.get(next) {
                    // One that is gone has nobody to serve it either.
                    let _ = other.send(accepted);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use tokio::runtime::{Builder, LocalOptions};

    use super::*;
    use crate::cli::{self, Command};
    use crate::transport::Address;

    /// Runs a test in the runtime of a worker that has a guest.
    fn in_worker<F: Future<Output = ()>>(test: impl FnOnce(Rc<Worker>) -> F) {
        let args = ["netwasm", "run", "echo", "--tcp", "0"].map(Into::into);
        let Ok(Command::Run(config, _)) = cli::parse(args) else {
            panic!("a run");
        };
        let shared = Shared::new(&config).expect("a guest");
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .expect("a runtime");
        runtime.block_on(test(Worker::new(Arc::new(shared))));
    }

    fn connection(worker: &Rc<Worker>) -> (Rc<Transport>, UnixStream) {
        let (here, there) = UnixStream::pair().expect("a pair of sockets");
        here.set_nonblocking(true).expect("O_NONBLOCK");
        let transport = Transport::new(worker, here.into(), Address::Unix(None), None);
        (transport.expect("it is watched"), there)
    }

    #[test]
    fn a_driver_that_panics_leaves_nothing_behind() {
        in_worker(async |worker: Rc<Worker>| {
            let (one, mut client) = connection(&worker);
            let (other, _upstream) = connection(&worker);
            one.relay(&other).expect("a relay");
            other.relay(&one).expect("a relay");
            worker.drive(&one, std::future::poll_fn(|_| panic!("as it was told")));
            worker.drive(&other, std::future::pending());
            while worker.transports.borrow().len() > 1 {
                tokio::task::yield_now().await;
            }
            // Its descriptor is closed, and the other end is told.
            assert_eq!(client.read(&mut [0]).expect("an end"), 0);
            assert!(other.has_failed());
            let left = Rc::downgrade(&one);
            drop(one);
            other.release();
            assert_eq!(left.strong_count(), 0);
            assert_eq!(worker.shared.counters.connections_lost.get(), 1);
        });
    }

    #[test]
    fn a_task_that_must_live_and_does_not_is_noticed() {
        in_worker(async |_| {
            let mut vital = Vital::default();
            vital.spawn(async { Ok(()) });
            vital.spawn(std::future::pending()).abort();
            let ended = tokio::time::timeout(Duration::from_millis(10), vital.failed());
            assert!(
                ended.await.is_err(),
                "what has ended in order is no failure"
            );
            vital.spawn(async { panic!("as it was told") });
            vital.failed().await;
            vital.spawn(async { Err(io::ErrorKind::OutOfMemory.into()) });
            vital.failed().await;
        });
    }

    #[test]
    fn a_clock_that_stops_is_noticed() {
        in_worker(async |worker: Rc<Worker>| {
            let (clock, ticks) = watch::channel::<Tick>(0);
            let mut vital = Vital::default();
            vital.spawn(Rc::clone(&worker).watch_deadlines(ticks));
            clock.send(7).expect("it listens");
            while worker.now() < 7 {
                tokio::task::yield_now().await;
            }
            drop(clock);
            vital.failed().await;
        });
    }
}
