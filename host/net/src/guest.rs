//! Event-driven guests, as the drivers of connections and of datagram sockets
//! see them.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use netwasm_base::error::ConnectionError;

use crate::stream::Stream;
use crate::tls::SessionInfo;
use crate::transport::Transport;
use crate::udp::Datagrams;

/// The guest trapped or exited. The reason is already in the log.
#[derive(Clone, Copy, Debug)]
pub struct Gone;

/// Reason why no guest is available for a connection or a request, in one line.
#[derive(Clone, Debug)]
pub struct NoGuest(pub String);

impl fmt::Display for NoGuest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Receives the events of byte-stream connections, in the order `made -> data*
/// -> eof? -> lost`. `writable` and `tls_started` come in between.
///
/// Each call may fail with [`Gone`]. No call follows it.
pub trait EventGuest: fmt::Debug + 'static {
    /// The guest's handle of a connection.
    type Connection: Copy + fmt::Debug + Unpin + 'static;

    /// Announces a new connection.
    fn connection_made(&self, transport: &Rc<Transport>) -> Result<Self::Connection, Gone>;

    /// Delivers received bytes; never empty.
    fn data_received(&self, connection: Self::Connection, data: &[u8]) -> Result<(), Gone>;

    /// Announces the end of the peer's stream. Returns true if the connection
    /// is to stay open for sending.
    fn eof_received(&self, connection: Self::Connection) -> Result<bool, Gone>;

    /// Announces that there is room for more, as promised by
    /// [`Transport::room`] or requested by [`Transport::want_write`].
    fn writable(&self, connection: Self::Connection) -> Result<(), Gone>;

    /// Announces the end of the handshake that [`Transport::start_tls`] began.
    fn tls_started(&self, connection: Self::Connection, info: SessionInfo) -> Result<(), Gone>;

    /// Announces the end of the connection. `reason` is `None` after an orderly
    /// close.
    fn connection_lost(
        &self,
        connection: Self::Connection,
        reason: Option<&ConnectionError>,
    ) -> Result<(), Gone>;

    /// True if the guest takes no more calls.
    fn is_dead(&self) -> bool;

    /// True if it exited with success, so that what it wrote is complete.
    fn has_exited(&self) -> bool;
}

/// Receives the events of datagram sockets. Each call may fail with [`Gone`].
/// No call follows it.
pub trait DatagramGuest: 'static {
    /// The guest's handle of a socket.
    type Endpoint: Copy + 'static;

    /// Announces a new socket.
    fn endpoint_made(&self, datagrams: &Rc<Datagrams>) -> Result<Self::Endpoint, Gone>;

    /// Delivers a datagram, which may be empty.
    fn datagram_received(
        &self,
        endpoint: Self::Endpoint,
        data: &[u8],
        peer: SocketAddr,
    ) -> Result<(), Gone>;

    /// Announces that an earlier datagram was not delivered. `peer` is its
    /// destination, if known.
    fn error_received(
        &self,
        endpoint: Self::Endpoint,
        error: &ConnectionError,
        peer: Option<SocketAddr>,
    ) -> Result<(), Gone>;

    /// Announces that the socket is closed.
    fn endpoint_lost(&self, endpoint: Self::Endpoint) -> Result<(), Gone>;

    /// True if the guest takes no more calls.
    fn is_dead(&self) -> bool;
}

/// The guests of a worker. Implementations decide which connections share one.
pub trait Guests<G> {
    /// Returns the guest for a new connection or a new socket.
    ///
    /// # Errors
    /// Fails if none can be made.
    fn guest(&self) -> Result<Rc<G>, NoGuest>;
}

/// Guests that take a connection as streams.
pub trait StreamGuests {
    /// Begins the guest's call for a connection.
    fn serve(&self, transport: &Rc<Transport>) -> Rc<Stream>;
}
