//! TLS between a worker and a server. Another crate makes it, with the trust that
//! the host has.

use std::fmt;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection, secure or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A secure connection that comes later.
pub type Securing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Makes connections secure.
pub trait Secure: fmt::Debug + Send + Sync {
    /// Agrees on TLS with the server that has this name or address.
    ///
    /// The future fails if the server is not trusted, or as the connection does.
    fn secure(&self, host: &str, stream: TcpStream) -> Securing;
}
