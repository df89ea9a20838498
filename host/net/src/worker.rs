//! A worker: one thread with its own runtime, listening sockets and
//! connections.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use slab::Slab;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use netwasm_base::config::ListenerKind;
use netwasm_base::error::ConnectionError;

use crate::dns::Resolver;
use crate::env::Env;
use crate::listener::{Accepted, Listener, StreamListener};
use crate::service::{Program, Service, Services};
use crate::thread::{Active, Thread, Tick};
use crate::tls::Tls;
use crate::transport::Transport;
use crate::turns::{HEAVY, Turn};

/// How much work it is to accept a connection: about that of so many bytes.
const ACCEPT: usize = HEAVY / 4;

/// The connections of a thread, and what looks names up for them.
#[derive(Debug)]
pub struct Worker {
    /// What all that runs here shares.
    pub thread: Rc<Thread>,
    /// Looks names up.
    pub resolver: Resolver,
    transports: RefCell<Slab<Rc<Transport>>>,
}

impl Worker {
    /// The one of this thread.
    pub fn new(env: Arc<Env>) -> Rc<Self> {
        Rc::new(Self {
            resolver: Resolver::new(&env.names),
            thread: Thread::new(env),
            transports: RefCell::default(),
        })
    }

    /// What all workers share.
    pub fn env(&self) -> &Arc<Env> {
        &self.thread.env
    }

    /// Runs a connection's driver.
    pub fn drive(
        self: &Rc<Self>,
        transport: &Rc<Transport>,
        driver: impl Future<Output = ()> + Unpin + 'static,
    ) {
        let key = self.transports.borrow_mut().insert(Rc::clone(transport));
        let registered = Registered {
            worker: Rc::clone(self),
            key,
            _active: self.thread.active(),
        };
        tokio::task::spawn_local(Driving {
            driver,
            turn: Rc::clone(&transport.turn),
            _registered: registered,
        });
    }

