//! The bytes that a proxy sends before its client's, read before TLS begins.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::time::timeout;

use netwasm_base::address::Address;

use crate::io::{NotReady, Watched};
use crate::proxy::{self, Proxied, Wrong};

/// Reason why a connection's preamble cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PreambleError {
    #[error("{0}")]
    Wrong(#[from] Wrong),
    #[error("the proxy has ended the connection before its header")]
    Ended,
    #[error("the header of the proxy takes too long (--handshake-timeout)")]
    Late,
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Reads the PROXY header of a proxy, and nothing behind it. Returns the client's
/// address, which is the proxy's if the header has none, and what it says besides.
pub(crate) async fn read(
    socket: &Watched,
    proxy: &Address,
    limit: Duration,
) -> Result<(Address, Proxied), PreambleError> {
    match timeout(limit, read_header(socket, proxy)).await {
        Ok(read) => read,
        Err(_) => Err(PreambleError::Late),
    }
}

async fn read_header(
    socket: &Watched,
    proxy: &Address,
) -> Result<(Address, Proxied), PreambleError> {
    let mut buffer = vec![0; proxy::wanted(&[])];
    loop {
        let mut ready = socket.ready(Interest::READABLE).await?;
        // The header is only looked at, so that what follows stays for TLS.
        let looked = ready.try_io(|socket| {
            let flags = RecvFlags::PEEK;
            let (count, _) = recv(socket.as_fd(), &mut *buffer, flags)?;
            Ok(count)
        });
        let count = match looked {
            // More is to come.
            Err(NotReady) => continue,
            Ok(Ok(0)) => return Err(PreambleError::Ended),
            Ok(Ok(count)) => count,
            Ok(Err(error)) if Errno::from_io_error(&error) == Some(Errno::INTR) => continue,
            Ok(Err(error)) => return Err(error.into()),
        };
        let input = buffer.get(..count).unwrap_or_default();
        if let Some(header) = proxy::parse(input)? {
            let fields = input.get(header.fields.clone()).unwrap_or_default();
            let proxied = Proxied::new(proxy.clone(), &header, fields);
            take(socket, header.length, &mut buffer)?;
            return Ok((header.client.unwrap_or_else(|| proxy.clone()), proxied));
        }
        let wanted = proxy::wanted(input);
        if wanted > buffer.len() {
            // Some of it may have arrived already.
            buffer.resize(wanted, 0);
        } else if ready.is_read_closed() {
            return Err(PreambleError::Ended);
        } else {
            // Nothing new is seen before more arrives.
            ready.clear();
        }
    }
}

/// Takes the header, which has arrived.
fn take(socket: &Watched, length: usize, buffer: &mut [u8]) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        let part = buffer.get_mut(..left).unwrap_or_default();
        match recv(socket.as_fd(), part, RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::AGAIN) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((count, _)) => left -= count.min(left),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
