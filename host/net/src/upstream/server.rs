//! A server of a group: its places for requests, and what happens to its health.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use netwasm_base::address::Address;
use netwasm_base::config::{GroupSettings, HttpVersion, ProxyProtocol};
use netwasm_base::counters::Counters;

use crate::endpoint::Endpoint;
use crate::tls::ClientTls;
use crate::upstream::addresses::ServerAddresses;
use crate::upstream::clock::Clock;
use crate::upstream::hash::of_name;
use crate::upstream::health::{Change, ServerHealth, Standing, WHOLE};
use crate::upstream::limit::Admitted;

/// A server, as all workers see it.
#[derive(Debug)]
pub struct Server {
    /// Number, unique in the process.
    number: u64,
    /// Name of its group, for the log.
    group: Arc<str>,
    /// Hash of its name.
    hash: u64,
    endpoint: Endpoint,
    tls: Option<ClientTls>,
    /// Version that is spoken with it.
    http: HttpVersion,
    /// Version of the PROXY protocol that its connections begin with.
    proxy_protocol: Option<ProxyProtocol>,
    /// True if the operator has named it, so that the policy does not judge its
    /// addresses.
    named: bool,
    weight: u32,
    /// Requests under way.
    active: AtomicUsize,
    /// ServerPlaces for requests, if there is a limit.
    places: Option<ServerPlaces>,
    /// `max-queue` and `queue-timeout`.
    queue: (u32, Duration),
    health: ServerHealth,
    /// Checks that have failed.
    checks_failed: AtomicU64,
    /// Its addresses, if it has a name.
    addresses: Option<ServerAddresses>,
    counters: Arc<Counters>,
}

/// ServerPlaces of a server for requests at once.
#[derive(Debug)]
struct ServerPlaces {
    free: Arc<Semaphore>,
    waiting: AtomicU32,
    most_waiting: u32,
    timeout: Duration,
}

/// Fitness of a server for a request; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fitness {
    Ready,
    /// It begins slowly, and this request is not of its share.
    Starting,
    /// It is in order, and all its places are taken.
    Full,
    /// It has asked for a pause, or has failed of late. If all have, one of them
    /// is better than none.
    Avoided,
    LeftOut,
}

/// Reason why a server has no place for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// Too many requests to the group are under way.
    #[error("too many requests to the group are under way (max-requests)")]
    TooMany,
    /// The checks of all servers fail.
    #[error("all servers of the group are down (check)")]
    Down,
    /// All servers were tried.
    #[error("no other server is left to try")]
    AllTried,
    /// Too many wait.
    #[error("too many requests wait for a place at the server (max-queue)")]
    QueueFull,
    /// No place became free in time.
    #[error("no place at the server became free in time (queue-timeout)")]
    Timeout,
}

/// Place of a request at its server. Dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    server: Arc<Server>,
    _permit: Option<OwnedSemaphorePermit>,
    /// Admission to the group.
    _admitted: Option<Admitted>,
}

impl Server {
    /// Makes a server of a group that the operator has named.
    pub(super) fn of_group(
        group: &Arc<str>,
        endpoint: Endpoint,
        tls: Option<ClientTls>,
        weight: u32,
        settings: &GroupSettings,
        counters: &Arc<Counters>,
    ) -> Self {
        let places = settings.max_connections.map(|most| ServerPlaces {
            free: Arc::new(Semaphore::new(most as usize)),
            waiting: AtomicU32::new(0),
            most_waiting: settings.max_queue,
            timeout: settings.queue_timeout,
        });
        Self {
            group: Arc::clone(group),
            weight,
            proxy_protocol: settings.proxy_protocol,
            named: true,
            places,
            queue: (settings.max_queue, settings.queue_timeout),
            health: ServerHealth::new(settings),
            addresses: matches!(endpoint, Endpoint::Name { .. }).then(ServerAddresses::default),
            ..Self::by_policy(endpoint, tls, settings.http, counters)
        }
    }

