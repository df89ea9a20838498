//! A server of a group: its health, and its places for requests.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use netwasm_base::config::GroupSettings;
use netwasm_base::counters::Counters;

use crate::endpoint::Endpoint;
use crate::tls::ClientTls;
use crate::upstream::hash::of_name;

/// A server, as all workers see it.
#[derive(Debug)]
pub struct Server {
    /// Number, unique in the process.
    number: u64,
    /// Hash of its name.
    hash: u64,
    endpoint: Endpoint,
    tls: Option<ClientTls>,
    /// True if the operator has named it, so that the policy does not judge its
    /// addresses.
    named: bool,
    weight: u32,
    /// Requests under way.
    active: AtomicUsize,
    /// Places for requests, if there is a limit.
    places: Option<Places>,
    health: Health,
    counters: Arc<Counters>,
}

/// Places of a server for requests at once.
#[derive(Debug)]
struct Places {
    free: Arc<Semaphore>,
    waiting: AtomicU32,
    most_waiting: u32,
    timeout: Duration,
}

/// Failures of a server of late. Times are in milliseconds since the first
/// look at the clock, and never 0.
#[derive(Debug)]
struct Health {
    most_fails: u32,
    window: u64,
    fails: AtomicU32,
    /// Time of the first of these failures.
    since: AtomicU64,
    /// Time up to which the server is left out; 0 if it is not.
    left_out: AtomicU64,
}

/// Reason why a server has no place for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
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
}

impl Server {
    /// Makes a server of a group that the operator has named.
    pub(super) fn of_group(
        endpoint: Endpoint,
        tls: Option<ClientTls>,
        weight: u32,
        settings: &GroupSettings,
        counters: &Arc<Counters>,
    ) -> Self {
        let places = settings.max_connections.map(|most| Places {
            free: Arc::new(Semaphore::new(most as usize)),
            waiting: AtomicU32::new(0),
            most_waiting: settings.max_queue,
            timeout: settings.queue_timeout,
        });
        Self {
            weight,
            named: true,
            places,
            health: Health::new(settings.max_fails, settings.fail_timeout),
            ..Self::by_policy(endpoint, tls, counters)
        }
    }

