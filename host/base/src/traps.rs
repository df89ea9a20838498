//! Traps of guests, counted by cause.

use std::sync::atomic::{AtomicU64, Ordering};

/// Cause of a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The event took too long (`--event-timeout`).
    Timeout,
    /// The guest was denied more memory (`--max-memory`).
    MemoryLimit,
    /// The guest gave up: a panic, an abort, a failed check.
    Unreachable,
    /// An access outside a memory or a table, or a wrong indirect call.
    OutOfBounds,
    /// The stack is exhausted.
    Stack,
    /// A division by zero, or a result that does not fit.
    Arithmetic,
    /// The guest exited with a failure.
    Exit,
    /// Anything else, such as a call that the host refuses.
    Other,
}

/// All causes, with their names.
pub const CAUSES: [(Cause, &str); 8] = [
    (Cause::Timeout, "timeout"),
    (Cause::MemoryLimit, "memory_limit"),
    (Cause::Unreachable, "unreachable"),
    (Cause::OutOfBounds, "out_of_bounds"),
    (Cause::Stack, "stack"),
    (Cause::Arithmetic, "arithmetic"),
    (Cause::Exit, "exit"),
    (Cause::Other, "other"),
];

/// Numbers of traps.
#[derive(Debug, Default)]
pub struct Traps([AtomicU64; CAUSES.len()]);

impl Traps {
    /// Counts a trap.
    pub fn add(&self, cause: Cause) {
        if let Some(count) = self.0.get(cause as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how many there were, of all causes.
    pub fn get(&self) -> u64 {
        let counts = self.0.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Returns how many there were of a cause.
    pub fn of(&self, cause: Cause) -> u64 {
        let count = self.0.get(cause as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_count() {
        let traps = Traps::default();
        for (cause, name) in CAUSES {
            traps.add(cause);
            assert_eq!(traps.of(cause), 1, "{name}");
        }
        traps.add(Cause::Other);
        assert_eq!((traps.of(Cause::Other), traps.get()), (2, 9));
    }
}
