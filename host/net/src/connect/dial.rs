//! Dialing: a connected socket, within `--max-outgoing`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use netwasm_base::address::Address;
use netwasm_base::config::TcpOptions;
use netwasm_base::error::ConnectionError;

use super::race::connect_name;
use crate::endpoint::Endpoint;
use crate::io::Watched;
use crate::permits::Permit;
use crate::tcp;
use crate::thread::Thread;
use crate::transport::Transport;
use crate::unix;
use crate::worker::Worker;

/// A connected socket. It counts against `--max-outgoing`.
#[derive(Debug)]
pub struct Dialed {
    /// The socket, watched for reading and writing.
    pub socket: Watched,
    /// The peer's address.
    pub peer: Address,
    /// Permit, to be dropped with the connection.
    pub permit: Permit,
}

impl Dialed {
    /// Wraps the socket in a transport of `thread`.
    pub fn into_transport(self, thread: &Rc<Thread>) -> Rc<Transport> {
        Transport::watched(thread, self.socket, self.peer, Some(self.permit))
    }
}

/// The right to connect to the addresses of a name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reach {
    /// To those that the policy allows, from a local address if one is given.
    ByPolicy(Option<IpAddr>),
    /// To all, since the operator has named the server; to this one first.
    Named(Option<IpAddr>),
}

impl Reach {
    pub(super) fn local(self) -> Option<IpAddr> {
        match self {
            Self::ByPolicy(local) => local,
            Self::Named(_) => None,
        }
    }

    pub(super) fn first(self) -> Option<IpAddr> {
        match self {
            Self::ByPolicy(_) => None,
            Self::Named(first) => first,
        }
    }
}

/// Connects to the address of an endpoint that answers first. Dropping the
/// future closes whatever was begun.
///
/// # Errors
/// Fails if `--max-outgoing` connections exist already, and the worker keeps none
/// that can give way, if the policy denies all addresses, if there are none, or if
/// none answers. If several were tried, the error is that of the last.
pub async fn dial(
    worker: &Worker,
    endpoint: &Endpoint,
    local: Option<IpAddr>,
) -> Result<Dialed, ConnectionError> {
    dial_within(worker, endpoint, Reach::ByPolicy(local)).await
}

pub(super) async fn dial_within(
    worker: &Worker,
    endpoint: &Endpoint,
    reach: Reach,
) -> Result<Dialed, ConnectionError> {
    let permit = permit(worker)?;
    let socket = match endpoint {
        Endpoint::Unix(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
            return Ok(Dialed {
                socket: connect_socket(socket, &unix::address(path)?).await?,
                peer: Address::Unix(Some(path.clone())),
                permit,
            });
        }
        Endpoint::Address(address) => {
            connect_address(*address, reach.local(), worker.env().limits.tcp).await?
        }
        Endpoint::Name { host, port } => connect_name(worker, host, *port, reach).await?,
    };
    let peer = SockRef::from(socket.fd()).peer_addr();
    // The peer has reset the connection meanwhile.
    let peer = peer.map_err(|_| ConnectionError::Reset)?;
    let peer = peer.as_socket().ok_or(ConnectionError::Broken)?;
    Ok(Dialed {
        socket,
        peer: Address::Ip(peer),
        permit,
    })
}

/// Takes a permit for an outgoing connection. A kept one that nobody uses gives
/// way.
///
/// # Errors
/// Fails if `--max-outgoing` connections exist already, and the worker keeps none.
pub fn permit(worker: &Worker) -> Result<Permit, ConnectionError> {
    match worker.env().try_outgoing_permit() {
        Err(_) if worker.kept.close_oldest() => worker.env().try_outgoing_permit(),
        taken => taken,
    }
}

/// Connects a socket that a guest has created, and perhaps bound.
///
/// # Errors
/// Fails as connect(2) does.
pub async fn dial_from(permit: Permit, socket: Socket, remote: SocketAddr) -> io::Result<Dialed> {
    Ok(Dialed {
        socket: connect_socket(socket, &remote.into()).await?,
        peer: Address::Ip(remote),
        permit,
    })
}

pub(super) async fn connect_address(
    remote: SocketAddr,
    local: Option<IpAddr>,
    options: TcpOptions,
) -> io::Result<Watched> {
    let stream = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(remote), stream, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    tcp::set(&socket, &options)?;
    if let Some(local) = local {
        if remote.is_ipv4() != local.is_ipv4() {
            return Err(Errno::ADDRNOTAVAIL.into());
        }
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    connect_socket(socket, &remote.into()).await
}

/// Connects a non-blocking socket, and has the runtime watch it. Within a machine
/// that takes no wait: the other side is there, or not.
///
/// # Errors
/// Fails as connect(2) does, at once or later.
async fn connect_socket(socket: Socket, remote: &SockAddr) -> io::Result<Watched> {
    match socket
        .connect(remote)
        .map_err(|error| (Errno::from_io_error(&error), error))
    {
        Ok(()) => return Watched::stream(socket.into()),
        Err((Some(Errno::INPROGRESS | Errno::INTR), _)) => {}
        Err((_, error)) => return Err(error),
    }
    let socket = Watched::stream(socket.into())?;
    // Writable means connected or failed.
    if !is_writable(&socket) {
        let _ = socket.writable().await?;
    }
    rustix::net::sockopt::socket_error(socket.fd())??;
    Ok(socket)
}

fn is_writable(socket: &Watched) -> bool {
    let mut watched = [PollFd::new(socket, PollFlags::OUT)];
    let polled = rustix::event::poll(&mut watched, Some(&Timespec::default()));
    matches!(polled, Ok(1..))
}
