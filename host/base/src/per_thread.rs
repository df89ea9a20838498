//! Counts that each thread keeps apart, and their sums.
//!
//! Only its own thread writes its counts, so that counting costs a plain load and
//! store. A reader adds all of them up.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The counts of a thread, from zero. Only that thread may add to them.
pub trait ThreadCounts: Default {
    /// Sums over threads.
    type Totals: Clone + Default + fmt::Debug;

    /// Adds the counts to sums.
    fn add_to(&self, totals: &mut Self::Totals);
}

/// The counts of all threads.
#[derive(Debug, Default)]
pub struct PerThread<C: ThreadCounts>(Mutex<Threads<C>>);

#[derive(Debug, Default)]
struct Threads<C: ThreadCounts> {
    present: Vec<Arc<C>>,
    /// Counts of threads that are gone.
    past: C::Totals,
}

impl<C: ThreadCounts> PerThread<C> {
    /// Returns the counts of a thread, from zero.
    pub fn of_thread(&self) -> Arc<C> {
        let own = Arc::<C>::default();
        let mut threads = self.threads();
        let Threads { present, past } = &mut *threads;
        present.retain(|counts| {
            let is_used = Arc::strong_count(counts) > 1;
            if !is_used {
                counts.add_to(past);
            }
            is_used
        });
        present.push(Arc::clone(&own));
        own
    }

    /// Returns the sums over all threads.
    pub fn totals(&self) -> C::Totals {
        let threads = self.threads();
        let mut totals = threads.past.clone();
        for counts in &threads.present {
            counts.add_to(&mut totals);
        }
        totals
    }

    /// True if a thread has counts of these.
    pub(crate) fn is_used(&self) -> bool {
        let threads = self.threads();
        threads.present.iter().any(|it| Arc::strong_count(it) > 1)
    }

    fn threads(&self) -> MutexGuard<'_, Threads<C>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Count(AtomicU64);

    impl ThreadCounts for Count {
        type Totals = u64;

        fn add_to(&self, totals: &mut u64) {
            *totals += self.0.load(Ordering::Relaxed);
        }
    }

    #[test]
    fn counts_of_threads_that_are_gone_stay_in_the_sums() {
        let all = PerThread::<Count>::default();
        assert!(!all.is_used());
        for round in 1..=3 {
            let (one, other) = (all.of_thread(), all.of_thread());
            one.0.store(7, Ordering::Relaxed);
            other.0.store(3, Ordering::Relaxed);
            assert_eq!(all.totals(), 10 * round);
            assert!(all.is_used());
        }
        assert_eq!(all.threads().present.len(), 2, "the others were added up");
    }
}
