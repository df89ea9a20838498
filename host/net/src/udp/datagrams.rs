//! A datagram socket as a guest holds it.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use netwasm_base::error::ConnectionError;
use tokio::sync::Notify;

use crate::io::Watched;
use crate::options::{self, SocketOption};
use crate::udp::burst::{LONGEST_V4, LONGEST_V6, Outgoing};

/// Minimum of peers that an endpoint remembers, and may send to.
const KNOWN_PEERS: usize = 16 << 10;

/// A datagram socket as a guest holds it.
#[derive(Debug)]
pub struct Datagrams {
    pub(super) local: SocketAddr,
    /// The socket that the guest opened; `None` for the socket of a listener.
    opened: Option<Handle>,
    pub(super) outgoing: RefCell<Outgoing>,
    pub(super) ending: Cell<Option<Closing>>,
    /// Peer of the datagram being handled, and the local address that it was
    /// sent to.
    pub(super) handled: Cell<Option<(SocketAddr, Option<IpAddr>)>>,
    pub(super) known: RefCell<KnownPeers>,
    pub(super) wake: Notify,
}

/// A socket that a guest opened.
#[derive(Debug)]
pub(super) struct Handle {
    /// The peer of a connected socket.
    pub(super) peer: Option<SocketAddr>,
    pub(super) socket: Rc<Watched>,
}

/// Peers that have sent something lately. A guest may answer them; any other
/// address must be allowed.
#[derive(Debug, Default)]
pub(super) struct KnownPeers {
    recent: HashSet<SocketAddr>,
    /// Earlier peers, forgotten when `recent` is full again.
    older: HashSet<SocketAddr>,
}

impl KnownPeers {
    pub(super) fn note(&mut self, peer: SocketAddr) {
        if self.recent.len() >= KNOWN_PEERS {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(peer);
    }

    pub(super) fn contains(&self, peer: &SocketAddr) -> bool {
        self.recent.contains(peer) || self.older.contains(peer)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    AfterFlush,
    Now,
}

impl Datagrams {
    pub(crate) fn new(local: SocketAddr) -> Rc<Self> {
        Self::of(local, None)
    }

    pub(super) fn of(local: SocketAddr, opened: Option<Handle>) -> Rc<Self> {
        Rc::new(Self {
            local,
            opened,
            outgoing: RefCell::default(),
            ending: Cell::new(None),
            handled: Cell::new(None),
            known: RefCell::default(),
            wake: Notify::new(),
        })
    }

    /// Returns the local address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Returns the peer of a connected socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.opened.as_ref()?.peer
    }

    /// Sets an option of the socket.
    ///
    /// # Errors
    /// - `InvalidArgument`: the value is out of range.
    /// - `InvalidState`: the endpoint is closing.
    /// - `NotSupported`: datagram sockets have no such option, or the socket is
    ///   that of a listener.
    pub fn set_option(&self, option: SocketOption) -> Result<(), ConnectionError> {
        if self.is_closing() {
            return Err(ConnectionError::InvalidState);
        }
        match &self.opened {
            Some(opened) => options::set(opened.socket.fd(), option),
            None => Err(ConnectionError::NotSupported),
        }
    }

    /// True if the address has sent something to this endpoint lately.
    pub fn knows(&self, peer: SocketAddr) -> bool {
        self.handled
            .get()
            .is_some_and(|(handled, _)| handled == peer)
            || self.known.borrow().contains(&peer)
    }

    /// Queues a datagram, to be sent at the end of the burst.
    pub fn send_to(&self, data: &[u8], to: SocketAddr) -> Result<(), ConnectionError> {
        if self.ending.get().is_some() || self.peer().is_some_and(|peer| peer != to) {
            return Err(ConnectionError::InvalidState);
        }
        let longest = if to.is_ipv4() { LONGEST_V4 } else { LONGEST_V6 };
        if data.len() > longest || to.is_ipv4() != self.local.is_ipv4() || to.port() == 0 {
            return Err(ConnectionError::InvalidArgument);
        }
        let handled = self.handled.get();
        // An answer is sent from the address that was asked.
        let from = handled
            .filter(|(peer, _)| *peer == to)
            .and_then(|(_, local)| local);
        self.outgoing.borrow_mut().push(data, to, from);
        if handled.is_none() {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Closes the endpoint once its queue is sent.
    pub fn close(&self) {
        if self.ending.get().is_none() {
            self.ending.set(Some(Closing::AfterFlush));
            self.wake.notify_one();
        }
    }

    /// Closes the endpoint at once.
    pub fn abort(&self) {
        self.ending.set(Some(Closing::Now));
        self.wake.notify_one();
    }

    /// True if the endpoint is closing or closed.
    pub fn is_closing(&self) -> bool {
        self.ending.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn only_peers_that_sent_something_are_known_and_old_ones_are_forgotten() {
        let mut known = KnownPeers::default();
        known.note(peer(1));
        assert!(known.contains(&peer(1)) && !known.contains(&peer(2)));
        let other = |number: usize| SocketAddr::from(([10, 0, 0, 1], 1000 + number as u16));
        for number in 0..2 * KNOWN_PEERS {
            known.note(other(number));
        }
        assert!(known.contains(&other(2 * KNOWN_PEERS - 1)));
        assert!(!known.contains(&peer(1)));
        assert!(known.recent.len() + known.older.len() <= 2 * KNOWN_PEERS);
    }
}
