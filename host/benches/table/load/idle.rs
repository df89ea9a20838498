//! Connections that do nothing any more.

use std::io;
use std::net::{SocketAddr, TcpStream};

use super::connect;

/// Connections that each did one round trip, and then nothing.
pub(crate) struct Idle {
    _connections: Vec<TcpStream>,
}

impl Idle {
    /// Opens them, one after the other.
    pub(crate) fn new(server: SocketAddr, connections: usize) -> io::Result<Self> {
        let connections = (0..connections)
            .map(|_| connect(server))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            _connections: connections,
        })
    }
}
