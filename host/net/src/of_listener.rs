//! Numbers of a listener's connections.

use std::sync::Arc;

use netwasm_base::counters::{Counter, Level};

/// Numbers of a listener's connections.
#[derive(Debug, Default)]
pub struct ListenerCounts {
    /// Connections so far.
    pub accepted: Counter,
    /// Connections at present.
    pub open: Level,
    /// Connections of clients that were turned away (`--deny-from`,
    /// `--max-client-connections` and the like).
    pub refused: Counter,
}

/// A connection among those that its listener has at present.
#[derive(Debug)]
pub(crate) struct OfListener(Arc<ListenerCounts>);

impl OfListener {
    /// Counts a connection that was accepted.
    pub(crate) fn accepted(counts: &Arc<ListenerCounts>) -> Self {
        counts.accepted.add();
        counts.open.raise(1);
        Self(Arc::clone(counts))
    }

    /// Counts a connection whose client is turned away.
    pub(crate) fn refuse(self) {
        self.0.refused.add();
    }
}

impl Drop for OfListener {
    fn drop(&mut self) {
        self.0.open.lower(1);
    }
}
