//! Guests that events drive, as the drivers of connections and of datagram
//! sockets see them.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use netwasm_base::error::ConnectionError;

use crate::stream::Stream;
use crate::transport::Transport;
use crate::udp::Datagrams;

/// The guest is no more: it trapped, or exited. Why was logged.
#[derive(Clone, Copy, Debug)]
pub struct Gone;

/// Why there is no guest for a connection or a request, in one line.
#[derive(Clone, Debug)]
pub struct NoGuest(pub String);

impl fmt::Display for NoGuest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Gets the events of byte-stream connections, in the order
/// `made -> data* -> eof? -> lost`, with `pause_writing` and `resume_writing`
/// between, in pairs.
///
/// Each call may end by [`Gone`], after which none is made any more.
pub trait EventGuest: fmt::Debug + 'static {
    /// What the guest has made of a connection.
    type Connection: Copy + fmt::Debug + Unpin + 'static;

    /// A connection stands.
    fn connection_made(&self, transport: &Rc<Transport>) -> Result<Self::Connection, Gone>;

    /// Bytes have come; never none.
    fn data_received(&self, connection: Self::Connection, data: &[u8]) -> Result<(), Gone>;

    /// The peer has ended its stream. Whether the connection is to stay open for
    /// sending.
    fn eof_received(&self, connection: Self::Connection) -> Result<bool, Gone>;

    /// More is queued than the high watermark.
    fn pause_writing(&self, connection: Self::Connection) -> Result<(), Gone>;

    /// No more is queued than the low watermark.
    fn resume_writing(&self, connection: Self::Connection) -> Result<(), Gone>;

    /// The connection is over; for no reason where it was closed in order.
    fn connection_lost(
        &self,
        connection: Self::Connection,
        reason: Option<&ConnectionError>,
    ) -> Result<(), Gone>;

    /// Whether nothing can be asked of it any more.
    fn is_dead(&self) -> bool;

    /// Whether it exited with success: what it wrote is whole.
    fn has_exited(&self) -> bool;
}

/// Gets the events of datagram sockets. Each call may end by [`Gone`], after
/// which none is made any more.
pub trait DatagramGuest: 'static {
    /// What the guest has made of a socket.
    type Endpoint: Copy + 'static;

    /// A socket stands.
    fn endpoint_made(&self, datagrams: &Rc<Datagrams>) -> Result<Self::Endpoint, Gone>;

    /// A datagram has come; perhaps of no bytes.
    fn datagram_received(
        &self,
        endpoint: Self::Endpoint,
        data: &[u8],
        peer: SocketAddr,
    ) -> Result<(), Gone>;

    /// A datagram that was sent earlier was not delivered, to whom that is known.
    fn error_received(
        &self,
        endpoint: Self::Endpoint,
        error: &ConnectionError,
        peer: Option<SocketAddr>,
    ) -> Result<(), Gone>;

    /// The socket is closed.
    fn endpoint_lost(&self, endpoint: Self::Endpoint) -> Result<(), Gone>;

    /// Whether nothing can be asked of it any more.
    fn is_dead(&self) -> bool;
}

/// The guests of a worker: who shares one is decided here.
pub trait Guests<G> {
    /// The guest for a new connection, or a new socket.
    ///
    /// # Errors
    /// None can be made.
    fn guest(&self) -> Result<Rc<G>, NoGuest>;
}

/// Begins calls of guests that take a connection as streams.
pub trait StreamGuests {
    /// Begins the call for a connection.
    fn serve(&self, transport: &Rc<Transport>) -> Rc<Stream>;
}
