//! Datagram sockets that guests open, and those of async guests: one call, one
//! datagram.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Socket};
use tokio::io::Interest;

use netwasm_base::address::Address;
use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;

use crate::io::Watched;
use crate::listener::datagram_socket;
use crate::options::{self, SocketOption};
use crate::thread::Thread;

/// A datagram socket, connected to a peer or not.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: Watched,
    is_ipv4: bool,
    peer: Option<SocketAddr>,
}

impl DatagramSocket {
    /// Binds a socket.
    ///
    /// # Errors
    /// Fails if the address cannot be bound.
    pub fn bind(local: SocketAddr) -> Result<Self, ConnectionError> {
        Self::new(bind(local)?, local.is_ipv4(), None)
    }

    /// Connects a socket to the first of `peers` to which there is a route.
    ///
    /// # Errors
    /// Fails with the reason of the last peer.
    pub fn connect(peers: &[SocketAddr]) -> Result<Self, ConnectionError> {
        let (socket, peer) = connect(peers)?;
        Self::new(socket, peer.is_ipv4(), Some(peer))
    }

    fn new(
        socket: Socket,
        is_ipv4: bool,
        peer: Option<SocketAddr>,
    ) -> Result<Self, ConnectionError> {
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::ERROR;
        let socket = Watched::new(socket.into(), interest)?;
        Ok(Self {
            socket,
            is_ipv4,
            peer,
        })
    }

    /// Returns the peer of a connected socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Returns the local address.
    ///
    /// # Errors
    /// Fails as getsockname(2) does.
    pub fn local(&self) -> Result<SocketAddr, ConnectionError> {
        match rustix::net::getsockname(self.socket.fd())?.into() {
            Address::Ip(address) => Ok(address),
            Address::Unix(_) => Err(ConnectionError::InvalidState),
        }
    }

    /// Checks that the socket can send to an address at all: a single peer, and
    /// of the socket's family.
    ///
    /// # Errors
    /// - `InvalidState`: the socket is connected to another peer.
    /// - `InvalidArgument`: the address is unusable or of the other family.
    pub fn check(&self, to: SocketAddr) -> Result<(), ConnectionError> {
        match self.peer {
            Some(peer) if peer != to => Err(ConnectionError::InvalidState),
            Some(_) => Ok(()),
            None if is_usable(to) && to.is_ipv4() == self.is_ipv4 => Ok(()),
            None => Err(ConnectionError::InvalidArgument),
        }
    }

    /// Sets an option of the socket.
    ///
    /// # Errors
    /// - `InvalidArgument`: the value is out of range.
    /// - `NotSupported`: datagram sockets have no such option.
    pub fn set_option(&self, option: SocketOption) -> Result<(), ConnectionError> {
        options::set(self.socket.fd(), option)
    }

    /// Sends a datagram; to the socket's peer if it is connected.
    ///
    /// # Errors
    /// Fails if the datagram is too long, or if the system refuses it.
    pub async fn send(
        &self,
        thread: &Thread,
        data: &[u8],
        to: Option<SocketAddr>,
    ) -> Result<(), ConnectionError> {
        let to = to.filter(|_| self.peer.is_none());
        let send = |socket: &OwnedFd| {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let sent = match to {
                Some(to) => rustix::net::sendto(socket, data, flags, &to),
                None => rustix::net::send(socket, data, flags),
            };
            sent.map_err(io::Error::from)
        };
        let sent = self.socket.when(Interest::WRITABLE, send).await;
        thread
            .meter
            .add_bytes(Measure::Sent, sent.map_err(not_sent)?);
        Ok(())
    }

    /// Waits for a datagram, and returns it with its sender.
    ///
    /// # Errors
    /// Fails if an earlier datagram was not delivered, or if the system reports
    /// an error.
    pub async fn receive(&self, thread: &Thread) -> Result<(Vec<u8>, SocketAddr), ConnectionError> {
        let receive = |socket: &OwnedFd| {
            let mut scratch = thread.scratch.borrow_mut();
            let buffer = scratch.wire();
            let flags = RecvFlags::DONTWAIT;
            let (count, _, from) = rustix::net::recvfrom(socket, &mut *buffer, flags)?;
            Ok((buffer.get(..count).unwrap_or_default().to_vec(), from))
        };
        // An undelivered datagram shows as an error, with nothing to read.
        let interest = Interest::READABLE | Interest::ERROR;
        let received = self.socket.when(interest, receive).await;
        let (data, from) = received?;
        thread.meter.add_bytes(Measure::Received, data.len());
        match (from.map(Address::from), self.peer) {
            (Some(Address::Ip(from)), _) | (_, Some(from)) => Ok((data, from)),
            _ => Err(ConnectionError::InvalidState),
        }
    }
}

/// Returns a socket bound to an address.
pub(crate) fn bind(local: SocketAddr) -> Result<Socket, ConnectionError> {
    let socket = create(local)?;
    socket.bind(&local.into())?;
    Ok(socket)
}

/// Returns a socket that is connected to the first of `peers` to which there is
/// a route, and that peer.
pub(crate) fn connect(peers: &[SocketAddr]) -> Result<(Socket, SocketAddr), ConnectionError> {
    let mut failure = ConnectionError::NoAddress;
    for &peer in peers {
        if !is_usable(peer) {
            failure = ConnectionError::InvalidArgument;
            continue;
        }
        let socket = create(peer)?;
        match socket.connect(&peer.into()) {
            Ok(()) => return Ok((socket, peer)),
            Err(error) => failure = error.into(),
        }
    }
    Err(failure)
}

fn create(address: SocketAddr) -> io::Result<Socket> {
    let socket = datagram_socket(Domain::for_address(address))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// True if the address is that of a single peer. IPv4-mapped IPv6 addresses are
/// refused, since they would evade the socket's family.
fn is_usable(address: SocketAddr) -> bool {
    let one = match address.ip() {
        IpAddr::V4(ip) => !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_multicast() && ip.to_ipv4_mapped().is_none(),
    };
    one && address.port() != 0 && !address.ip().is_unspecified()
}

fn not_sent(error: io::Error) -> ConnectionError {
    match Errno::from_io_error(&error) {
        Some(Errno::DESTADDRREQ) => ConnectionError::InvalidState,
        _ => error.into(),
    }
}
