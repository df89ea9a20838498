//! Background work of async guests: after an instance's last response, after
//! the end of its connection, or for a client that has left. Nobody waits for
//! such work, so its time and number are limited.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use netwasm_base::config::Limits;
use netwasm_base::counters::Counters;
use netwasm_net::permits::{Permit, Permits};

/// Work that ends within this time needs no place.
const MOMENT: Duration = Duration::from_millis(10);

/// Places for background work.
#[derive(Debug)]
pub(crate) struct Background {
    places: Arc<Permits>,
    limit: Duration,
    counters: Arc<Counters>,
}

impl Background {
    pub(crate) fn new(limits: &Limits, places: Arc<Permits>, counters: &Arc<Counters>) -> Self {
        Self {
            places,
            limit: limits.background_timeout,
            counters: Arc::clone(counters),
        }
    }

    /// Returns how long background work may go on.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Counts background work, and takes a place for it. Returns `None`, and
    /// logs that, if there is no place.
    pub(super) fn place(&self) -> Option<Permit> {
        self.counters.left_behind.add();
        let place = self.places.try_take();
        if place.is_none() {
            self.ended("too many others do so (--max-background)");
        }
        place
    }

    /// Runs something that may go on for a while after `over`. Returns `None`,
    /// and logs that, if it was ended.
    pub(super) async fn bound<T>(
        &self,
        over: impl Future<Output = ()>,
        running: impl Future<Output = T>,
    ) -> Option<T> {
        let mut running = pin!(running);
        tokio::select! {
            biased;
            ended = running.as_mut() => return Some(ended),
            () = over => {}
        }
        if let Ok(ended) = timeout(MOMENT, running.as_mut()).await {
            return Some(ended);
        }
        let _place = self.place()?;
        let ended = timeout(self.limit, running).await;
        if ended.is_err() {
            self.ended("it took too long (--background-timeout)");
        }
        ended.ok()
    }

    /// Counts and logs that background work was ended.
    pub(super) fn ended(&self, why: &str) {
        self.counters.left_behind_ended.add();
        tracing::warn!("ended the work of a guest that nobody waits for: {why}");
    }
}
