//! Places for accepted connections: `--max-connections`.
//!
//! When all are taken, workers close HTTP connections that are between two
//! requests, the longest idle first. After that, new connections wait in the
//! backlog.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use netwasm_base::counters::Counters;

/// Time between two rounds of closing idle connections while new ones wait.
/// Connections that were busy may be idle by then.
const ROUND: Duration = Duration::from_millis(100);

/// Minimum time between two log lines that say that all places are taken.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// The places for accepted connections.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    most: usize,
    wanted: Notify,
    /// Time of the last such log line.
    logged: Mutex<Option<Instant>>,
    counters: Arc<Counters>,
}

impl Places {
    pub(crate) fn new(most: usize, counters: &Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            most,
            wanted: Notify::new(),
            logged: Mutex::default(),
            counters: Arc::clone(counters),
        })
    }

    /// Takes a place if one is free.
    pub(crate) fn free(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Notes that a connection waits because no place is free.
    pub(crate) fn note_full(&self) {
        self.counters.connections_waited.add();
        self.log();
    }

    /// Takes a place. If none is free, asks the workers for one and waits.
    ///
    /// # Errors
    /// Never fails: the semaphore is not closed.
    pub async fn take(self: Arc<Self>) -> Result<OwnedSemaphorePermit, AcquireError> {
        if let Some(permit) = self.free() {
            return Ok(permit);
        }
        self.note_full();
        // The future keeps its position in the queue over all rounds.
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
