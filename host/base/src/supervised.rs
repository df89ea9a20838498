//! Work of a long-lived thread, which a panic does not end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

/// Panics in a row after which the work is begun no more: it would panic for ever.
const MOST: u32 = 5;

/// First pause after a panic. Each further one is twice as long.
const FIRST: Duration = Duration::from_millis(100);

/// Time without a panic after which they are counted from the beginning.
const CALM: Duration = Duration::from_secs(60);

/// Does work on this thread until it ends. After a panic, which is logged, it is begun
/// again, five times in a row at most. Returns false if it has ended by the last panic.
pub fn supervise(work: impl FnMut()) -> bool {
    supervise_within(FIRST, CALM, work)
}

fn supervise_within(first: Duration, calm: Duration, mut work: impl FnMut()) -> bool {
    let thread = thread::current();
    let thread = thread.name();
    let (mut panics, mut pause) = (0, first);
    loop {
        let begun = Instant::now();
        if catch_unwind(AssertUnwindSafe(&mut work)).is_ok() {
            return true;
        }
        if begun.elapsed() >= calm {
            (panics, pause) = (0, first);
        }
        panics += 1;
        if panics > MOST {
            tracing::error!(
                thread,
                "the work of this thread has ended, after {panics} panics in a row: restart netwasm"
            );
            return false;
        }
        tracing::warn!(thread, "the work of this thread begins again after a panic");
        thread::sleep(pause);
        pause *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Supervises work that panics at its first calls. Returns how often it was called,
    /// and the outcome.
    fn supervised(calm: Duration, panics: u32) -> (u32, bool) {
        let mut calls = 0;
        let outcome = supervise_within(Duration::ZERO, calm, || {
            calls += 1;
            assert!(calls > panics, "for a test");
        });
        (calls, outcome)
    }

    #[test]
    fn work_goes_on_after_a_panic_but_not_for_ever() {
        assert_eq!(supervised(CALM, 0), (1, true));
        assert_eq!(supervised(CALM, MOST), (MOST + 1, true));
        assert_eq!(supervised(CALM, u32::MAX), (MOST + 1, false));
    }

    #[test]
    fn panics_that_are_long_apart_are_no_row() {
        assert_eq!(supervised(Duration::ZERO, 4 * MOST), (4 * MOST + 1, true));
    }
}
