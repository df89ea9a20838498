//! Places for accepted connections: `--max-connections`.
//!
//! When all are taken, workers close HTTP connections between two requests, the
//! longest idle first. Then the backlog waits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use netwasm_base::counters::Counters;

/// Time between two rounds of closing idle connections while new ones wait:
/// those that were busy may be idle by then.
const ROUND: Duration = Duration::from_millis(100);

/// Time between two lines of the log that say that all places are taken.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    most: usize,
    wanted: Notify,
    /// When it was last logged that all are taken.
    logged: Mutex<Option<Instant>>,
    counters: Arc<Counters>,
}

impl Places {
    pub(crate) fn new(most: usize, counters: &Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(most)),
            most,
            wanted: Notify::new(),
            logged: Mutex::default(),
            counters: Arc::clone(counters),
        })
    }

    /// A place that is free.
    pub(crate) fn free(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Takes a place. Where none is free, it asks the workers for one, and waits.
    ///
    /// # Errors
    /// Never: places are not closed.
    pub async fn take(self: Arc<Self>) -> Result<OwnedSemaphorePermit, AcquireError> {
        if let Some(permit) = self.free() {
            return Ok(permit);
        }
        self.counters.connections_waited.add();
        self.log();
        // It keeps its place in the queue over all rounds.
        let mut taking = std::pin::pin!(Arc::clone(&self.free).acquire_owned());
        loop {
            self.wanted.notify_waiters();
            if let Ok(taken) = tokio::time::timeout(ROUND, taking.as_mut()).await {
                return taken;
            }
        }
    }

    /// Waits until a place is wanted and none is free.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    fn log(&self) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|last| last.elapsed() > BETWEEN_LINES) {
            *logged = Some(Instant::now());
            tracing::warn!(
                connections = self.most,
                "--max-connections is reached: idle HTTP connections are closed, new ones wait"
            );
        }
    }
}
