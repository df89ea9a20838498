//! What is counted in a run, by all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was counted in a run; told at its end.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that peers opened.
    pub connections_accepted: Counter,
    /// Connections that guests opened.
    pub connections_made: Counter,
    /// Connections, of either, that ended in order.
    pub connections_closed: Counter,
    /// Those that did not.
    pub connections_lost: Counter,
    /// Idle connections that were closed for new ones, at `--max-connections`.
    pub connections_reclaimed: Counter,
    /// How often a new connection had to wait, at `--max-connections`.
    pub connections_waited: Counter,
    /// How often a guest that awaits went on when nobody waited for it any more.
    pub left_behind: Counter,
    /// How often it was ended then.
    pub left_behind_ended: Counter,
    /// TLS handshakes with peers that came to nothing.
    pub handshakes_failed: Counter,
    /// Datagrams that were handed to guests.
    pub datagrams_received: Counter,
    /// HTTP requests that were handed to guests.
    pub requests: Counter,
    /// Those that were answered without a guest: malformed, too large, too
    /// slow.
    pub requests_refused: Counter,
    /// Responses of guests that were not sent, or not to their end, by the
    /// guest's fault.
    pub responses_refused: Counter,
    /// Instances that could not be made.
    pub instances_failed: Counter,
    /// Files that are there, but could not be opened or read.
    pub files_failed: Counter,
    /// Instances that trapped.
    pub traps: Counter,
    /// What the policy denied.
    pub denied: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection that no task sees to the end of: dropping it counts it as
/// closed.
#[derive(Debug)]
pub struct Counted(Option<Arc<Counters>>);

impl Counted {
    /// One that was counted when it was made.
    pub fn new(counters: &Arc<Counters>) -> Self {
        Self(Some(Arc::clone(counters)))
    }

    /// A task sees to it from now on.
    pub fn resume(mut self) {
        self.0 = None;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(counters) = &self.0 {
            counters.connections_closed.add();
        }
    }
}