    /// Makes a server to which the policy lets the guest connect.
    pub(super) fn by_policy(
        endpoint: Endpoint,
        tls: Option<ClientTls>,
        counters: &Arc<Counters>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = shown(&endpoint);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            hash: of_name(&name),
            endpoint,
            tls,
            named: false,
            weight: 1,
            active: AtomicUsize::new(0),
            places: None,
            health: Health::new(0, Duration::ZERO),
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

    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// True if all places are taken.
    pub(super) fn is_full(&self) -> bool {
        let places = self.places.as_ref();
        places.is_some_and(|places| places.free.available_permits() == 0)
    }

    /// Takes a place for a request; `None` if all are taken.
    pub fn try_enter(self: &Arc<Self>) -> Option<Place> {
        let permit = match &self.places {
            None => None,
            Some(places) => Some(Arc::clone(&places.free).try_acquire_owned().ok()?),
        };
        Some(Place::new(self, permit))
    }

    /// Takes a place for a request, and waits in the queue for it.
    ///
    /// # Errors
    /// Fails if too many wait, or for too long.
    pub async fn enter(self: Arc<Self>) -> Result<Place, NoPlace> {
        let Some(places) = &self.places else {
            return Ok(Place::new(&self, None));
        };
        let _waiting = Waiting::new(places)?;
        let permit = Arc::clone(&places.free).acquire_owned();
        match tokio::time::timeout(places.timeout, permit).await {
            Ok(Ok(permit)) => Ok(Place::new(&self, Some(permit))),
            // The places are never closed.
            Ok(Err(_)) | Err(_) => Err(NoPlace::Timeout),
        }
    }

    /// True if the server gets no requests for a while, because it failed.
    pub(super) fn is_left_out(&self) -> bool {
        match self.health.left_out.load(Ordering::Relaxed) {
            0 => false,
            until => now() < until,
        }
    }

    /// Notes that a request failed by the server's fault.
    pub fn has_failed(&self) {
        if self.health.fails() {
            self.counters.upstreams_left_out.add();
            tracing::warn!(
                server = %self,
                "the server gets no requests for {} s, after {} failures (fail-timeout, max-fails)",
                self.health.window.div_ceil(1000), self.health.most_fails
            );
        }
    }

    /// Notes that the server has begun a response.
    pub fn has_succeeded(&self) {
        let Health {
            fails, left_out, ..
        } = &self.health;
        // Stores are for the rare case, since all workers share these lines.
        if fails.load(Ordering::Relaxed) > 0 {
            fails.store(0, Ordering::Relaxed);
        }
        if left_out.load(Ordering::Relaxed) > 0 {
            left_out.store(0, Ordering::Relaxed);
            tracing::info!(server = %self, "the server gets requests again");
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

impl Health {
    fn new(most_fails: u32, window: Duration) -> Self {
        Self {
            most_fails,
            window: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
            fails: AtomicU32::new(0),
            since: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    /// Notes a failure. Returns true if the server is left out from now on.
    fn fails(&self) -> bool {
        if self.most_fails == 0 {
            return false;
        }
        let now = now();
        let since = self.since.load(Ordering::Relaxed);
        if now.saturating_sub(since) > self.window {
            self.since.store(now, Ordering::Relaxed);
            self.fails.store(0, Ordering::Relaxed);
        }
        let fails = self.fails.fetch_add(1, Ordering::Relaxed) + 1;
        if fails < self.most_fails {
            return false;
        }
        let until = now.saturating_add(self.window);
        let before = self.left_out.swap(until, Ordering::Relaxed);
        before <= now
    }
}

/// Returns the milliseconds since the first call, plus one.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let elapsed = START.elapsed().as_millis();
    u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_add(1)
}

impl Place {
    fn new(server: &Arc<Server>, permit: Option<OwnedSemaphorePermit>) -> Self {
        server.active.fetch_add(1, Ordering::Relaxed);
        Self {
            server: Arc::clone(server),
            _permit: permit,
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
struct Waiting<'a>(&'a Places);

impl<'a> Waiting<'a> {
    fn new(places: &'a Places) -> Result<Self, NoPlace> {
        let before = places.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Self(places);
        match before < places.most_waiting {
            true => Ok(waiting),
            false => Err(NoPlace::QueueFull),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(settings: &str) -> Arc<Server> {
        let group = format!("g=127.0.0.1:1;{settings}");
        let group: netwasm_base::config::UpstreamGroup = group.parse().expect("a group");
        let endpoint = Endpoint::named("127.0.0.1".to_owned(), 1);
        let counters = Arc::default();
        Arc::new(Server::of_group(
            endpoint,
            None,
            1,
            &group.settings,
            &counters,
        ))
    }

    #[tokio::test]
    async fn a_request_waits_for_a_place_and_gets_it() {
        let server = server("max-connections=1;max-queue=1");
        let first = server.try_enter().expect("a place");
        assert!(server.try_enter().is_none());
        let mut second = Box::pin(Arc::clone(&server).enter());
        let poll = futures_poll(&mut second);
        assert!(poll.is_pending());
        assert_eq!(
            Arc::clone(&server).enter().await.err(),
            Some(NoPlace::QueueFull)
        );
        drop(first);
        assert!(second.await.is_ok());
        assert_eq!(server.active(), 0);
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::Pin::new(future).poll(&mut cx)
    }

    #[tokio::test]
    async fn a_request_waits_no_longer_than_it_may() {
        let server = server("max-connections=1;queue-timeout=1ms");
        let _first = server.try_enter().expect("a place");
        assert_eq!(
            Arc::clone(&server).enter().await.err(),
            Some(NoPlace::Timeout)
        );
    }
}
