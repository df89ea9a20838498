//! What all workers share of the network.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::counters::Counters;
use crate::dns::Sources;
use crate::error::ConnectionError;
use crate::parked::Pools;
use crate::places::Places;
use crate::policy::{Denied, Policy};
use crate::tls::Tls;
use crate::turns::Steps;

/// See the module.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) limits: Limits,
    /// The guest's name in the log.
    pub(crate) guest: String,
    /// What the guest may reach.
    pub(crate) policy: Policy,
    pub(crate) names: Arc<Sources>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) counters: Arc<Counters>,
    /// Of accepted connections.
    pub(crate) places: Arc<Places>,
    /// Outgoing connections that are still allowed.
    pub(crate) outgoing: Arc<Semaphore>,
    pub(crate) pools: Pools,
    /// The clock of the workers' turns.
    pub(crate) steps: Steps,
}

impl Env {
    /// As many outgoing connections as are allowed.
    pub(crate) fn outgoing(limits: &Limits) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(limits.max_outgoing))
    }

    /// One more outgoing connection.
    ///
    /// # Errors
    /// There are as many as are allowed.
    pub(crate) fn try_outgoing_permit(&self) -> Result<OwnedSemaphorePermit, ConnectionError> {
        Arc::clone(&self.outgoing)
            .try_acquire_owned()
            .map_err(|_| ConnectionError::LimitExceeded("--max-outgoing is reached"))
    }

    /// Logs all that was denied of something, as of the addresses of a name.
    pub(crate) fn deny_all(&self, denied: &[Denied]) {
        for denied in denied {
            self.deny(denied);
        }
    }

    /// Logs what the policy denied, with the flag that would allow it.
    pub(crate) fn deny(&self, denied: &Denied) {
        self.counters.denied.add();
        tracing::warn!(guest = %self.guest, "{denied}");
    }
}
