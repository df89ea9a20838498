//! Connections to servers. Another crate makes them, with the trust that the host
//! has.

use std::fmt;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

/// A connection, secure or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that comes later.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Makes connections.
pub trait Dial: fmt::Debug + Send + Sync {
    /// Connects to a server by its name or address, in TLS if it is to be secure.
    ///
    /// The future fails if the server cannot be reached, or is not trusted.
    fn dial(&self, host: &str, port: u16, secure: bool) -> Dialing;
}
