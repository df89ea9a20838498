//! Clients that are slow on purpose.

use std::time::{Duration, Instant};

/// The pace of a peer that does a little at a time. It is for tests of slow
/// peers only; to wait for something to happen, use [`super::eventually`].
pub(crate) struct Pace {
    interval: Duration,
    last: Instant,
}

impl Pace {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: Instant::now(),
        }
    }

    /// Waits until an interval after the last step. Returns at once if that has
    /// passed.
    pub(crate) fn step(&mut self) {
        let next = self.last + self.interval;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        self.last = Instant::now();
    }
}

/// Yields each item an interval after the one before.
pub(crate) fn slowly<T>(
    interval: Duration,
    items: impl IntoIterator<Item = T>,
) -> impl Iterator<Item = T> {
    let mut pace = Pace::new(interval);
    items.into_iter().inspect(move |_| pace.step())
}
