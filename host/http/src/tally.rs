//! Numbers of the requests of a service, for metrics: by protocol and class of
//! status, and by duration.
//!
//! Each thread has its own, which only that thread writes, so that counting
//! costs plain loads and stores. A reader adds them up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of the durations that are counted together, in nanoseconds. The
/// last count has no bound.
pub const BOUNDS: [u64; 16] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Classes of status: 1xx to 5xx.
const CLASSES: usize = 5;

/// Version of HTTP in which a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// The numbers of all threads of a service.
#[derive(Debug, Default)]
pub struct Tallies {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    threads: Vec<Arc<Tally>>,
    /// Numbers of threads that are gone.
    past: Totals,
}

/// The numbers of a thread.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    requests: [[AtomicU64; CLASSES]; 2],
    durations: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
    bytes: AtomicU64,
}

/// Sums over threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests by HTTP/1 and HTTP/2, and by class of status.
    pub requests: [[u64; CLASSES]; 2],
    /// Requests by duration; see [`BOUNDS`].
    pub durations: [u64; BOUNDS.len() + 1],
    /// Sum of the durations, in nanoseconds.
    pub nanoseconds: u64,
    /// Bytes of bodies that were sent.
    pub bytes: u64,
}

impl Tallies {
    /// Returns the numbers of a thread, from zero.
    pub(crate) fn of_thread(&self) -> Arc<Tally> {
        let tally = Arc::<Tally>::default();
        let mut state = self.state();
        let State { threads, past } = &mut *state;
        threads.retain(|tally| {
            let is_used = Arc::strong_count(tally) > 1;
            if !is_used {
                tally.add_to(past);
            }
            is_used
        });
        threads.push(Arc::clone(&tally));
        tally
    }

    /// Returns the sums over all threads.
    pub fn totals(&self) -> Totals {
        let state = self.state();
        let mut totals = state.past.clone();
        for tally in &state.threads {
            tally.add_to(&mut totals);
        }
        totals
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    /// Counts a request. Only the thread itself calls this.
    pub(crate) fn count(&self, spoken: Spoken, status: u16, took: Duration, bytes: u64) {
        let class = usize::from(status / 100).clamp(1, CLASSES) - 1;
        let protocol = match spoken {
            Spoken::Http1 => 0,
            Spoken::Http2 => 1,
        };
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|bound| *bound < nanoseconds);
        let counts = [
            (self.requests.get(protocol).and_then(|it| it.get(class)), 1),
            (self.durations.get(place), 1),
            (Some(&self.nanoseconds), nanoseconds),
            (Some(&self.bytes), bytes),
        ];
        for (count, more) in counts {
            if let Some(count) = count {
                // Nobody else writes it, so that no locked addition is needed.
                let sum = count.load(Ordering::Relaxed).wrapping_add(more);
                count.store(sum, Ordering::Relaxed);
            }
        }
    }

    fn add_to(&self, totals: &mut Totals) {
        let counts = self.requests.iter().flatten().chain(&self.durations);
        let sums = totals.requests.iter_mut().flatten();
        for (sum, count) in sums.chain(&mut totals.durations).zip(counts) {
            *sum = sum.wrapping_add(count.load(Ordering::Relaxed));
        }
        let nanoseconds = self.nanoseconds.load(Ordering::Relaxed);
        totals.nanoseconds = totals.nanoseconds.wrapping_add(nanoseconds);
        totals.bytes = totals
            .bytes
            .wrapping_add(self.bytes.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_threads_that_are_gone_stay_in_the_sums() {
        let tallies = Tallies::default();
        for round in 1..=3 {
            let (one, other) = (tallies.of_thread(), tallies.of_thread());
            one.count(Spoken::Http1, 200, Duration::from_micros(100), 7);
            other.count(Spoken::Http2, 499, Duration::from_micros(101), 0);
            other.count(Spoken::Http2, 999, Duration::MAX, 3);
            let totals = tallies.totals();
            assert_eq!(totals.requests[0], [0, round, 0, 0, 0]);
            assert_eq!(totals.requests[1], [0, 0, 0, round, round]);
            assert_eq!(totals.durations[..2], [round, round]);
            assert_eq!(totals.durations[BOUNDS.len()], round);
            assert_eq!(totals.bytes, 10 * round);
        }
        assert_eq!(tallies.state().threads.len(), 2, "the others were added up");
    }
}
