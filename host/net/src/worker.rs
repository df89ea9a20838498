//! A worker: the listeners and connections of a service on one thread. The
//! services of a process have a worker each on every thread.

mod accepting;
mod run;

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::select_all;
use slab::Slab;
use tokio::sync::watch;

use netwasm_base::address::Address;
use netwasm_base::config::ListenerKind;
use netwasm_base::error::ConnectionError;

use crate::accept::{Accepted, preamble};
use crate::dns::Resolver;
use crate::env::Env;
use crate::io::Watched;
use crate::kept::Kept;
use crate::permits::Permit;
use crate::places::{Places, PresentPlaces};
use crate::proxy::Proxied;
use crate::service::{Service, Services};
use crate::thread::{Thread, Tick};
use crate::tls::Tls;
use crate::transport::{OpenConnection, Transport};
use crate::turns::{HEAVY, Turn, Turns};

pub use self::run::{Assignment, Ended, Phase, run};

/// Work of accepting a connection, in bytes.
const ACCEPT: usize = HEAVY / 4;

/// The connections of a service on a thread, and the resolver that they use.
#[derive(Debug)]
pub struct Worker {
    /// State of the worker's thread.
    pub thread: Rc<Thread>,
    /// DNS resolver of the worker.
    pub resolver: Resolver,
    /// Connections to servers, kept for the next requests.
    pub kept: Kept,
    transports: RefCell<Slab<Rc<Transport>>>,
    leaving: RefCell<Vec<LeavingThread>>,
}

/// A connection that ends with its next answer, as its listener's places had none for
/// it. Places that come later may have one.
#[derive(Debug)]
struct LeavingThread {
    places: Rc<PresentPlaces>,
    transport: Weak<Transport>,
}

impl Worker {
    /// Returns a worker that is alone on this thread.
    pub fn new(env: Arc<Env>) -> Rc<Self> {
        let turns = Turns::new(env.steps.clone());
        Self::beside_others(env, turns)
    }

    /// Returns a worker whose tasks share the turns of a thread with those of
    /// other services.
    pub fn beside_others(env: Arc<Env>, turns: Rc<Turns>) -> Rc<Self> {
        Rc::new(Self {
            resolver: Resolver::new(&env.names),
            thread: Thread::new(env, turns),
            kept: Kept::default(),
            transports: RefCell::default(),
            leaving: RefCell::default(),
        })
    }

    /// Returns the state that all workers share.
    pub fn env(&self) -> &Arc<Env> {
        &self.thread.env
    }

    /// Runs a connection's driver.
    pub fn drive(
        self: &Rc<Self>,
        transport: &Rc<Transport>,
        driver: impl Future<Output = ()> + Unpin + 'static,
    ) {
        let driving = Driving {
            driver,
            turn: Rc::clone(&transport.turn),
            registered: self.register(transport),
            task: self.thread.next_task(),
        };
        self.thread.run_listed(driving);
    }

    /// Registers a connection that another one's task drives, such as one to an
    /// upstream: its deadlines and alarms hold until the guard is dropped.
    pub fn register(self: &Rc<Self>, transport: &Rc<Transport>) -> Registered {
        let key = self.transports.borrow_mut().insert(Rc::clone(transport));
        self.thread.one_began();
        Registered {
            worker: Rc::clone(self),
            key,
        }
    }

