//! Idle connections.

use std::io;
use std::net::{SocketAddr, TcpStream};

use super::http::{Wire, check, message, plain};
use super::{connect, websocket};
use crate::site::Resource;

/// Connections that each made one round trip or request, and then do nothing.
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

    /// Opens WebSocket connections.
    pub(crate) fn websocket(server: SocketAddr, connections: usize) -> io::Result<Self> {
        let connections = (0..connections).map(|_| websocket::idle(server));
        Ok(Self {
            _connections: connections.collect::<io::Result<_>>()?,
        })
    }

    /// Opens connections that each requested a file of 1 KiB.
    pub(crate) fn http(server: SocketAddr, connections: usize) -> io::Result<Self> {
        let request = message(server, Resource::Small);
        let body = Resource::Small.body();
        let connect = || {
            let stream = plain(server)?;
            check(&mut Wire::Plain(stream.try_clone()?), &request, &body)?;
            Ok(stream)
        };
        let connections = (0..connections).map(|_| connect());
        Ok(Self {
            _connections: connections.collect::<io::Result<_>>()?,
        })
    }
}
