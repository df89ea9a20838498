//! The limit of a group's requests at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Requests to a group that are under way or wait, and their maximum.
#[derive(Debug)]
pub(super) struct Limit {
    most: u32,
    admitted: Arc<AtomicU32>,
}

/// Admission of a request. Dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Admitted(Arc<AtomicU32>);

impl Limit {
    pub(super) fn new(most: u32) -> Self {
        Self {
            most,
            admitted: Arc::default(),
        }
    }

    /// Admits a request, unless there are too many.
    pub(super) fn admit(&self) -> Option<Admitted> {
        let before = self.admitted.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(Arc::clone(&self.admitted));
        (before < self.most).then_some(admitted)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
