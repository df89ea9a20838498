//! Upstream groups: servers that take what guests decide to forward.
//!
//! ```text
//!   forward to a group --> Group::choose --> Server --> Place (may wait for it)
//!                          balance, health     |
//!                                              +--> kept: a connection at rest
//!                                               \-> connect: a new connection
//! ```
//!
//! All workers share the groups: the turns, the health and the places of a
//! server. Nothing here knows what is spoken with a server.

mod group;
mod hash;
mod server;

use std::collections::HashMap;
use std::sync::Arc;

use netwasm_base::config::UpstreamGroup;
use netwasm_base::counters::Counters;
use netwasm_base::error::{ConnectionError, Error};

pub use self::group::Group;
pub use self::server::{NoPlace, Place, Server};

/// The groups that `--upstream` names.
#[derive(Debug, Default)]
pub struct Upstreams(HashMap<String, Arc<Group>>);

impl Upstreams {
    /// Makes the groups of a service.
    ///
    /// # Errors
    /// Fails if a server's name cannot be one of a certificate.
    pub(crate) fn new(groups: &[UpstreamGroup], counters: &Arc<Counters>) -> Result<Self, Error> {
        let group = |group: &UpstreamGroup| {
            let made = Group::new(group, counters);
            let made = made.map_err(|error: ConnectionError| {
                Error::Tls(format!("--upstream {}: {error}", group.name))
            })?;
            Ok((group.name.clone(), Arc::new(made)))
        };
        let groups: Result<_, Error> = groups.iter().map(group).collect();
        groups.map(Self)
    }

    /// Returns the group of a name.
    pub fn get(&self, name: &str) -> Option<&Arc<Group>> {
        self.0.get(name)
    }
}
