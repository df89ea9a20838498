//! Places for accepted connections: `--max-connections`.
//!
//! When all are taken, workers close HTTP connections that are between two
//! requests, the longest idle first. After that, new connections wait in the
//! backlog.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::Notify;
use tokio::time::Instant;

use netwasm_base::counters::Counters;

use crate::permits::{Permit, Permits};

/// Time between two rounds of closing idle connections while new ones wait.
/// Connections that were busy may be idle by then.
const ROUND: Duration = Duration::from_millis(100);

/// Minimum time between two log lines that say that all places are taken.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// The places for accepted connections of a service. Its generations share
/// them.
#[derive(Debug)]
pub struct Places {
    permits: Arc<Permits>,
    /// Time of the last such log line.
    logged: Mutex<Option<Instant>>,
    counters: Arc<Counters>,
}

impl Places {
    /// Returns places for which there are permits.
    #[must_use]
    pub fn new(permits: Arc<Permits>, counters: &Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            permits,
            logged: Mutex::default(),
            counters: Arc::clone(counters),
        })
    }

    /// Returns the places of connections that may use any of these services, the
    /// first of which accepts them.
    #[must_use]
    pub fn joined(first: &Self, others: &[&Self]) -> Arc<Self> {
        let others = others.iter().map(|places| &places.permits);
        let permits = Permits::joined(&first.permits, others);
        Self::new(permits, &first.counters)
    }

    /// Returns their permits.
    #[must_use]
    pub fn permits(&self) -> &Arc<Permits> {
        &self.permits
    }

    /// Takes a place if one is free.
    pub(crate) fn free(&self) -> Option<Permit> {
        self.permits.try_take()
    }

    /// Notes that a connection waits because no place is free.
    pub(crate) fn note_full(&self) {
        self.counters.connections_waited.add();
        self.log();
    }

    /// Takes a place. If none is free, asks the workers for one and waits.
    pub async fn take(self: Arc<Self>) -> Permit {
        if let Some(permit) = self.free() {
            return permit;
        }
        self.note_full();
        // The future keeps its position in the queue over all rounds.
        let mut taking = std::pin::pin!(self.permits.take());
        loop {
            for whole in self.permits.scarce() {
                // Other services may have idle connections, too.
                whole.wanted.notify_waiters();
            }
            if let Ok(taken) = tokio::time::timeout(ROUND, taking.as_mut()).await {
                return taken;
            }
        }
    }

    /// Waits until a place is wanted and none is free.
    pub(crate) async fn wanted(self: Arc<Self>) {
        let wholes = self.permits.wholes();
        select_all(wholes.map(|whole| Box::pin(whole.wanted.notified()))).await;
    }

    fn log(&self) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|last| last.elapsed() > BETWEEN_LINES) {
            *logged = Some(Instant::now());
            tracing::warn!(
                connections = self.permits.most(),
                "--max-connections is reached: idle HTTP connections are closed, new ones wait"
            );
        }
    }
}

/// The places of a listener as they are now. A reload replaces them if another
/// service joins the listener, or leaves it.
#[derive(Debug)]
pub struct PresentPlaces {
    now: RefCell<Arc<Places>>,
    changed: Notify,
}

impl PresentPlaces {
    /// Returns the places that a listener begins with.
    #[must_use]
    pub fn new(places: Arc<Places>) -> Rc<Self> {
        Rc::new(Self {
            now: RefCell::new(places),
            changed: Notify::new(),
        })
    }

    /// Returns the places.
    pub(crate) fn get(&self) -> Arc<Places> {
        Arc::clone(&self.now.borrow())
    }

    /// Replaces the places, and returns those before.
    pub(crate) fn replace(&self, places: Arc<Places>) -> Arc<Places> {
        let before = self.now.replace(places);
        self.changed.notify_one();
        before
    }

    /// Waits until they are replaced. Meant for one task.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}
