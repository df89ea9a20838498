//! Idle connections.

use std::io;
use std::net::{SocketAddr, TcpStream};

use super::connect;

/// Connections that each made one round trip, and then do nothing.
pub(crate) struct Idle {
    _connections: Vec<TcpStream>,
}

impl Idle {
    /// Opens the connections, one after the other.
    pub(crate) fn new(server: SocketAddr, connections: usize) -> io::Result<Self> {
        let connections = (0..connections)
            .map(|_| connect(server))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            _connections: connections,
        })
    }
}
