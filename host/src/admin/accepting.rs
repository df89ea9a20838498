//! Listening sockets of the admin interface.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A listening socket of either kind.
pub(super) trait Accept: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Returns the user of the process at the other end: unix(7). `None` over
    /// TCP.
    fn user(stream: &Self::Stream) -> Option<u32>;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(Self::accept(self).await?.0)
    }

    fn user(_: &TcpStream) -> Option<u32> {
        None
    }
}

/// A Unix socket that is its owner's alone.
pub(super) struct OwnListener {
    pub(super) listener: UnixListener,
    /// True if it has a file, whose rights keep others out. A name of the
    /// abstract namespace has none.
    pub(super) has_rights: bool,
}

impl Accept for OwnListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            if self.has_rights {
                return Ok(stream);
            }
            match stream.peer_cred() {
                Ok(peer) if is_allowed(peer.uid()) => return Ok(stream),
                _ => tracing::info!("the admin interface is its owner's: a client is turned away"),
            }
        }
    }

    fn user(stream: &UnixStream) -> Option<u32> {
        stream.peer_cred().ok().map(|peer| peer.uid())
    }
}

/// True for root, and the user of this process.
pub(super) fn is_allowed(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}
