//! Connections kept in a pool: taken from one worker, and later given to
//! another, with their TLS sessions.
//!
//! No worker watches a parked connection. The pool finds out that its peer
//! closed it or sent something unasked: when the lookout reports the
//! connection, and before handing it out.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use netwasm_base::address::Address;
use netwasm_base::counters::{Counted, Counters};
use netwasm_base::error::ConnectionError;

use crate::endpoint::{ConnectOptions, Endpoint};
use crate::permits::Permit;
use crate::pool::lookout::Lookout;
use crate::pool::{Keep, Pool, PoolCounts, PoolError, PoolLimits};
use crate::tls::{ClientTls, ParkedSession};

/// Maximum of pools in a run; each takes some hundred bytes besides its
/// connections.
const POOLS: usize = 1024;

/// Ciphertext read at a time to check a parked TLS session, in bytes.
const LOOK: usize = 4 << 10;

/// A connection with nothing under way.
#[derive(Debug)]
pub struct Parked {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Address,
    pub(crate) session: Option<ParkedSession>,
    /// The permit: a parked connection still counts against `--max-outgoing`.
    pub(crate) permit: Option<Permit>,
    pub(crate) counted: Counted,
}

impl AsFd for Parked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Keep for Parked {
    fn is_alive(&mut self) -> bool {
        let Some(session) = &mut self.session else {
            return is_quiet(&self.socket);
        };
        // Arriving bytes may be the session's own, such as tickets.
        let mut buffer = [0; LOOK];
        loop {
            match recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                Ok((count @ 1.., _)) => {
                    let received = buffer.get(..count).unwrap_or_default();
                    if !session.takes_quietly(received) {
                        return false;
                    }
                }
                Ok(_) | Err(_) => return false,
            }
        }
    }
}

/// True if the socket has nothing to read, not even an end.
pub(crate) fn is_quiet(socket: impl AsFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(socket, &mut [0; 1], flags), Err(Errno::AGAIN))
}

/// Identity of a pool: connections of one pool are interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Destination of the connections.
    pub endpoint: Endpoint,
    /// TLS settings; `None` for plain connections.
    pub tls: Option<ClientTls>,
    /// Options of connecting.
    pub connect: ConnectOptions,
    /// Limits of the pool.
    pub limits: PoolLimits,
}

/// The pools of a run, shared by all workers.
#[derive(Debug)]
pub struct Pools {
    pools: Mutex<HashMap<Key, Arc<Pool<Parked>>>>,
    lookout: Arc<Lookout>,
    counters: Arc<Counters>,
}

impl Pools {
    /// Creates an empty set of pools.
    ///
    /// # Errors
    /// Fails if no descriptor is left.
    pub(crate) fn new(counters: &Arc<Counters>) -> io::Result<Self> {
        Ok(Self {
            pools: Mutex::default(),
            lookout: Arc::new(Lookout::new()?),
            counters: Arc::clone(counters),
        })
    }

    /// Returns the pool of this key, creating it if necessary.
    ///
    /// # Errors
    /// Fails if there are too many pools.
    pub fn open(&self, key: &Key) -> Result<Arc<Pool<Parked>>, ConnectionError> {
        let mut pools = self.pools();
        if let Some(pool) = pools.get(key)
            && !pool.is_closed()
        {
            return Ok(Arc::clone(pool));
        }
        if pools.len() >= POOLS && !pools.contains_key(key) {
            return Err(ConnectionError::LimitExceeded(
                "there are too many pools of connections",
            ));
        }
        let pool = Pool::new(key.limits, &self.lookout, &self.counters);
        pools.insert(key.clone(), Arc::clone(&pool));
        Ok(pool)
    }

    /// Closes connections that were kept too long or closed by their peers, and
    /// drops unused pools. To be called from time to time.
    pub fn expire(&self) {
        let stirred = self.lookout.stirred();
        let mut pools = self.pools();
        pools.retain(|_, pool| {
            pool.expire(&stirred);
            !pool.is_closed() && (Arc::strong_count(pool) > 1 || pool.counts().idle > 0)
        });
    }

    /// Returns the sums of the pools' counts.
    pub fn counts(&self) -> PoolCounts {
        let mut sums = PoolCounts::default();
        for pool in self.pools().values() {
            let counts = pool.counts();
            sums.in_use += counts.in_use;
            sums.idle += counts.idle;
            sums.waiting += counts.waiting;
            sums.opened += counts.opened;
            sums.reused += counts.reused;
            sums.expired += counts.expired;
        }
        sums
    }

    /// Closes all kept connections, as the run is ending.
    pub fn close(&self) {
        for (_, pool) in self.pools().drain() {
            pool.close();
        }
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<Key, Arc<Pool<Parked>>>> {
        // No code panics while it holds the lock.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<PoolError> for ConnectionError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Timeout => Self::Timeout("no connection of the pool became free in time"),
            PoolError::Closed => Self::Aborted,
        }
    }
}

/// Default time that a connection may be kept idle.
pub const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Default maximum age of a connection.
pub const MAX_AGE: Duration = Duration::from_hours(1);
