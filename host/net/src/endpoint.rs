//! Destinations and options of outgoing connections.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use netwasm_base::error::ConnectionError;

/// Destination of an outgoing connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An IP address and a port.
    Address(SocketAddr),
    /// A name that has yet to be resolved.
    Name {
        /// Host name, as the guest gave it.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// The path of a Unix domain socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Returns an address if `host` is one in text form, otherwise a name.
    pub fn named(host: String, port: u16) -> Self {
        match host.parse() {
            Ok(ip) => Self::Address(SocketAddr::new(ip, port)),
            Err(_) => Self::Name { host, port },
        }
    }

    /// Returns the endpoint if a server can exist there.
    ///
    /// # Errors
    /// `InvalidArgument`: the port is 0, or the host or path is empty.
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

    /// Returns the name to expect in the server's certificate.
    pub fn server_name(&self) -> Option<String> {
        match self {
            Self::Address(address) => Some(address.ip().to_string()),
            Self::Name { host, .. } => Some(host.trim_end_matches('.').to_owned()),
            Self::Unix(_) => None,
        }
    }
}

/// Options of an outgoing connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConnectOptions {
    /// Total time limit; 30 s if `None`.
    pub timeout: Option<Duration>,
    /// Local address to connect from; the system's choice if `None`.
    pub local: Option<IpAddr>,
}
