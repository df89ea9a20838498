//! Upstream groups: servers that take what guests decide to forward.
//!
//! ```text
//!   forward to a group --> Group::enter --> Server --> Place (may wait for it)
//!             limit, sticky, choice, health    |
//!                                              +--> kept: a connection at rest
//!                                               \-> connect: a new connection
//!   checks --> Server::was_checked, Server::resolved
//! ```
//!
//! All workers share the groups: the turns, the health and the places of a
//! server. Nothing here knows what is spoken with a server, and nothing waits
//! but a request in a server's queue.

mod addresses;
mod choice;
mod clock;
mod group;
mod hash;
mod health;
mod limit;
mod server;
mod sticky;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use netwasm_base::config::UpstreamGroup;
use netwasm_base::counters::Counters;
use netwasm_base::error::Error;

use crate::tls::Tls;

pub use self::choice::Wish;
pub use self::group::{Entry, Group, offered};
pub use self::server::{NoPlace, Place, Server};
pub use self::sticky::Sticky;

/// The groups that `--upstream` names.
#[derive(Debug, Default)]
pub struct Upstreams {
    /// By their names. Mostly they are few, of which one is found sooner than its
    /// name is hashed.
    groups: BTreeMap<String, Arc<Group>>,
    /// True if a worker watches the servers.
    are_watched: AtomicBool,
}

impl Upstreams {
    /// Makes the groups of a service.
    ///
    /// # Errors
    /// Fails if a server's name cannot be one of a certificate, or if the key of
    /// a sticky cookie cannot be read.
    pub(crate) fn new(groups: &[UpstreamGroup], counters: &Arc<Counters>) -> Result<Self, Error> {
        let group = |group: &UpstreamGroup| {
            let made = Group::new(group, counters)?;
            Ok((group.name.clone(), Arc::new(made)))
        };
        let groups: Result<_, Error> = groups.iter().map(group).collect();
        Ok(Self {
            groups: groups?,
            are_watched: AtomicBool::new(false),
        })
    }

    /// Checks that there are the authorities and identities that groups name.
    ///
    /// # Errors
    /// Fails with the flag that is missing.
    pub(crate) fn check(&self, tls: &Tls) -> Result<(), Error> {
        for group in self.all() {
            for client in group.servers().iter().filter_map(|server| server.tls()) {
                let checked = tls.check(client);
                checked.map_err(|denied| {
                    Error::Upstream(format!("--upstream {}: {denied}", group.name()))
                })?;
            }
        }
        Ok(())
    }

    /// Returns the group of a name.
    pub fn get(&self, name: &str) -> Option<&Arc<Group>> {
        self.groups.get(name)
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Returns all groups, by their names.
    pub fn all(&self) -> Vec<&Arc<Group>> {
        self.groups.values().collect()
    }

    /// True for the first that asks: one worker watches the servers, for all.
    pub(crate) fn are_unwatched(&self) -> bool {
        !self.are_watched.swap(true, Ordering::Relaxed)
    }
}
