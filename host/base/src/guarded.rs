//! Panics of libraries on broken input, which are errors here.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Does work in which a library may panic on broken input. Returns `None` if it does:
/// the caller tells that as an error, and nothing that the work has changed may be used.
#[must_use]
pub fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    let before = EXPECTED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    EXPECTED.set(before);
    done.ok()
}

/// True within [`guarded`] on this thread, for who logs panics.
#[must_use]
pub fn is_expected() -> bool {
    EXPECTED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_expected_within_the_work_alone() {
        assert!(!is_expected());
        let within = guarded(|| (is_expected(), guarded(is_expected), is_expected()));
        assert_eq!(within, Some((true, Some(true), true)));
        assert_eq!(guarded(|| -> u8 { panic!("for a test") }), None);
        assert!(!is_expected());
    }
}
