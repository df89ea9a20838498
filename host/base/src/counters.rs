//! Counters of a run, shared by all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of a run; reported at its end.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that peers opened.
    pub connections_accepted: Counter,
    /// Connections that guests opened.
    pub connections_made: Counter,
    /// Connections, accepted or outgoing, that ended in order.
    pub connections_closed: Counter,
    /// Connections that did not end in order.
    pub connections_lost: Counter,
    /// Idle connections that were closed for new ones (`--max-connections`).
    pub connections_reclaimed: Counter,
    /// Times that a new connection had to wait (`--max-connections`).
    pub connections_waited: Counter,
    /// Times that an async guest went on when nobody waited for it any more.
    pub left_behind: Counter,
    /// Times that such a guest was ended.
    pub left_behind_ended: Counter,
    /// TLS handshakes with peers that failed.
    pub handshakes_failed: Counter,
    /// Connections of proxies without a usable PROXY header.
    pub proxies_refused: Counter,
    /// Connections and requests of clients that were turned away
    /// (`--deny-from`, `--max-client-connections` and the like).
    pub clients_refused: Counter,
    /// Datagrams handed to guests.
    pub datagrams_received: Counter,
    /// HTTP requests handed to guests.
    pub requests: Counter,
    /// HTTP requests answered without a guest: malformed, too large, or too
    /// slow.
    pub requests_refused: Counter,
    /// Responses of guests that were not sent, or not completely, by the
    /// guest's fault.
    pub responses_refused: Counter,
    /// Instances that could not be made.
    pub instances_failed: Counter,
    /// Files that exist but could not be opened or read.
    pub files_failed: Counter,
    /// Instances that trapped.
    pub traps: Counter,
    /// Operations that the policy denied.
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

    /// Returns the count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection without a task. Dropping it counts it as closed.
#[derive(Debug)]
pub struct Counted(Option<Arc<Counters>>);

impl Counted {
    /// Wraps a connection that was counted when it was opened.
    pub fn new(counters: &Arc<Counters>) -> Self {
        Self(Some(Arc::clone(counters)))
    }

    /// Hands the connection to a task, which counts its end.
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
