//! Datagram sockets that a guest opens.

use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;

use netwasm_base::error::ConnectionError;

use crate::datagram;
use crate::env::Env;
use crate::guest::DatagramGuest;
use crate::io::Watched;
use crate::permits::Permit;
use crate::thread::Thread;
use crate::turns::Turn;
use crate::udp::datagrams::Handle;
use crate::udp::{Datagrams, OpenEndpoint, SocketOrigin, UdpServer, watched};

/// Decides whose datagrams a socket takes.
pub struct Sender(Box<dyn Fn(SocketAddr) -> bool>);

impl Sender {
    /// Takes the datagrams of peers for which `allowed` is true.
    pub fn allowed(allowed: impl Fn(SocketAddr) -> bool + 'static) -> Self {
        Self(Box::new(allowed))
    }

    pub(super) fn may_send(&self, peer: SocketAddr) -> bool {
        (self.0)(peer)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// A socket that a guest opened, before it is driven.
#[derive(Debug)]
pub struct Opened {
    socket: Rc<Watched>,
    datagrams: Rc<Datagrams>,
    /// The socket counts against `--max-outgoing`.
    permit: Permit,
}

impl Opened {
    /// Binds a socket.
    ///
    /// # Errors
    /// Fails if the address cannot be bound, no descriptor is left, or
    /// `--max-outgoing` is reached.
    pub fn bind(env: &Env, local: SocketAddr) -> Result<Self, ConnectionError> {
        let permit = env.try_outgoing_permit()?;
        Self::new(datagram::bind(local)?.into(), None, permit)
    }

    /// Connects a socket to the first of `peers` to which there is a route.
    ///
    /// # Errors
    /// Fails with the reason of the last peer, or if `--max-outgoing` is
    /// reached.
    pub fn connect(env: &Env, peers: &[SocketAddr]) -> Result<Self, ConnectionError> {
        let permit = env.try_outgoing_permit()?;
        let (socket, peer) = datagram::connect(peers)?;
        Self::new(socket.into(), Some(peer), permit)
    }

    fn new(
        socket: UdpSocket,
        peer: Option<SocketAddr>,
        permit: Permit,
    ) -> Result<Self, ConnectionError> {
        let local = socket.local_addr()?;
        let socket = watched(socket)?;
        let handle = Handle {
            peer,
            socket: Rc::clone(&socket),
        };
        Ok(Self {
            socket,
            datagrams: Datagrams::of(local, Some(handle)),
            permit,
        })
    }

    /// Returns the socket as its guest holds it.
    pub fn datagrams(&self) -> &Rc<Datagrams> {
        &self.datagrams
    }

    /// Drives the socket until it is closed or the guest is gone. A connected
    /// socket takes only its peer's datagrams, whatever `sender` allows.
    pub async fn drive<G: DatagramGuest>(
        self,
        thread: Rc<Thread>,
        turn: Rc<Turn>,
        guest: Rc<G>,
        endpoint: G::Endpoint,
        sender: Sender,
    ) {
        let Self {
            socket,
            datagrams,
            permit: _permit,
        } = self;
        let sender = match datagrams.peer() {
            // The kernel keeps what came before it knew the peer.
            Some(peer) => Sender::allowed(move |other| other == peer),
            None => sender,
        };
        let local = datagrams.local();
        let open = OpenEndpoint {
            guest,
            resource: endpoint,
            datagrams,
        };
        let made = UdpServer::new(thread, SocketOrigin::Opened(sender), socket, local, turn);
        let served = match made {
            Ok(mut server) => {
                server.endpoint = Some(open);
                server.serve().await
            }
            Err(error) => {
                let _ = open.guest.endpoint_lost(open.resource);
                Err(error)
            }
        };
        if let Err(error) = served {
            tracing::warn!(%error, "a datagram socket of the guest cannot be driven");
        }
    }
}
