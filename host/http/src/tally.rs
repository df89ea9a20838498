//! Numbers of the requests of a service, for metrics: by protocol and class of
//! status, and by duration.
//!
//! Each thread has its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use netwasm_base::per_thread::{PerThread, ThreadCounts};

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

/// Schema of the native histogram of durations: the upper bound of bucket `i` is
/// 2^(i / 2^3) seconds, so that each is 9 % above the one before.
pub const SCHEMA: i32 = 3;

/// Buckets of the native histogram for each doubling.
const STEPS: i32 = 1 << SCHEMA;

/// Its bounds within a doubling, as parts of the double: 2^(i / 8 - 1).
const PARTS: [f64; 8] = [
    0.5,
    0.545_253_866_332_628_8,
    0.594_603_557_501_360_5,
    0.648_419_777_325_504_8,
    0.707_106_781_186_547_5,
    0.771_105_412_703_970_4,
    0.840_896_415_253_714_4,
    0.917_004_043_204_671_2,
];

/// Doublings that it has: from 2^-20 s, which is 1 µs, to 2^12 s. What is below
/// counts as zero, and what is above falls into the last bucket.
const DOUBLINGS: (i32, i32) = (-20, 12);

/// Number of its buckets.
const BUCKETS: usize = 32 * 8;

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
pub type Tallies = PerThread<Tally>;

/// The numbers of a thread.
#[derive(Debug)]
pub struct Tally {
    requests: [[AtomicU64; CLASSES]; 2],
    durations: [AtomicU64; BOUNDS.len() + 1],
    /// Counts of the native histogram; the first is that of zero.
    exponential: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
    bytes: AtomicU64,
}

/// Sums over threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Requests by HTTP/1 and HTTP/2, and by class of status.
    pub requests: [[u64; CLASSES]; 2],
    /// Requests by duration; see [`BOUNDS`].
    pub durations: [u64; BOUNDS.len() + 1],
    /// Like [`Tally::exponential`].
    exponential: Box<[u64]>,
    /// Sum of the durations, in nanoseconds.
    pub nanoseconds: u64,
    /// Bytes of bodies that were sent.
    pub bytes: u64,
}

/// A native histogram of durations: see [`SCHEMA`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durations {
    /// Index of the first bucket.
    pub first: i32,
    /// Numbers of requests by duration, from that bucket on.
    pub counts: Vec<u64>,
    /// Number of requests that were faster than that.
    pub zero: u64,
}

impl Durations {
    /// Longest duration that counts as zero, in seconds.
    pub const ZERO: f64 = 1.0 / 1_048_576.0;
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            requests: Default::default(),
            durations: Default::default(),
            exponential: (0..=BUCKETS).map(|_| AtomicU64::default()).collect(),
            nanoseconds: AtomicU64::default(),
            bytes: AtomicU64::default(),
        }
    }
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            requests: Default::default(),
            durations: Default::default(),
            exponential: Box::new([0; BUCKETS + 1]),
            nanoseconds: 0,
            bytes: 0,
        }
    }
}

impl Totals {
    /// Returns the native histogram of the durations.
    #[must_use]
    pub fn exponential(&self) -> Durations {
        let mut counts = self.exponential.iter().copied();
        Durations {
            zero: counts.next().unwrap_or(0),
            first: DOUBLINGS.0 * STEPS + 1,
            counts: counts.collect(),
        }
    }
}

/// Returns the place of a duration in [`Tally::exponential`].
fn exponential(took: Duration) -> usize {
    let seconds = took.as_secs_f64();
    if seconds <= Durations::ZERO {
        return 0;
    }
    // The number is 2^exponent times a part of 0.5 or more, below 1: no log2 is
    // needed.
    let bits = seconds.to_bits();
    let exponent = i32::try_from((bits >> 52) & 0x7ff).unwrap_or(0) - 1022;
    let part = f64::from_bits((bits & !(0x7ff << 52)) | (1022 << 52));
    let within = PARTS.partition_point(|bound| *bound < part);
    let index = i32::try_from(within).unwrap_or(0) + (exponent - 1) * STEPS;
    let place = usize::try_from(index - DOUBLINGS.0 * STEPS).unwrap_or(0);
    place.min(BUCKETS)
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
            (self.exponential.get(exponential(took)), 1),
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
}

impl ThreadCounts for Tally {
    type Totals = Totals;

    fn add_to(&self, totals: &mut Totals) {
        let counts = self.requests.iter().flatten().chain(&self.durations);
        let counts = counts.chain(&self.exponential);
        let sums = totals.requests.iter_mut().flatten();
        let sums = sums.chain(&mut totals.durations);
        for (sum, count) in sums.chain(&mut totals.exponential).zip(counts) {
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
    fn a_duration_falls_into_the_bucket_of_its_bound() {
        assert_eq!(DOUBLINGS.1 - DOUBLINGS.0, 32);
        for (nanoseconds, place) in [
            (0, 0),
            (1, 0),
            (953, 0),
            (954, 1),
            // 2^-10 s is a bound, and belongs below it.
            (976_562, 80),
            (976_563, 81),
            (1_000_000_000, 160),
            (1_000_000_001, 161),
            (1_090_507_732, 161),
            (1_090_507_733, 162),
            (2_000_000_000, 168),
            (u64::MAX, BUCKETS),
        ] {
            let took = Duration::from_nanos(nanoseconds);
            assert_eq!(exponential(took), place, "{nanoseconds} ns");
        }
        // The bucket of place `p` has the index `p` - 160.
        assert_eq!(Totals::default().exponential().first, -159);
    }

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
            let counts = totals.exponential().counts;
            assert_eq!(counts.iter().sum::<u64>(), 3 * round);
            assert_eq!(counts.last(), Some(&round));
        }
    }
}
