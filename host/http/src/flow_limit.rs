//! Limit of a run on what clients send ahead of the guests: `--max-unread`.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Divisor of the limit for one connection's maximum.
const SHARE: usize = 8;

/// Bytes that the clients of a run may send before guests take them, besides
/// the smallest window of each connection.
#[derive(Debug)]
pub struct FlowLimit {
    most: usize,
    left: AtomicUsize,
    each: usize,
}

impl FlowLimit {
    /// Returns a limit in bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            left: AtomicUsize::new(most),
            each: most.div_ceil(SHARE),
        }
    }

    /// Returns the limit in bytes.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// Returns the maximum that one connection may take, in bytes.
    pub(crate) fn each(&self) -> usize {
        self.each
    }

    /// Returns the bytes that are left.
    #[cfg(test)]
    pub(crate) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes up to `wanted` bytes. Returns how many.
    pub(crate) fn take(&self, wanted: usize) -> usize {
        let less = |left: usize| Some(left.saturating_sub(wanted));
        let before = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        before.unwrap_or_default().min(wanted)
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}
