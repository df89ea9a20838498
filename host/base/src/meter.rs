//! Counts on the path of every event, kept for each thread apart.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::per_thread::{PerThread, ThreadCounts};

/// A number that a meter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Bytes received from sockets, ciphertext where there is TLS.
    Received,
    /// Bytes sent to sockets, ciphertext where there is TLS.
    Sent,
    /// Calls of event guests, or polls of async ones, that were timed.
    GuestTurns,
    /// Nanoseconds that they took.
    GuestNanoseconds,
    /// TLS handshakes with clients that were completed.
    ServerHandshakes,
    /// Those of them that resumed a session (RFC 8446, section 2.2).
    ServerResumptions,
    /// TLS handshakes with servers that were completed.
    ClientHandshakes,
    /// Those of them that resumed a session.
    ClientResumptions,
    /// TLS handshakes with servers that failed.
    ClientHandshakesFailed,
    /// Messages of WebSocket clients that guests got.
    MessagesReceived,
    /// Messages sent to WebSocket clients.
    MessagesSent,
    /// Messages that were not sent, as the client is slow.
    MessagesDropped,
    /// Operations on a bucket of keys and values.
    BucketCalls,
    /// Those of them that failed.
    BucketFailures,
}

/// Number of measures.
const MEASURES: usize = 14;

/// Maximum of buckets that are counted, unless more are in use at once.
const MOST_BUCKETS: usize = 256;

/// The counts of a service on one thread. Only that thread may add to it.
#[derive(Debug, Default)]
pub struct Meter([AtomicU64; MEASURES]);

impl Meter {
    /// Adds to a count.
    #[inline]
    pub fn add(&self, measure: Measure, more: u64) {
        if let Some(count) = self.0.get(measure as usize) {
            // Nobody else writes it, so that no locked addition is needed.
            let sum = count.load(Ordering::Relaxed).wrapping_add(more);
            count.store(sum, Ordering::Relaxed);
        }
    }

    /// Adds a number of bytes.
    #[inline]
    pub fn add_bytes(&self, measure: Measure, bytes: usize) {
        self.add(measure, bytes as u64);
    }
}

impl ThreadCounts for Meter {
    type Totals = Totals;

    fn add_to(&self, totals: &mut Totals) {
        for (sum, count) in totals.0.iter_mut().zip(&self.0) {
            *sum = sum.wrapping_add(count.load(Ordering::Relaxed));
        }
    }
}

/// Sums over threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals([u64; MEASURES]);

impl Totals {
    /// Returns a sum.
    #[must_use]
    pub fn of(&self, measure: Measure) -> u64 {
        self.0.get(measure as usize).copied().unwrap_or(0)
    }
}

/// The meters of a service.
pub type Meters = PerThread<Meter>;

/// The meters of a service's buckets of keys and values, by their names. Those of
/// a generation before stay, of a bounded number.
#[derive(Debug, Default)]
pub struct BucketMeters(Mutex<BTreeMap<String, Meters>>);

impl BucketMeters {
    /// Returns a meter of a bucket for a thread, from zero.
    pub fn of_thread(&self, bucket: &str) -> Arc<Meter> {
        let mut buckets = self.buckets();
        if !buckets.contains_key(bucket) && buckets.len() >= MOST_BUCKETS {
            buckets.retain(|_, meters| meters.is_used());
        }
        buckets.entry(bucket.to_owned()).or_default().of_thread()
    }

    /// Returns the names of the buckets, and the sums over all threads.
    pub fn totals(&self) -> Vec<(String, Totals)> {
        let buckets = self.buckets();
        let totals = buckets.iter();
        totals
            .map(|(name, meters)| (name.clone(), meters.totals()))
            .collect()
    }

    fn buckets(&self) -> MutexGuard<'_, BTreeMap<String, Meters>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_counts_for_itself() {
        let meters = Meters::default();
        let meter = meters.of_thread();
        meter.add(Measure::Received, 7);
        meter.add_bytes(Measure::Received, 3);
        meter.add(Measure::ClientHandshakesFailed, 1);
        let totals = meters.totals();
        assert_eq!(totals.of(Measure::Received), 10);
        assert_eq!(totals.of(Measure::ClientHandshakesFailed), 1);
        assert_eq!(totals.of(Measure::Sent), 0);
    }

    #[test]
    fn buckets_that_nobody_uses_are_forgotten_for_others() {
        let meters = BucketMeters::default();
        let kept = meters.of_thread("kept");
        kept.add(Measure::BucketCalls, 1);
        for number in 1..MOST_BUCKETS {
            drop(meters.of_thread(&number.to_string()));
        }
        assert_eq!(meters.totals().len(), MOST_BUCKETS);
        drop(meters.of_thread("another"));
        let totals = meters.totals();
        let counts: Vec<_> = totals
            .iter()
            .map(|(name, it)| (&**name, it.of(Measure::BucketCalls)))
            .collect();
        assert_eq!(counts, [("another", 0), ("kept", 1)]);
    }
}
