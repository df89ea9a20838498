//! Connections to one endpoint, kept for reuse.
//!
//! At most `size` are open at once. When all are in use, callers wait in order.
//! A connection that is put back is kept. It is handed out again if it is not
//! too old, was not idle for too long, and was not closed by its peer
//! meanwhile.
//!
//! ```text
//!   get --> a place (waits in order) --> with a kept, live connection  --+
//!                                   \--> for a new connection          --+--> in use
//!                                                                           |
//!   kept, newest first <--------------------- put --------------------------+
//!   closed, and its place free <------------- drop -------------------------+
//! ```
//!
//! All workers share a pool, so a kept connection may move between threads.
//! [`parked`](crate::parked) takes a connection from one worker and gives it to
//! another.

pub(crate) mod lookout;

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::Instant;

use netwasm_base::counters::Counters;

use self::lookout::Lookout;

/// Time after which the lookout watches a kept connection. Until then, the next
/// user has mostly taken it, which checks it anyway.
const SETTLED: Duration = Duration::from_millis(500);

/// Limits of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolLimits {
    /// Maximum of connections, in use and kept.
    pub size: usize,
    /// Maximum time that a connection may be kept unused.
    pub idle_timeout: Duration,
    /// Maximum age of a connection.
    pub max_age: Duration,
}

/// A connection that a pool can keep. The lookout watches its socket.
pub trait Keep: AsFd {
    /// True if the peer has neither closed the connection nor sent anything
    /// unasked, so that it can be handed out again.
    fn is_alive(&mut self) -> bool;
}

/// Reason why a pool gives no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// All connections were in use for too long.
    #[error("no connection of the pool became free in time")]
    Timeout,
    /// The pool was closed.
    #[error("the pool is closed")]
    Closed,
}

/// Counters of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Connections in use, or being opened.
    pub in_use: usize,
    /// Connections kept.
    pub idle: usize,
    /// Tasks waiting for a connection.
    pub waiting: usize,
    /// Connections opened so far.
    pub opened: u64,
    /// Times that a kept connection was handed out again.
    pub reused: u64,
    /// PooledConnection connections that were closed, by their peer or by a limit.
    pub expired: u64,
}

/// A pool of connections to one endpoint.
#[derive(Debug)]
pub struct Pool<C> {
    limits: PoolLimits,
    /// Number of places: `limits.size`, but at least one.
    size: usize,
    /// Free places, given out in order.
    places: Arc<Semaphore>,
    lookout: Arc<Lookout>,
    counters: Arc<Counters>,
    state: Mutex<State<C>>,
}

#[derive(Debug)]
struct State<C> {
    /// PooledConnection connections; the most recently used is last.
    idle: Vec<PooledConnection<C>>,
    counts: PoolCounts,
}

/// A connection that is kept, unused.
#[derive(Debug)]
struct PooledConnection<C> {
    connection: C,
    made: Instant,
    since: Instant,
    /// Number at the lookout, if it is watched there.
    watched: Option<u64>,
}

