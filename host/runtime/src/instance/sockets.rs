//! The guest of datagram sockets that an instance opened.

use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use netwasm_base::error::ConnectionError;
use netwasm_net::guest::{DatagramGuest, Gone};
use netwasm_net::udp::Datagrams;

use super::{Instance, Numbered};

/// The guest of a datagram socket that it opened: an instance, which the socket
/// does not keep alive.
#[derive(Debug)]
pub(crate) struct OfInstance(pub(crate) Weak<Instance>);

impl OfInstance {
    fn instance(&self) -> Result<Rc<Instance>, Gone> {
        self.0.upgrade().ok_or(Gone)
    }
}

impl DatagramGuest for OfInstance {
    type Endpoint = Numbered;

    fn endpoint_made(&self, datagrams: &Rc<Datagrams>) -> Result<Self::Endpoint, Gone> {
        self.instance()?.endpoint_made(datagrams)
    }

    fn datagram_received(
        &self,
        endpoint: Self::Endpoint,
        data: &[u8],
        peer: SocketAddr,
    ) -> Result<(), Gone> {
        self.instance()?.datagram_received(endpoint, data, peer)
    }

    fn error_received(
        &self,
        endpoint: Self::Endpoint,
        error: &ConnectionError,
        peer: Option<SocketAddr>,
    ) -> Result<(), Gone> {
        self.instance()?.error_received(endpoint, error, peer)
    }

    fn endpoint_lost(&self, endpoint: Self::Endpoint) -> Result<(), Gone> {
        self.instance()?.endpoint_lost(endpoint)
    }

    fn is_dead(&self) -> bool {
        (self.0.upgrade()).is_none_or(|instance| DatagramGuest::is_dead(&*instance))
    }
}