    /// Takes a connection that was accepted.
    fn accept(self: &Rc<Self>, services: &Services, accepted: Accepted) {
        let Accepted {
            socket,
            peer,
            kind,
            permit,
        } = accepted;
        let Some(service) = services.of(kind) else {
            return;
        };
        let transport = match Transport::new(&self.thread, socket, peer, Some(permit)) {
            Ok(transport) => transport,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be watched");
                return;
            }
        };
        self.env().counters.connections_accepted.add();
        self.enter(service, kind, transport);
    }

    /// Begins what is spoken on a connection: TLS, where its listener has that,
    /// and what its service does then. What comes before TLS is to be read before
    /// this is called.
    fn enter(self: &Rc<Self>, service: &dyn Service, kind: ListenerKind, transport: Rc<Transport>) {
        let env = self.env();
        if kind.is_encrypted() {
            let config = match kind {
                ListenerKind::Https => env.tls.https_server(),
                _ => env.tls.server(),
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
        service.accept(self, transport);
    }

    /// Closes idle connections whenever places are wanted for new ones.
    async fn make_room(self: Rc<Self>) -> io::Result<()> {
        loop {
            self.env().places.wanted().await;
            self.close_idle();
        }
    }

    /// Closes a part of the connections that are idle, the longest idle first.
    fn close_idle(&self) {
        let now = self.thread.now();
        let all = self.transports.borrow();
        // One that has just become so may have its next request on the way.
        let idle = |it: &&Rc<Transport>| it.idle.get() && it.moved() < now;
        let mut idle: Vec<_> = all.iter().map(|(_, it)| it).filter(idle).collect();
        // As many as nginx closes.
        let count = (idle.len() / 8).clamp(1, 32);
        idle.sort_by_key(|transport| transport.moved());
        let quiet = idle.into_iter().filter(|transport| transport.is_quiet());
        for transport in quiet.take(count) {
            self.env().counters.connections_reclaimed.add();
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
        let going_on = usize::from(self.thread.is_active());
        let aborted = self.transports.borrow().len().max(going_on);
        self.fail_all(&ConnectionError::Aborted);
        // What is left has a moment to tell its guests.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.thread.all_ended()).await;
        aborted
    }

    /// It is so late by now: ends what took too long.
    pub fn tick(&self, now: Tick) {
        self.thread.set_clock(now);
        for (_, transport) in &*self.transports.borrow() {
            transport.check_deadlines();
        }
    }

    /// Keeps the clock, and ends what is late.
    ///
    /// # Errors
    /// The clock has stopped.
    async fn watch_deadlines(
        self: Rc<Self>,
        services: Rc<Services>,
        mut clock: watch::Receiver<Tick>,
    ) -> io::Result<()> {
        loop {
            let changed = clock.changed().await;
            changed.map_err(|_| io::Error::other("the clock has stopped"))?;
            let now = *clock.borrow_and_update();
            self.tick(now);
            services.tick();
        }
    }

    /// Has connections end that need not go on.
    fn drain(&self) {
        self.thread.drain();
        for (_, transport) in &*self.transports.borrow() {
            transport.nudge();
        }
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
    worker: Rc<Worker>,
    key: usize,
    /// Dropped last: the worker waits for it.
    _active: Active,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let transport = self.worker.transports.borrow_mut().try_remove(self.key);
        if let Some(transport) = transport
            && std::thread::panicking()
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

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// New connections are accepted.
    Serving,
    /// No new connections; those that are there come to their end.
    Draining,
    /// Nothing is waited for.
    Aborting,
}

/// What a worker is given to serve.
#[derive(Debug)]
pub struct Assignment {
    /// Its own listening sockets.
    pub listeners: Vec<Listener>,
    /// Connections that another worker accepted for it.
    pub handed: mpsc::UnboundedReceiver<Accepted>,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// Connections, and the command, that had to be aborted.
    pub aborted: usize,
    /// What the command said of itself.
    pub code: Option<u8>,
    /// True if the worker could not go on, or never began.
    pub failed: bool,
}

/// Serves until the run ends, or runs the program until that ends.
pub async fn run(
    worker: Rc<Worker>,
    services: Services,
    assignment: Assignment,
    phase: watch::Receiver<Phase>,
    clock: watch::Receiver<Tick>,
) -> Ended {
    let turns = Rc::clone(&worker.thread.turns);
    turns
        .run(serve(worker, services, assignment, phase, clock))
        .await
}

async fn serve(
    worker: Rc<Worker>,
    mut services: Services,
    assignment: Assignment,
    mut phase: watch::Receiver<Phase>,
    clock: watch::Receiver<Tick>,
) -> Ended {
    let program = services.program.take();
    let services = Rc::new(services);
    let thread = &worker.thread;
    let mut vital = Vital::default();
    vital.spawn(Rc::clone(&worker).watch_deadlines(Rc::clone(&services), clock));
    vital.spawn(Rc::clone(&worker).make_room());
    let mut listening = Vec::new();
    for listener in assignment.listeners {
        match listener {
            Listener::Stream(listener) => {
                let accepting = accept(Rc::clone(&worker), Rc::clone(&services), listener);
                listening.push(vital.spawn(accepting));
            }
            Listener::Datagram(socket) => {
                let Some(service) = &services.datagrams else {
                    continue;
                };
                let (active, turn) = (thread.active(), thread.turns.turn());
                let serving = service.serve(thread, socket, &turn);
                vital.spawn(async move {
                    let result = turn.run(serving).await;
                    drop(active);
                    result
                });
            }
        }
    }
    let mut handed = assignment.handed;
    let (taking, taken) = (Rc::clone(&worker), Rc::clone(&services));
    listening.push(vital.spawn(async move {
        let turn = taking.thread.turns.turn();
        while let Some(accepted) = handed.recv().await {
            taking.accept(&taken, accepted);
            if !handed.is_empty() {
                turn.pause(ACCEPT).await;
            }
        }
        Ok(())
    }));

    if let Some(program) = program {
        return command(&worker, program, phase, vital).await;
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
            () = thread.all_ended() => {}
            _ = phase.wait_for(|phase| *phase == Phase::Aborting) => {}
            () = vital.failed() => failed = true,
        }
    }
    // Connections of a worker that fails have nobody who ends them in time.
    let aborted = worker.abort().await;
    services.tick();
    Ended {
        aborted,
        code: None,
        failed,
    }
}

/// Runs the program until it ends, or has to. Its connections go with it, as
/// those of a process do.
async fn command(
    worker: &Rc<Worker>,
    program: Program,
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
    let turn = worker.thread.turns.turn();
    // Not the main task, whose polls begin the rounds of the turns.
    let mut running = JoinSet::new();
    running.spawn_local(async move { turn.run(program).await });
    let code = tokio::select! {
        code = running.join_next() => {
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
async fn accept(
    worker: Rc<Worker>,
    services: Rc<Services>,
    listener: StreamListener,
) -> io::Result<()> {
    let places = Arc::clone(&worker.env().places);
    let (mut acceptor, kind, share) = listener.into_parts()?;
    let mut next = 0_usize;
    let turn = worker.thread.turns.turn();
    let mut poll = None;
    loop {
        let accepted = poll_fn(|cx| acceptor.poll_accept(&places, cx)).await;
        let Some((socket, peer, permit)) = accepted else {
            return Err(io::Error::other("a listening socket cannot be watched"));
        };
        if poll.replace(turn.number()) == Some(turn.number()) {
            // Another was accepted in the same poll: there may be more.
            turn.pause(ACCEPT).await;
        }
        let accepted = Accepted {
            socket,
            peer,
            kind,
            permit,
        };
        match share.as_slice() {
            [] => worker.accept(&services, accepted),
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

    use netwasm_base::config::Limits;

    use super::*;
    use crate::testing::{connection, in_worker};

    #[test]
    fn a_driver_that_panics_leaves_nothing_behind() {
        in_worker(Limits::default(), async |worker: Rc<Worker>| {
            let (one, mut client) = connection(&worker);
            let (other, _upstream) = connection(&worker);
            one.relay(&other).expect("a relay");
            other.relay(&one).expect("a relay");
            worker.drive(&one, poll_fn(|_| panic!("as it was told")));
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
            assert_eq!(worker.env().counters.connections_lost.get(), 1);
        });
    }

    #[test]
    fn a_task_that_must_live_and_does_not_is_noticed() {
        in_worker(Limits::default(), async |_| {
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
        in_worker(Limits::default(), async |worker: Rc<Worker>| {
            let (clock, ticks) = watch::channel::<Tick>(0);
            let mut vital = Vital::default();
            vital.spawn(Rc::clone(&worker).watch_deadlines(Rc::default(), ticks));
            clock.send(7).expect("it listens");
            while worker.thread.now() < 7 {
                tokio::task::yield_now().await;
            }
            drop(clock);
            vital.failed().await;
        });
    }
}
