//! What is counted in a run, by all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was counted in a run; told at its end.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections_accepted: Counter,
    pub(crate) connections_made: Counter,
    pub(crate) connections_closed: Counter,
    pub(crate) connections_lost: Counter,
    /// Idle connections that were closed for new ones, at `--max-connections`.
    pub(crate) connections_reclaimed: Counter,
    /// How often a new connection had to wait, at `--max-connections`.
    pub(crate) connections_waited: Counter,
    /// How often a guest that awaits went on when nobody waited for it any more.
    pub(crate) left_behind: Counter,
    /// How often it was ended then.
    pub(crate) left_behind_ended: Counter,
    pub(crate) handshakes_failed: Counter,
    pub(crate) datagrams_received: Counter,
    pub(crate) requests: Counter,
    pub(crate) requests_refused: Counter,
    pub(crate) responses_refused: Counter,
    pub(crate) instances_failed: Counter,
    /// Files that are there, but could not be opened or read.
    pub(crate) files_failed: Counter,
    pub(crate) traps: Counter,
    pub(crate) denied: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection that no task sees to the end of: dropping it counts it as
/// closed.
#[derive(Debug)]
pub(crate) struct Counted(Option<Arc<Counters>>);

impl Counted {
    /// One that was counted when it was made.
    pub(crate) fn new(counters: &Arc<Counters>) -> Self {
        Self(Some(Arc::clone(counters)))
    }

    /// A task sees to it from now on.
    pub(crate) fn resume(mut self) {
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
