//! Those who may ask an interface, and their questions.

use std::time::Duration;

use netwasm_base::config::ListenAddress;

use crate::server::takeover::Handed;

/// Those who can reach an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// The run's own user, or this machine: `--admin`.
    Owner,
    /// Whoever can connect: `--probes`.
    Anybody,
}

impl Audience {
    /// Returns the number of the interface for a process that takes over.
    pub(super) fn number(self) -> usize {
        match self {
            Self::Owner => 0,
            Self::Anybody => 1,
        }
    }

    /// True if sockets of another process are of the interface at this address.
    pub(crate) fn is_of(self, handed: &Handed, address: &ListenAddress) -> bool {
        handed.listener == self.number()
            && match self {
                // It was asked there, whatever its settings call the place.
                Self::Owner => true,
                Self::Anybody => handed.address == address.to_string(),
            }
    }

    /// Returns how many may be connected at once. Others wait in the backlog: more
    /// room where strangers may take places and say nothing.
    pub(super) fn most(self) -> usize {
        match self {
            Self::Owner => 16,
            Self::Anybody => 128,
        }
    }

    /// Returns the time for a client to take an answer, beyond that for making it.
    pub(super) fn time_to_take(self) -> Duration {
        match self {
            Self::Owner => Duration::from_secs(30),
            Self::Anybody => Duration::from_secs(2),
        }
    }

    /// True if there is something at this path for them: no settings, clients or
    /// operations for anybody.
    pub(super) fn may_ask(self, path: &str) -> bool {
        match self {
            Self::Owner => true,
            Self::Anybody => matches!(path, "/healthz" | "/readyz" | "/metrics"),
        }
    }
}
