//! The time at which a server is judged.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// A point in time in milliseconds since the process first asked, never 0. It is
/// looked at when it is needed, which it seldom is, and then stands still.
#[derive(Debug, Default)]
pub(super) struct Clock(Cell<u64>);

impl Clock {
    /// Returns a clock that stands at a time, for tests.
    #[cfg(test)]
    pub(super) fn at(milliseconds: u64) -> Self {
        Self(Cell::new(milliseconds))
    }

    pub(super) fn now(&self) -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        if self.0.get() == 0 {
            self.0.set(milliseconds(START.elapsed()).saturating_add(1));
        }
        self.0.get()
    }
}

/// Converts a duration to milliseconds.
pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
