//! The sending ends of a channel.

use std::cell::Cell;

/// The number of a channel's senders. It begins with one.
pub(super) struct Senders(Cell<usize>);

impl Senders {
    pub(super) const fn one() -> Self {
        Self(Cell::new(1))
    }

    /// Counts one more.
    pub(super) fn enter(&self) {
        self.0.set(self.0.get() + 1);
    }

    /// Counts one less. Returns true if it was the last one.
    pub(super) fn leave(&self) -> bool {
        self.0.set(self.0.get() - 1);
        self.are_gone()
    }

    /// True if nobody sends any more.
    pub(super) const fn are_gone(&self) -> bool {
        self.0.get() == 0
    }
}