    /// Takes an accepted connection.
    fn accept(self: &Rc<Self>, services: &Rc<Services>, accepted: Accepted) {
        let Accepted {
            socket,
            peer,
            kind,
            site,
            permit,
            of_listener,
        } = accepted;
        if services.of(kind, site).is_none() {
            return;
        }
        let socket = match Watched::stream(socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be watched");
                return;
            }
        };
        let proxies = &self.env().proxies;
        if proxies.is_empty() || !proxies.iter().any(|proxy| proxy.includes(&peer)) {
            let Ok(place) = self.env().admit(&socket, &peer) else {
                return of_listener.refuse();
            };
            let transport = self.transport(services, site, socket, peer, permit);
            transport.admitted(place, of_listener);
            if let Some(service) = services.of(kind, site) {
                self.enter(service, kind, site, transport);
            }
            return;
        }
        let (worker, services) = (Rc::clone(self), Rc::clone(services));
        let active = self.thread.active();
        self.thread.spawn_local(async move {
            let entered = worker.after_preamble(&socket, &peer).await;
            let Some((client, proxied)) = entered else {
                return;
            };
            let Ok(place) = worker.env().admit(&socket, &client) else {
                return of_listener.refuse();
            };
            let transport = worker.transport(&services, site, socket, client, permit);
            transport.came_through(proxied);
            transport.admitted(place, of_listener);
            if let Some(service) = services.of(kind, site) {
                worker.enter(service, kind, site, transport);
            }
            drop(active);
        });
    }

    /// Wraps an accepted connection. Its place may be of what its listener had
    /// before a reload.
    fn transport(
        &self,
        services: &Services,
        site: Option<usize>,
        socket: Watched,
        client: Address,
        mut permit: Permit,
    ) -> Rc<Transport> {
        let places = services.places(site);
        let full = places.filter(|places| !permit.move_to(places.get().permits()));
        let transport = Transport::watched(&self.thread, socket, client, Some(permit));
        if let Some(places) = full {
            self.lets_leave(places, &transport);
        }
        transport
    }

    /// Lets a connection end with its next answer, as there is no place for it.
    fn lets_leave(&self, places: &Rc<PresentPlaces>, transport: &Rc<Transport>) {
        transport.leave();
        let mut leaving = self.leaving.borrow_mut();
        if leaving.len() == leaving.capacity() {
            leaving.retain(|it| it.transport.strong_count() > 0);
        }
        leaving.push(LeavingThread {
            places: Rc::clone(places),
            transport: Rc::downgrade(transport),
        });
    }

    /// Lets connections of a listener that were to end stay, if there is a place for
    /// them now.
    fn lets_stay(&self, present: &Rc<PresentPlaces>) {
        self.leaving.borrow_mut().retain(|leaving| {
            let Some(transport) = leaving.transport.upgrade() else {
                return false;
            };
            let stays = Rc::ptr_eq(&leaving.places, present)
                && (transport.core.borrow_mut()).takes_place(present.get().permits());
            if stays {
                transport.stay();
            }
            !stays
        });
    }

    /// Replaces the places of a listener. Its connections take what they need more,
    /// and free what they need no longer. Those for which there is no place end with
    /// their next answer, unless places come before that have one.
    pub fn replace_places(&self, present: &Rc<PresentPlaces>, places: &Arc<Places>) {
        let before = present.replace(Arc::clone(places));
        let (from, to) = (before.permits(), places.permits());
        let mut left = 0;
        for (_, transport) in &*self.transports.borrow() {
            if !transport.core.borrow_mut().moves_permit(from, to) {
                self.lets_leave(present, transport);
                left += 1;
            }
        }
        // Last, so that they take no places of those above.
        self.lets_stay(present);
        if left > 0 {
            tracing::info!(
                connections = left,
                "connections end, as a service that joins their listener has fewer places \
                 (--max-connections)"
            );
        }
    }

    /// Reads what a proxy sends first, and returns the client's address. Returns
    /// `None` if the connection cannot be used, which is counted and logged.
    async fn after_preamble(
        &self,
        socket: &Watched,
        proxy: &Address,
    ) -> Option<(Address, Proxied)> {
        let env = self.env();
        let limit = env.limits.handshake_timeout;
        let mut reading = pin!(preamble::read(socket, proxy, limit));
        let read = tokio::select! {
            read = &mut reading => read,
            // Nobody has asked for anything yet.
            () = Rc::clone(&self.thread).drained() => match self.thread.closes_idle() {
                true => {
                    env.counters.connections_accepted.add();
                    env.counters.connections_closed.add();
                    return None;
                }
                false => reading.await,
            },
        };
        match read {
            Ok(read) => Some(read),
            Err(error) => {
                env.counters.proxies_refused.add();
                env.counters.connections_accepted.add();
                env.counters.connections_lost.add();
                tracing::info!(%proxy, %error, "connection refused (--proxy-protocol-from)");
                None
            }
        }
    }

    /// Begins TLS if the listener has it, then the listener's service. Bytes
    /// that precede TLS must be read before this call.
    fn enter(
        self: &Rc<Self>,
        service: &dyn Service,
        kind: ListenerKind,
        site: Option<usize>,
        transport: Rc<Transport>,
    ) {
        let env = self.env();
        if kind.is_encrypted() {
            let config = match kind {
                ListenerKind::Https => env.tls.https_server(site),
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
    async fn make_room(self: Rc<Self>, services: Rc<Services>) -> io::Result<()> {
        loop {
            let sites = || services.sites.iter();
            let own = Arc::clone(&self.env().places);
            let all = sites().map(|it| it.places.get()).chain([own]);
            let wanted = select_all(all.map(|places| Box::pin(places.wanted())));
            let changes = sites().map(|it| Box::pin(it.places.changed()));
            let changes: Vec<_> = changes.collect();
            let changed = async {
                match changes.is_empty() {
                    true => std::future::pending().await,
                    false => select_all(changes).await,
                }
            };
            tokio::select! {
                _ = wanted => self.close_idle(),
                _ = changed => {}
            }
        }
    }

    /// Closes some of the idle connections, the longest idle first.
    fn close_idle(&self) {
        let now = self.thread.now();
        let all = self.transports.borrow();
        // A connection that has just become idle may have its next request on
        // the way.
        let idle = |it: &&Rc<Transport>| it.idle.get() && it.moved() < now;
        let mut idle: Vec<_> = all.iter().map(|(_, it)| it).filter(idle).collect();
        // nginx closes as many.
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

    /// Fails all connections, for a reason.
    fn fail_all(&self, reason: &ConnectionError) {
        for transport in self.all_transports() {
            transport.fail(reason.clone());
        }
    }

    /// Describes the connections.
    pub fn open_connections(&self) -> Vec<OpenConnection> {
        let transports = self.transports.borrow();
        let each = transports.iter().map(|(_, transport)| transport.describe());
        each.collect()
    }

    /// Returns the connections. A copy, since ending one may end others.
    fn all_transports(&self) -> Vec<Rc<Transport>> {
        self.transports
            .borrow()
            .iter()
            .map(|(_, transport)| Rc::clone(transport))
            .collect()
    }

    /// Closes the remaining connections, without waiting for their peers.
    async fn close_all(&self) {
        for transport in self.all_transports() {
            transport.close();
        }
        // Let each connection's task have its turn.
        tokio::task::yield_now().await;
    }

    /// Aborts the remaining connections, and returns their number. A guest that
    /// goes on without connections counts as one.
    async fn abort(&self) -> usize {
        let going_on = usize::from(self.thread.is_active());
        let aborted = self.transports.borrow().len().max(going_on);
        self.thread.abort();
        self.fail_all(&ConnectionError::Aborted);
        // The aborted tasks have a moment to tell their guests.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.thread.all_ended()).await;
        aborted
    }

    /// Ends all tasks of the worker, and waits until they are gone with all
    /// that they hold. To be called once [`run()`] has returned.
    pub async fn end(&self) {
        self.thread.end_tasks().await;
    }

    /// Sets the time, and ends connections whose deadline has passed.
    pub fn tick(&self, now: Tick) {
        self.thread.set_clock(now);
        for (_, transport) in &*self.transports.borrow() {
            transport.check_deadlines();
        }
        self.kept.expire(&self.thread);
        let mut leaving = self.leaving.borrow_mut();
        // Even a weak pointer keeps the memory of a connection.
        leaving.retain(|it| it.transport.strong_count() > 0);
        if leaving.is_empty() {
            leaving.shrink_to_fit();
        }
    }

    /// Keeps the clock, and ends connections whose deadline has passed.
    ///
    /// # Errors
    /// Fails if the clock has stopped.
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

    /// Begins graceful shutdown: ends connections that need not go on. Idle
    /// ones may wait for one more request if `spares_idle` is set.
    fn drain(&self, spares_idle: bool) {
        self.thread.drain(spares_idle);
        for (_, transport) in &*self.transports.borrow() {
            transport.nudge();
        }
    }
}

/// Registration of a connection with its worker, which waits for it before it ends.
#[derive(Debug)]
pub struct Registered {
    worker: Rc<Worker>,
    key: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let transport = self.worker.transports.borrow_mut().try_remove(self.key);
        if let Some(transport) = transport
            && std::thread::panicking()
        {
            transport.abandon();
        }
        // Last, since the worker may end after it.
        self.worker.thread.one_ended();
    }
}

/// A driver with its registration. It is a future of its own, so that the hot
/// path has no needless layer. Every connection has one, so it holds no pointer
/// that another one leads to.
struct Driving<D> {
    driver: D,
    turn: Rc<Turn>,
    registered: Registered,
    /// Its place in the list of the thread's tasks.
    task: usize,
}

impl<D> Drop for Driving<D> {
    fn drop(&mut self) {
        // All that it holds is dropped before any other task of the thread runs.
        self.registered.worker.thread.unlist(self.task);
    }
}

impl<D: Future<Output = ()> + Unpin> Future for Driving<D> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { driver, turn, .. } = &mut *self;
        turn.poll(cx, |cx| Pin::new(driver).poll(cx))
    }
}

#[cfg(test)]
mod tests;
