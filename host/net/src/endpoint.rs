//! Where outgoing connections lead, and how they are made.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use netwasm_base::error::ConnectionError;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An IP address and a port.
    Address(SocketAddr),
    /// A name, which has yet to be looked up.
    Name {
        /// As the guest gave it.
        host: String,
        /// Of TCP.
        port: u16,
    },
    /// The path of a Unix domain socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// A name, or an address as text.
    pub fn named(host: String, port: u16) -> Self {
        match host.parse() {
            Ok(ip) => Self::Address(SocketAddr::new(ip, port)),
            Err(_) => Self::Name { host, port },
        }
    }

    /// # Errors
    /// `InvalidArgument` where nobody can be there.
    pub fn checked(self) -> Result<Self, ConnectionError> {
        let usable = match &self {
            Self::Address(address) => address.port() != 0,
            Self::Name { host, port } => !host.is_empty() && *port != 0,
            Self::Unix(path) => !path.as_os_str().is_empty(),
        };
        usable
            .then_some(self)
            .ok_or(ConnectionError::InvalidArgument)
    }

    /// The name that a server there is expected to have.
    pub fn server_name(&self) -> Option<String> {
        match self {
            Self::Address(address) => Some(address.ip().to_string()),
            Self::Name { host, .. } => Some(host.trim_end_matches('.').to_owned()),
            Self::Unix(_) => None,
        }
    }
}

/// How to connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConnectOptions {
    /// How long it may take in all, unless 30 s.
    pub timeout: Option<Duration>,
    /// The address to connect from, unless the system picks one.
    pub local: Option<IpAddr>,
}
