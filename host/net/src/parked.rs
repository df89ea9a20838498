//! Connections that a pool keeps: taken out of one worker's hands, and later
//! given into another's, with their TLS sessions.
//!
//! No worker watches one while it is parked. That its peer closed it, or spoke
//! unasked, shows when the pool looks at it: after its lookout tells of it, and
//! before it is handed out.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::sync::OwnedSemaphorePermit;

use netwasm_base::address::Address;
use netwasm_base::counters::Counted;
use netwasm_base::error::ConnectionError;

use crate::endpoint::{ConnectOptions, Endpoint};
use crate::pool::lookout::Lookout;
use crate::pool::{Keep, Pool, PoolError, PoolLimits};
use crate::tls::{ClientTls, ParkedSession};

/// Pools of a run; each is some hundred bytes and its connections.
const POOLS: usize = 1024;

/// How much ciphertext is taken in at a time to see whether it says anything.
const LOOK: usize = 4 << 10;

/// A connection that nothing is under way on.
#[derive(Debug)]
pub struct Parked {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Address,
    pub(crate) session: Option<ParkedSession>,
    /// It still counts against `--max-outgoing`.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
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
        // What arrives may be the session's own, such as tickets.
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

/// Whether there is nothing to read from a socket, not even an end.
pub(crate) fn is_quiet(socket: impl AsFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(socket, &mut [0; 1], flags), Err(Errno::AGAIN))
}

/// What tells a pool from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Where its connections lead.
    pub endpoint: Endpoint,
    /// Their TLS, where they have it.
    pub tls: Option<ClientTls>,
    /// How they are made.
    pub connect: ConnectOptions,
    /// How many, and for how long.
    pub limits: PoolLimits,
}

/// The pools of a run, which all workers share.
#[derive(Debug)]
pub struct Pools {
    pools: Mutex<HashMap<Key, Arc<Pool<Parked>>>>,
    lookout: Arc<Lookout>,
}

impl Pools {
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            pools: Mutex::default(),
            lookout: Arc::new(Lookout::new()?),
        })
    }

    /// The pool of this key.
    ///
    /// # Errors
    /// There are too many.
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
        let pool = Pool::new(key.limits, &self.lookout);
        pools.insert(key.clone(), Arc::clone(&pool));
        Ok(pool)
    }

    /// Closes what was kept for too long or closed by its peer, and forgets
    /// the pools that nobody uses; to be called from time to time.
    pub fn expire(&self) {
        let stirred = self.lookout.stirred();
        let mut pools = self.pools();
        pools.retain(|_, pool| {
            pool.expire(&stirred);
            Arc::strong_count(pool) > 1 || pool.counts().idle > 0
        });
    }

    /// Closes all that is kept; the run is at its end.
    pub fn close(&self) {
        for (_, pool) in self.pools().drain() {
            pool.close();
        }
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<Key, Arc<Pool<Parked>>>> {
        // Nothing panics while it is held.
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

/// How long a connection may be kept, where a guest does not say.
pub const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// How old one may become, where a guest does not say.
pub const MAX_AGE: Duration = Duration::from_hours(1);
