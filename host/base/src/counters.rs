//! Counters of a run, shared by all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::guest_metrics::GuestMetrics;
use crate::meter::{BucketMeters, Meters};
use crate::shared_state::SharedState;
use crate::traps::Traps;

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
    /// WebSocket connections that were opened.
    pub websockets_opened: Counter,
    /// WebSocket connections that have ended.
    pub websockets_ended: Counter,
    /// Streams of events that were opened.
    pub event_streams_opened: Counter,
    /// Streams of events that have ended.
    pub event_streams_ended: Counter,
    /// Messages of topics that other processes get, or send (`--topics`).
    pub joined: Joined,
    /// Instances that were made.
    pub instances_made: Counter,
    /// Instances that are gone again.
    pub instances_ended: Counter,
    /// Linear memory of all instances, in bytes.
    pub instance_memory: Level,
    /// Forwarded requests to which no upstream gave a response that could be
    /// passed on whole.
    pub forwards_failed: Counter,
    /// Requests to upstream groups that found no place at a server.
    pub forwards_refused: Refused,
    /// Times that a server of an upstream group was left out after failures, or
    /// as it asked.
    pub upstreams_left_out: Counter,
    /// Times that the checks of a server of an upstream group put it down.
    pub upstreams_down: Counter,
    /// Instances that could not be made.
    pub instances_failed: Counter,
    /// Files that exist but could not be opened or read.
    pub files_failed: Counter,
    /// Instances that trapped.
    pub traps: Traps,
    /// Operations that the policy denied.
    pub denied: Counter,
    /// Look-ups of names.
    pub lookups: Lookups,
    /// Use of pools of connections.
    pub pools: PoolUse,
    /// HTTP requests that guests sent.
    pub upstream: Upstream,
    /// Counts on the path of every event.
    pub meters: Meters,
    /// Counts of the buckets of `--keyvalue`.
    pub buckets: BucketMeters,
    /// Metrics that the guest makes.
    pub of_guest: GuestMetrics,
    /// State that the service's instances share. It is here since it has to
    /// outlive the generations, as all of this does, and has counts of its own.
    pub shared: SharedState,
}

impl Counters {
    /// Returns how many connections are open.
    pub fn open(&self) -> u64 {
        // In this order, or one that ends meanwhile could make it negative.
        let ended = self.connections_closed.get() + self.connections_lost.get();
        let begun = self.connections_accepted.get() + self.connections_made.get();
        begun.saturating_sub(ended)
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds several.
    pub fn add_many(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Returns the count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// Adds to the number.
    pub fn raise(&self, by: usize) {
        self.0.fetch_add(by as u64, Ordering::Relaxed);
    }

    /// Takes from the number, by no more than was added.
    pub fn lower(&self, by: usize) {
        self.0.fetch_sub(by as u64, Ordering::Relaxed);
    }

    /// Returns the number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Look-ups of names that guests asked for, by their results. Addresses in text
/// form are not looked up.
#[derive(Debug, Default)]
pub struct Lookups {
    /// Those with an address.
    pub found: Counter,
    /// Those that needed no server: all was in the cache or the hosts file.
    pub at_hand: Counter,
    /// Those of names that do not exist (NXDOMAIN).
    pub no_name: Counter,
    /// Those of names without an address.
    pub no_address: Counter,
    /// Those for which no server had an answer.
    pub failed: Counter,
    /// Those that took too long (`--dns-timeout`).
    pub timed_out: Counter,
}

/// Use of pools of connections that guests open.
#[derive(Debug, Default)]
pub struct PoolUse {
    /// Connections that were opened for a pool.
    pub opened: Counter,
    /// Times that a kept connection was handed out again.
    pub reused: Counter,
    /// Kept connections that were closed, by their peers or by a limit.
    pub expired: Counter,
}

/// Messages over the server that joins the topics of several processes.
#[derive(Debug, Default)]
pub struct Joined {
    /// Those that the server has.
    pub sent: Counter,
    /// Those of other processes.
    pub received: Counter,
    /// Those that did not reach the server, or perhaps not.
    pub lost: Counter,
    /// Deliveries of those of other processes for which a thread had no room.
    pub dropped: Counter,
}

/// HTTP requests that guests sent.
#[derive(Debug, Default)]
pub struct Upstream {
    /// Requests with a response.
    pub answered: Counter,
    /// Requests without a response.
    pub failed: Counter,
    /// Requests on connections that had served others before.
    pub reused: Counter,
}

/// Requests to upstream groups that found no place at a server, by the limit.
#[derive(Debug, Default)]
pub struct Refused {
    /// Too many were under way in the group (`max-requests`).
    pub max_requests: Counter,
    /// Too many waited (`max-queue`).
    pub max_queue: Counter,
    /// They waited for too long (`queue-timeout`).
    pub queue_timeout: Counter,
    /// All servers of the group were down (`check`).
    pub down: Counter,
}

impl Refused {
    /// Returns the count of all reasons.
    pub fn sum(&self) -> u64 {
        self.counts().iter().map(|(_, count)| count).sum()
    }

    /// Returns the counts with the names of their reasons.
    pub fn counts(&self) -> [(&'static str, u64); 4] {
        [
            ("max_requests", &self.max_requests),
            ("max_queue", &self.max_queue),
            ("queue_timeout", &self.queue_timeout),
            ("down", &self.down),
        ]
        .map(|(reason, count)| (reason, count.get()))
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