    /// Makes a server to which the policy lets the guest connect.
    pub(super) fn by_policy(
        endpoint: Endpoint,
        tls: Option<ClientTls>,
        http: HttpVersion,
        counters: &Arc<Counters>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = shown(&endpoint);
        let settings = GroupSettings::default();
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            group: Arc::from(&*name),
            hash: of_name(&name),
            endpoint,
            tls,
            http,
            proxy_protocol: None,
            named: false,
            weight: 1,
            active: AtomicUsize::new(0),
            places: None,
            queue: (settings.max_queue, settings.queue_timeout),
            health: ServerHealth::unjudged(),
            checks_failed: AtomicU64::new(0),
            addresses: None,
            counters: Arc::clone(counters),
        }
    }

    /// Returns the server's number, unique in the process.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns where to connect to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns the TLS settings of its connections, unless they are plain.
    pub fn tls(&self) -> Option<&ClientTls> {
        self.tls.as_ref()
    }

    /// Returns the version of HTTP that is spoken with the server.
    pub fn http(&self) -> HttpVersion {
        self.http
    }

    /// Returns the maximum of requests that wait for the server (`max-queue`).
    pub fn most_waiting(&self) -> u32 {
        self.queue.0
    }

    /// Returns the time for which a request waits there (`queue-timeout`).
    pub fn queue_timeout(&self) -> Duration {
        self.queue.1
    }

    /// Returns the version of the PROXY protocol that each connection begins with,
    /// which is then for one client.
    pub fn proxy_protocol(&self) -> Option<ProxyProtocol> {
        self.proxy_protocol
    }

    /// True if the operator has named the server.
    pub fn is_named(&self) -> bool {
        self.named
    }

    pub(super) fn name_hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn weight(&self) -> u32 {
        self.weight
    }

    /// Returns the weight in thousandths, as far as the server has it yet.
    pub(super) fn present_weight(&self, clock: &Clock) -> u32 {
        // The weight is at most 100.
        self.weight.saturating_mul(self.health.share(clock))
    }

    /// Judges the server for a request; `None` if it is down. `lot` is a number
    /// below [`WHOLE`], at random: whether a server that begins slowly gets the
    /// request.
    pub(super) fn fitness(&self, lot: u32, clock: &Clock) -> Option<Fitness> {
        match self.health.standing(clock) {
            Standing::Down => None,
            Standing::LeftOut => Some(Fitness::LeftOut),
            Standing::Avoided => Some(Fitness::Avoided),
            Standing::Well if self.is_full() => Some(Fitness::Full),
            Standing::Well if lot % WHOLE >= self.health.share(clock) => Some(Fitness::Starting),
            Standing::Well => Some(Fitness::Ready),
        }
    }

    /// True if the server's checks fail.
    pub fn is_down(&self) -> bool {
        self.health.is_down()
    }

    /// True if the server gets requests: it is not down, nor left out.
    pub fn is_up(&self) -> bool {
        self.health.standing(&Clock::default()) < Standing::LeftOut
    }

    /// Returns the number of requests under way.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Returns the number of checks that have failed.
    pub fn checks_failed(&self) -> u64 {
        self.checks_failed.load(Ordering::Relaxed)
    }

    /// True if all places are taken.
    fn is_full(&self) -> bool {
        let places = self.places.as_ref();
        places.is_some_and(|places| places.free.available_permits() == 0)
    }

    /// Takes a place for a request that is admitted; `None` if all are taken.
    pub(super) fn try_enter(self: &Arc<Self>, admitted: &mut Option<Admitted>) -> Option<Place> {
        let permit = match &self.places {
            None => None,
            Some(places) => Some(Arc::clone(&places.free).try_acquire_owned().ok()?),
        };
        Some(Place::new(self, permit, admitted.take()))
    }

    /// Takes a place for a request, and waits in the queue for it.
    ///
    /// # Errors
    /// Fails if too many wait, or for too long.
    pub(super) async fn enter(
        self: Arc<Self>,
        admitted: Option<Admitted>,
    ) -> Result<Place, NoPlace> {
        let Some(places) = &self.places else {
            return Ok(Place::new(&self, None, admitted));
        };
        let _waiting =
            WaitingRequest::new(places).inspect_err(|reason| self.has_refused(*reason))?;
        let permit = Arc::clone(&places.free).acquire_owned();
        match tokio::time::timeout(places.timeout, permit).await {
            Ok(Ok(permit)) => Ok(Place::new(&self, Some(permit), admitted)),
            // The places are never closed.
            Ok(Err(_)) | Err(_) => {
                self.has_refused(NoPlace::Timeout);
                Err(NoPlace::Timeout)
            }
        }
    }

    /// Counts a request that its queue refused, whose reason this is.
    pub fn has_refused(&self, reason: NoPlace) {
        let refused = &self.counters.forwards_refused;
        match reason {
            NoPlace::QueueFull => refused.max_queue.add(),
            NoPlace::Timeout => refused.queue_timeout.add(),
            NoPlace::TooMany | NoPlace::Down | NoPlace::AllTried => {}
        }
    }

    /// Notes that a request failed by the server's fault.
    pub fn has_failed(&self) {
        if self.health.fails(&Clock::default()) {
            self.counters.upstreams_left_out.add();
            tracing::warn!(
                upstream = &*self.group, server = %self,
                "the server gets no requests for {} s, after failures (fail-timeout, max-fails)",
                self.health.window.div_ceil(1000)
            );
        }
    }

    /// Notes that the server has begun a response.
    pub fn has_succeeded(&self) {
        if self.health.succeeds() {
            tracing::info!(
                upstream = &*self.group, server = %self,
                "the server gets requests again"
            );
        }
    }

    /// True if the server's `Retry-After` is looked at.
    pub fn heeds_pauses(&self) -> bool {
        self.health.heeds_pauses()
    }

    /// Notes that the server asks for no requests for a time, which the group
    /// limits.
    pub fn asks_for_pause(&self, time: Duration) {
        if let Some(time) = self.health.asks_for_pause(time, &Clock::default()) {
            self.counters.upstreams_left_out.add();
            tracing::info!(
                upstream = &*self.group, server = %self,
                "the server gets no requests for {} s, as it asks (retry-after)",
                time.as_millis().div_ceil(1000)
            );
        }
    }

    /// Notes the result of a check. An error's text tells the cause.
    pub fn was_checked<E: fmt::Display>(&self, result: Result<(), E>) {
        self.was_checked_at(result, &Clock::default());
    }

    pub(super) fn was_checked_at<E: fmt::Display>(&self, result: Result<(), E>, clock: &Clock) {
        if result.is_err() {
            self.checks_failed.fetch_add(1, Ordering::Relaxed);
        }
        let change = self.health.checked(result.is_ok(), clock);
        match (change, result) {
            (Change::Down, Err(error)) => {
                self.counters.upstreams_down.add();
                tracing::warn!(
                    upstream = &*self.group, server = %self,
                    "the server is down: {error} (check)"
                );
            }
            (Change::Up, _) => tracing::info!(
                upstream = &*self.group, server = %self,
                "the server is up again (check)"
            ),
            (_, Err(error)) => tracing::debug!(
                upstream = &*self.group, server = %self,
                "a check has failed: {error}"
            ),
            (_, Ok(())) => {}
        }
    }

    /// Takes the addresses that the server's name has now.
    pub(crate) fn resolved(&self, found: &[IpAddr]) {
        if let Some(addresses) = &self.addresses {
            addresses.set(found);
        }
    }

    /// Moves on to the next address of the server's name, and returns it;
    /// `None` if there is no choice.
    pub fn next_address(&self) -> Option<IpAddr> {
        let addresses = self.addresses.as_ref()?;
        addresses.next(&Clock::default())
    }

    /// Returns the address of the server's name to connect to first, if there
    /// is a choice.
    pub(crate) fn present_address(&self) -> Option<IpAddr> {
        self.addresses.as_ref()?.present()
    }

    /// Notes that another address than `wanted` has answered.
    pub(crate) fn is_reached_elsewhere(&self, wanted: IpAddr, peer: &Address) {
        let reached = matches!(peer, Address::Ip(peer) if peer.ip() == wanted);
        if let Some(addresses) = self.addresses.as_ref().filter(|_| !reached) {
            addresses.is_unreachable(wanted, &Clock::default());
        }
    }

    /// True if a peer's address is one of the server's, as far as they are known.
    pub fn is_at(&self, peer: &Address) -> bool {
        match (&self.addresses, peer) {
            (Some(addresses), Address::Ip(peer)) => addresses.include(peer.ip()),
            _ => true,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.endpoint))
    }
}

fn shown(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Address(address) => address.to_string(),
        Endpoint::Name { host, port } => format!("{}:{port}", host.escape_debug()),
        Endpoint::Unix(path) => format!("unix:{}", path.to_string_lossy().escape_debug()),
    }
}

impl Place {
    fn new(
        server: &Arc<Server>,
        permit: Option<OwnedSemaphorePermit>,
        admitted: Option<Admitted>,
    ) -> Self {
        server.active.fetch_add(1, Ordering::Relaxed);
        Self {
            server: Arc::clone(server),
            _permit: permit,
            _admitted: admitted,
        }
    }

    /// Returns the server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.server.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a waiting request while it exists.
struct WaitingRequest<'a>(&'a ServerPlaces);

impl<'a> WaitingRequest<'a> {
    fn new(places: &'a ServerPlaces) -> Result<Self, NoPlace> {
        let before = places.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Self(places);
        match before < places.most_waiting {
            true => Ok(waiting),
            false => Err(NoPlace::QueueFull),
        }
    }
}

impl Drop for WaitingRequest<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
