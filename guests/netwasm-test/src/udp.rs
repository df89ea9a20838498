//! A client of the UDP listener.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::difference;
use crate::log::Log;

/// A UDP socket that is connected to the server.
///
/// Loopback loses datagrams only if a receiver's buffer is full. Every operation
/// has the server's time limit ([`crate::Component::time_limit`], 10 seconds by
/// default).
#[derive(Debug)]
pub struct UdpClient {
    socket: UdpSocket,
    server: SocketAddr,
    limit: Duration,
    log: Log,
}

impl UdpClient {
    /// Sends a datagram of at most 65,507 bytes.
    ///
    /// # Panics
    /// Panics if the system refuses it.
    #[track_caller]
    pub fn send(&self, datagram: impl AsRef<[u8]>) {
        if let Err(error) = self.socket.send(datagram.as_ref()) {
            self.fail(&format!("a datagram cannot be sent: {error}"));
        }
    }

    /// Receives a datagram.
    ///
    /// # Panics
    /// Panics if none comes within the time limit, or if the server has no
    /// socket any more.
    #[track_caller]
    #[must_use]
    pub fn receive(&self) -> Vec<u8> {
        match self.try_receive() {
            Ok(datagram) => datagram,
            Err(fault) => self.fail(&fault),
        }
    }

    /// Receives a datagram, and checks that it is `expected`.
    ///
    /// # Panics
    /// Panics if another datagram comes, or none within the time limit. The
    /// message shows the difference.
    #[track_caller]
    pub fn expect(&self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        match self.try_receive() {
            Ok(datagram) if datagram == expected => {}
            Ok(datagram) => {
                let shown = difference::show(expected, &datagram);
                self.fail(&format!("the datagram differs\n{shown}"));
            }
            Err(fault) => self.fail(&fault),
        }
    }

    /// Checks that no datagram comes for a while. One that comes later is not
    /// noticed.
    ///
    /// # Panics
    /// Panics if a datagram comes.
    #[track_caller]
    pub fn expect_nothing(&self, wait: Duration) {
        match self.receive_within(wait) {
            Ok(None) => {}
            Ok(Some(datagram)) => {
                self.fail(&format!("a datagram came: \"{}\"", datagram.escape_ascii()));
            }
            Err(fault) => self.fail(&fault),
        }
    }

    /// Opens a socket for datagrams to and from a server.
    pub(crate) fn connect(server: SocketAddr, limit: Duration, log: &Log) -> io::Result<Self> {
        let socket = UdpSocket::bind((server.ip(), 0))?;
        socket.connect(server)?;
        Ok(Self {
            socket,
            server,
            limit,
            log: log.clone(),
        })
    }

    fn try_receive(&self) -> Result<Vec<u8>, String> {
        let received = self.receive_within(self.limit)?;
        received.ok_or_else(|| format!("no datagram came within {:?}", self.limit))
    }

    /// Receives a datagram. Returns `None` if none comes within the limit.
    fn receive_within(&self, limit: Duration) -> Result<Option<Vec<u8>>, String> {
        let deadline = Deadline::after(limit);
        let mut buffer = vec![0; 1 << 16];
        while let Some(left) = deadline.left() {
            let wait = left.max(Duration::from_millis(1));
            let received = self
                .socket
                .set_read_timeout(Some(wait))
                .and_then(|()| self.socket.recv(&mut buffer));
            match received {
                Ok(length) => {
                    buffer.truncate(length);
                    return Ok(Some(buffer));
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Err(format!("no datagram: {error}")),
                },
            }
        }
        Ok(None)
    }

    #[track_caller]
    fn fail(&self, fault: &str) -> ! {
        panic!("udp {}: {fault}\n{}", self.server, self.log.report())
    }
}
