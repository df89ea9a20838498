//! What all workers share of the network.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use netwasm_base::config::{DnsConfig, Limits};
use netwasm_base::counters::Counters;
use netwasm_base::error::{ConnectionError, Error};
use netwasm_base::policy::{Denied, Policy};

use crate::dns::Sources;
use crate::parked::Pools;
use crate::places::Places;
use crate::tls::Tls;
use crate::turns::Steps;

/// See the module.
#[derive(Debug)]
pub struct Env {
    /// Limits and deadlines.
    pub limits: Limits,
    /// The guest's name in the log.
    pub guest: String,
    /// What the guest may reach.
    pub policy: Policy,
    pub(crate) names: Arc<Sources>,
    /// Certificates, and whom to trust.
    pub tls: Arc<Tls>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// Of accepted connections.
    pub places: Arc<Places>,
    /// Outgoing connections that are still allowed.
    outgoing: Arc<Semaphore>,
    /// Connections that are kept for the next.
    pub pools: Pools,
    /// The clock of the workers' turns.
    pub steps: Steps,
}

/// What an [`Env`] is made from.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// See [`Env`].
    pub limits: Limits,
    /// See [`Env`].
    pub guest: &'a str,
    /// See [`Env`].
    pub policy: Policy,
    /// How names become addresses.
    pub dns: DnsConfig,
    /// See [`Env`].
    pub tls: Arc<Tls>,
    /// Accepted connections that there is room for.
    pub places: usize,
}

impl Env {
    /// Builds what can go wrong before a run begins.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(settings: Settings<'_>) -> Result<Self, Error> {
        let Settings {
            limits,
            guest,
            policy,
            dns,
            tls,
            places,
        } = settings;
        let counters: Arc<Counters> = Arc::default();
        let pools = Pools::new().map_err(|source| Error::System {
            what: "epoll",
            source,
        })?;
        Ok(Self {
            guest: guest.to_owned(),
            policy,
            names: Arc::new(Sources::new(&dns)),
            tls,
            places: Places::new(places, &counters),
            outgoing: Arc::new(Semaphore::new(limits.max_outgoing)),
            counters,
            pools,
            steps: Steps::default(),
            limits,
        })
    }

    /// One more outgoing connection.
    ///
    /// # Errors
    /// There are as many as are allowed.
    pub fn try_outgoing_permit(&self) -> Result<OwnedSemaphorePermit, ConnectionError> {
        Arc::clone(&self.outgoing)
            .try_acquire_owned()
            .map_err(|_| ConnectionError::LimitExceeded("--max-outgoing is reached"))
    }

    /// Logs all that was denied of something, as of the addresses of a name.
    pub fn deny_all(&self, denied: &[Denied]) {
        for denied in denied {
            self.deny(denied);
        }
    }

    /// Logs what the policy denied, with the flag that would allow it.
    pub fn deny(&self, denied: &Denied) {
        self.counters.denied.add();
        tracing::warn!(guest = %self.guest, "{denied}");
    }
}
