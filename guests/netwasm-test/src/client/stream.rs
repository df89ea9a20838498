//! The stream below a client, and how it is connected.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustls::{ClientConnection, StreamOwned};

use crate::deadline::Deadline;

/// Longest that one write or read waits before the client looks at the other
/// direction, and at its deadline.
pub(super) const SLICE: Duration = Duration::from_millis(20);

pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects over TCP.
    pub(super) fn tcp(address: SocketAddr, limit: Duration) -> Result<Self, String> {
        Ok(Self::Tcp(connect(address, limit).map_err(unconnected)?))
    }

    /// Connects over TCP, and completes the handshake of TLS.
    pub(super) fn tls(
        address: SocketAddr,
        session: ClientConnection,
        limit: Duration,
    ) -> Result<Self, String> {
        let stream = connect(address, limit).map_err(unconnected)?;
        let mut stream = StreamOwned::new(session, stream);
        let deadline = Deadline::after(limit);
        while stream.conn.is_handshaking() {
            match stream.conn.complete_io(&mut stream.sock) {
                Err(error) if !waits(&error) => {
                    return Err(format!("the handshake failed: {error}"));
                }
                _ if deadline.left().is_none() => {
                    return Err(format!("no handshake within {limit:?}"));
                }
                _ => {}
            }
        }
        Ok(Self::Tls(Box::new(stream)))
    }

    /// Connects to a Unix socket.
    pub(super) fn unix(path: &Path, limit: Duration) -> Result<Self, String> {
        Ok(Self::Unix(connect_unix(path, limit).map_err(unconnected)?))
    }

    /// Sets the longest wait of a read.
    pub(super) fn set_read_timeout(&self, wait: Duration) -> io::Result<()> {
        // The system has microseconds; 0 would be no limit.
        let wait = Some(wait.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(wait),
            Self::Unix(stream) => stream.set_read_timeout(wait),
            Self::Tls(stream) => stream.sock.set_read_timeout(wait),
        }
    }

    /// True if all bytes that were written are the system's, not TLS's.
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            Self::Tls(stream) => !stream.conn.wants_write(),
            Self::Tcp(_) | Self::Unix(_) => true,
        }
    }

    /// Ends the sending direction. Over TLS, close_notify is left to be flushed.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(stream) => {
                stream.conn.send_close_notify();
                Ok(())
            }
        }
    }

    /// Makes the close a reset.
    pub(super) fn reset_at_close(&self) -> io::Result<()> {
        let linger = Some(Duration::ZERO);
        match self {
            Self::Tcp(stream) => Ok(sockopt::set_socket_linger(stream, linger)?),
            Self::Tls(stream) => Ok(sockopt::set_socket_linger(&stream.sock, linger)?),
            // A Unix socket that is closed with bytes unread resets.
            Self::Unix(_) => Ok(()),
        }
    }

    /// Sends close_notify before the close.
    pub(super) fn say_farewell(&mut self) {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            // The server may be gone.
            let _ = stream.conn.write_tls(&mut stream.sock);
        }
    }

    /// Returns the protocol that the handshake of TLS chose.
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Tls(stream) => stream.conn.alpn_protocol(),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SLICE))?;
    stream.set_write_timeout(Some(SLICE))?;
    Ok(stream)
}

/// Connects to a Unix socket. If its backlog is full, the system refuses a
/// socket that does not wait; one that does has no limit.
fn connect_unix(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let deadline = Deadline::after(limit);
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => break,
            Err(rustix::io::Errno::AGAIN) if deadline.left().is_some() => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(SLICE))?;
    Ok(stream)
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn unconnected(error: io::Error) -> String {
    format!("cannot connect: {error}")
}

/// True if an operation ended because its time was over.
pub(super) fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
