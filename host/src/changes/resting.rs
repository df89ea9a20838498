//! Files that may be changing: they are read once they rest.

use std::time::{Duration, Instant};

use super::states::Files;

/// Time for which changed files must rest.
pub(super) const REST: Duration = Duration::from_millis(150);

/// Files that may be changing.
#[derive(Debug)]
pub(super) struct Resting {
    seen: Files,
    /// Time since which they rest; `None` once that was long enough.
    since: Option<Instant>,
}

impl Resting {
    pub(super) fn new(seen: Files, now: Instant) -> Self {
        Self {
            seen,
            since: Some(now),
        }
    }

    pub(super) fn seen(&self) -> &Files {
        &self.seen
    }

    /// Returns the time until they have rested; `None` if they have.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let since = self.since?;
        Some(REST.saturating_sub(now.saturating_duration_since(since)))
    }

    /// Notes their states. Returns true once they have not changed for long
    /// enough.
    pub(super) fn have_rested(&mut self, seen: Files, now: Instant) -> bool {
        if seen != self.seen {
            *self = Self::new(seen, now);
            return false;
        }
        let rested = self.left(now) == Some(Duration::ZERO);
        if rested {
            self.since = None;
        }
        rested
    }

    /// Notes that they may be changing.
    pub(super) fn may_change(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }
}