impl<C: Keep> Pool<C> {
    /// Creates a pool whose kept connections a lookout watches.
    pub(crate) fn new(
        limits: PoolLimits,
        lookout: &Arc<Lookout>,
        counters: &Arc<Counters>,
    ) -> Arc<Self> {
        let size = limits.size.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            limits,
            size,
            places: Arc::new(Semaphore::new(size)),
            lookout: Arc::clone(lookout),
            counters: Arc::clone(counters),
            state: Mutex::new(State {
                idle: Vec::new(),
                counts: PoolCounts::default(),
            }),
        })
    }

    /// Takes a place for a connection, with a kept connection if there is one.
    /// If all places are taken, waits in order, for at most `timeout`. Dropping
    /// the future gives up the place.
    ///
    /// # Errors
    /// Fails if no place became free in time, or if the pool is closed.
    pub async fn get(
        self: &Arc<Self>,
        timeout: Option<Duration>,
    ) -> Result<(PoolPlace<C>, Option<C>), PoolError> {
        let permit = self.permit(timeout).await?;
        let kept = self.take_alive();
        let place = PoolPlace {
            made: kept.as_ref().map_or_else(Instant::now, |kept| kept.made),
            pool: Arc::clone(self),
            _permit: permit,
        };
        Ok((place, kept.map(|kept| kept.connection)))
    }

    async fn permit(&self, timeout: Option<Duration>) -> Result<OwnedSemaphorePermit, PoolError> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => return Ok(place),
            Err(TryAcquireError::Closed) => return Err(PoolError::Closed),
            Err(TryAcquireError::NoPermits) => {}
        }
        let _waiting = WaitingTask::new(self);
        let place = Arc::clone(&self.places).acquire_owned();
        let acquired = match timeout {
            None => place.await,
            Some(timeout) => match tokio::time::timeout(timeout, place).await {
                Ok(acquired) => acquired,
                Err(_) => return Err(PoolError::Timeout),
            },
        };
        acquired.map_err(|_| PoolError::Closed)
    }

    /// Takes the most recently used of the kept connections that are still
    /// good.
    fn take_alive(&self) -> Option<PooledConnection<C>> {
        let mut state = self.state();
        while let Some(mut kept) = state.idle.pop() {
            if kept.watched.take().is_some() {
                self.lookout.remove(&kept.connection);
            }
            if self.is_young(&kept, Instant::now()) && kept.connection.is_alive() {
                state.counts.reused += 1;
                self.counters.pools.reused.add();
                return Some(kept);
            }
            state.counts.expired += 1;
            self.counters.pools.expired.add();
        }
        None
    }

    fn is_young(&self, kept: &PooledConnection<C>, now: Instant) -> bool {
        now.duration_since(kept.since) < self.limits.idle_timeout
            && now.duration_since(kept.made) < self.limits.max_age
    }

    /// Closes connections that were kept too long or closed by their peers. To
    /// be called from time to time, with the numbers that the lookout reports.
    pub(crate) fn expire(&self, stirred: &HashSet<u64>) {
        let now = Instant::now();
        let mut state = self.state();
        let before = state.idle.len();
        state.idle.retain_mut(|kept| {
            if kept.watched.is_none() && now.duration_since(kept.since) >= SETTLED {
                kept.watched = self.lookout.add(&kept.connection);
            }
            let stirred = kept.watched.is_some_and(|number| stirred.contains(&number));
            self.is_young(kept, now) && (!stirred || kept.connection.is_alive())
        });
        let expired = before - state.idle.len();
        state.counts.expired += expired as u64;
        self.counters.pools.expired.add_many(expired as u64);
    }

    /// Closes the pool. PooledConnection connections are closed, waiting tasks get an
    /// error, and connections in use are closed when they are put back.
    pub fn close(&self) {
        self.places.close();
        self.state().idle.clear();
    }

    /// True if the pool was closed.
    pub fn is_closed(&self) -> bool {
        self.places.is_closed()
    }

    /// Returns the counters.
    pub fn counts(&self) -> PoolCounts {
        let state = self.state();
        PoolCounts {
            in_use: self.size - self.places.available_permits(),
            idle: state.idle.len(),
            ..state.counts
        }
    }
}

impl<C> Pool<C> {
    fn state(&self) -> MutexGuard<'_, State<C>> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a waiting task while it exists.
struct WaitingTask<'a, C>(&'a Pool<C>);

impl<'a, C> WaitingTask<'a, C> {
    fn new(pool: &'a Pool<C>) -> Self {
        pool.state().counts.waiting += 1;
        Self(pool)
    }
}

impl<C> Drop for WaitingTask<'_, C> {
    fn drop(&mut self) {
        self.0.state().counts.waiting -= 1;
    }
}

/// The place of a connection in use. Dropping it, with the connection, frees
/// it; `put` keeps the connection.
#[derive(Debug)]
pub struct PoolPlace<C> {
    made: Instant,
    pool: Arc<Pool<C>>,
    _permit: OwnedSemaphorePermit,
}

impl<C> PoolPlace<C> {
    /// Notes that a connection was opened for the place.
    pub fn opened(&mut self) {
        self.made = Instant::now();
        self.pool.state().counts.opened += 1;
        self.pool.counters.pools.opened.add();
    }

    /// True if the place belongs to `pool`.
    pub(crate) fn is_of(&self, pool: &Arc<Pool<C>>) -> bool {
        Arc::ptr_eq(&self.pool, pool)
    }

    /// Puts the connection back for reuse. Nothing may be under way on it.
    pub fn put(self, connection: C) {
        let Self {
            made,
            pool,
            _permit: permit,
        } = self;
        if !pool.places.is_closed() {
            pool.state().idle.push(PooledConnection {
                connection,
                made,
                since: Instant::now(),
                watched: None,
            });
        }
        // Dropped only now, so that a waiting task finds the connection.
        drop(permit);
        if pool.places.is_closed() {
            pool.state().idle.clear();
        }
    }
}

#[cfg(test)]
mod tests;
