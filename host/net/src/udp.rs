//! Datagram sockets. Bursts are received by recvmmsg(2), and sent by
//! segmentation offload (UDP_SEGMENT, udp(7)) if several datagrams of one size
//! go to one peer.

mod burst;
mod datagrams;
mod errors;
mod opened;
mod received;

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;

use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use tokio::io::Interest;

use crate::guest::{DatagramGuest, Gone, Guests};
use crate::io::{Ready, Watched};
use crate::service::{DatagramService, Serving};
use crate::thread::Thread;
use crate::turns::Turn;

use self::datagrams::Closing;
pub use self::datagrams::Datagrams;
use self::errors::{allow_fragments, next_error};
pub use self::opened::{Opened, Sender};
use self::received::{ReceivedBurst, are_few};

/// Size of one receive buffer, in bytes: for a datagram, or for several that
/// the kernel joined (UDP_GRO).
const BUFFER: usize = 64 << 10;

/// Number of receive buffers of a socket that a guest opened. There may be many
/// of these, and mostly each has few datagrams.
const FEW_BUFFERS: usize = 2;

/// Hands the datagrams of a socket to guests.
pub struct DatagramsToGuests<G> {
    guests: Rc<dyn Guests<G>>,
}

impl<G> DatagramsToGuests<G> {
    /// Hands datagrams to the guests of a worker.
    pub fn new(guests: Rc<dyn Guests<G>>) -> Self {
        Self { guests }
    }
}

impl<G: DatagramGuest> DatagramService for DatagramsToGuests<G> {
    fn serve(&self, thread: &Rc<Thread>, socket: UdpSocket, turn: &Rc<Turn>) -> Serving {
        let (thread, guests, turn) = (Rc::clone(thread), Rc::clone(&self.guests), Rc::clone(turn));
        Box::pin(async move {
            let local = socket.local_addr()?;
            let socket = watched(socket)?;
            let mut server =
                UdpServer::new(thread, SocketOrigin::Guests(guests), socket, local, turn)?;
            server.serve().await
        })
    }
}

/// Registers a socket.
fn watched(socket: UdpSocket) -> io::Result<Rc<Watched>> {
    let interest = Interest::READABLE | Interest::WRITABLE | Interest::ERROR;
    Watched::new(socket.into(), interest).map(Rc::new)
}

/// The task of one socket.
struct UdpServer<G: DatagramGuest> {
    thread: Rc<Thread>,
    source: SocketOrigin<G>,
    socket: Rc<Watched>,
    state: UdpSocketState,
    local: SocketAddr,
    endpoint: Option<OpenEndpoint<G>>,
    buffers: Vec<u8>,
    /// Datagrams received and not yet handed to the guest.
    burst: ReceivedBurst,
    turn: Rc<Turn>,
}

/// Origin of a socket.
enum SocketOrigin<G> {
    /// A listener. These guests get its datagrams, one after the other.
    Guests(Rc<dyn Guests<G>>),
    /// A guest, which takes datagrams of these senders.
    Opened(Sender),
}

impl<G> SocketOrigin<G> {
    /// Returns the number of receive buffers, which is that of datagrams, or
    /// joined ones, in a burst.
    fn buffers(&self) -> usize {
        match self {
            Self::Guests(_) => BATCH_SIZE,
            Self::Opened(_) => FEW_BUFFERS.min(BATCH_SIZE),
        }
    }
}

/// The guest's side of a socket.
struct OpenEndpoint<G: DatagramGuest> {
    guest: Rc<G>,
    resource: G::Endpoint,
    datagrams: Rc<Datagrams>,
}

impl<G: DatagramGuest> UdpServer<G> {
    fn new(
        thread: Rc<Thread>,
        source: SocketOrigin<G>,
        socket: Rc<Watched>,
        local: SocketAddr,
        turn: Rc<Turn>,
    ) -> io::Result<Self> {
        let state = UdpSocketState::new(socket.fd().into())?;
        state.enable_transport_errors(socket.fd().into())?;
        allow_fragments(socket.fd(), local)?;
        Ok(Self {
            thread,
            socket,
            state,
            local,
            endpoint: None,
            buffers: vec![0; source.buffers() * BUFFER],
            burst: ReceivedBurst::default(),
            source,
            turn,
        })
    }

    /// Runs until the run is ending, or the socket of a guest is closed.
    ///
    /// # Errors
    /// Fails if the socket cannot be watched.
    async fn serve(&mut self) -> io::Result<()> {
        // A guest needs its own sockets for the connections that go on.
        let opened = matches!(self.source, SocketOrigin::Opened(_));
        let thread = Rc::clone(&self.thread);
        let drained = async move {
            match opened {
                true => std::future::pending().await,
                false => thread.drained().await,
            }
        };
        let result = tokio::select! {
            () = drained => Ok(()),
            result = self.run() => result,
        };
        // Datagrams that have arrived are handled while there is time.
        self.deliver_burst();
        self.end_sending();
        result
    }

    /// True if no datagram has anybody to go to any more.
    fn is_over(&self) -> bool {
        matches!(self.source, SocketOrigin::Opened(_))
            && (self.endpoint.as_ref()).is_none_or(|endpoint| endpoint.guest.is_dead())
    }

    async fn run(&mut self) -> io::Result<()> {
        let turn = Rc::clone(&self.turn);
        loop {
            self.flush().await;
            if self.is_over() {
                return Ok(());
            }
            if !self.burst.is_empty() {
                turn.pause(0).await;
                self.deliver_burst();
                continue;
            }
            let wake = async {
                match &self.endpoint {
                    Some(endpoint) => endpoint.datagrams.wake.notified().await,
                    None => std::future::pending().await,
                }
            };
            let socket = Rc::clone(&self.socket);
            let guard = tokio::select! {
                biased;
                ready = socket.ready(Interest::READABLE | Interest::ERROR) => match ready {
                    Ok(guard) => guard,
                    Err(error) => return Err(error),
                },
                () = wake => continue,
            };
            let more = self.receive(guard);
            self.deliver_burst();
            if more && self.burst.is_empty() {
                // Peers that never stop must not monopolize the worker.
                self.flush().await;
                turn.pause(0).await;
            }
        }
    }

    /// Receives a burst. Returns true if there may be more.
    fn receive(&mut self, mut guard: Ready<'_>) -> bool {
        let most = self.source.buffers();
        let metas = &mut self.burst.metas;
        let mut slices = self.buffers.chunks_mut(BUFFER).map(IoSliceMut::new);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        let mut short = 0;
        let reports = guard.is_error();
        let result = guard.try_io(|socket| {
            let (slices, metas) = (slices.get_mut(..most), metas.get_mut(..most));
            let (slices, metas) = (slices.unwrap_or_default(), metas.unwrap_or_default());
            let count = self.state.recv(socket.into(), slices, metas)?;
            if count < most {
                // There is no more. Treating that as EAGAIN saves the call that
                // would only say so.
                short = count;
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count)
        });
        let count = match result {
            Ok(Ok(count)) => count,
            Err(_would_block) => short,
            // The error concerns an earlier datagram.
            Ok(Err(_)) => 0,
        };
        if count == 0 || reports {
            self.report_errors();
        }
        self.burst = ReceivedBurst {
            metas: self.burst.metas,
            count,
            few_peers: are_few(self.burst.metas.iter().take(count).map(|meta| meta.addr)),
            ..ReceivedBurst::default()
        };
        count == most
    }

    /// Hands datagrams to the guest until others have their turn. Returns true
    /// if some are left.
    ///
    /// Sending all answers to a burst together costs least. But one or two peers
    /// that wait for answers would do nothing while the host works, and the host
    /// nothing while they do. So these get answers after one datagram, then after
    /// two more, four more, and so on.
    fn deliver_burst(&mut self) -> bool {
        let buffers = std::mem::take(&mut self.buffers);
        let (mut delivered, mut next_send) = (0_usize, 1);
        while let Some((meta, datagram)) = self.burst.next() {
            let data = buffers.get(datagram).unwrap_or_default();
            self.deliver(data, &meta);
            delivered += 1;
            if delivered == next_send && self.burst.few_peers && !self.burst.is_empty() {
                self.send_queued();
                next_send = 2 * delivered + 1;
            }
            if self.turn.is_over(data.len()) {
                break;
            }
        }
        self.buffers = buffers;
        !self.burst.is_empty()
    }

    /// Sends what the kernel takes at once. [`Self::flush`] sends the rest.
    fn send_queued(&mut self) {
        let open = self.endpoint.as_ref();
        let open = open.filter(|endpoint| !endpoint.datagrams.is_closing());
        for (error, peer) in open.map(|it| self.try_send(it)).unwrap_or_default() {
            self.error(&error, Some(peer));
        }
    }

    /// Tries once to send an endpoint's queue. Returns the errors of single
    /// datagrams.
    fn try_send(&self, endpoint: &OpenEndpoint<G>) -> Vec<(ConnectionError, SocketAddr)> {
        let mut errors = Vec::new();
        let (socket, state) = (self.socket.fd(), &self.state);
        let mut outgoing = endpoint.datagrams.outgoing.borrow_mut();
        let _ = outgoing.send(socket, state, &self.turn, &mut errors);
        let sent = std::mem::take(&mut outgoing.sent);
        self.thread.meter.add_bytes(Measure::Sent, sent);
        errors
    }

    fn deliver(&mut self, data: &[u8], meta: &RecvMeta) {
        self.thread.meter.add_bytes(Measure::Received, data.len());
        if let SocketOrigin::Opened(sender) = &self.source
            && !sender.may_send(meta.addr)
        {
            // Nobody asked this peer. A warning would log whatever anybody sends.
            tracing::debug!(peer = %meta.addr, "a datagram from a stranger is dropped");
            return;
        }
        if matches!(self.source, SocketOrigin::Guests(_))
            && !self.thread.env.clients.allow(meta.addr.ip())
        {
            self.thread.env.counters.clients_refused.add();
            tracing::debug!(peer = %meta.addr, "a datagram is dropped (--allow-from, --deny-from)");
            return;
        }
        let unspecified = self.local.ip().is_unspecified();
        let ours = meta.dst_ip.filter(|_| unspecified);
        self.thread.env.counters.datagrams_received.add();
        self.event(Some((meta.addr, ours)), |endpoint| {
            endpoint
                .guest
                .datagram_received(endpoint.resource, data, meta.addr)
        });
    }

    /// Calls the guest, first making an endpoint if there is none. Ends the
    /// endpoint if the guest traps.
    fn event(
        &mut self,
        handled: Option<(SocketAddr, Option<IpAddr>)>,
        call: impl FnOnce(&OpenEndpoint<G>) -> Result<(), Gone>,
    ) {
        match &self.endpoint {
            Some(endpoint) if endpoint.guest.is_dead() => self.endpoint = None,
            // The guest closed it while handling this burst.
            Some(endpoint) if endpoint.datagrams.is_closing() => self.end_sending(),
            _ => {}
        }
        if self.endpoint.is_none() {
            self.endpoint = self.make_endpoint();
        }
        let Some(endpoint) = &self.endpoint else {
            return;
        };
        endpoint.datagrams.handled.set(handled);
        if let Some((peer, _)) = handled {
            endpoint.datagrams.known.borrow_mut().note(peer);
        }
        let result = call(endpoint);
        endpoint.datagrams.handled.set(None);
        if result.is_err() {
            self.endpoint = None;
        }
    }

    fn make_endpoint(&self) -> Option<OpenEndpoint<G>> {
        let SocketOrigin::Guests(guests) = &self.source else {
            return None;
        };
        let guest = match guests.guest() {
            Ok(guest) => guest,
            Err(error) => {
                self.thread.env.counters.instances_failed.add();
                tracing::error!(%error, "no instance for datagrams");
                return None;
            }
        };
        let datagrams = Datagrams::new(self.local);
        let resource = guest.endpoint_made(&datagrams).ok()?;
        Some(OpenEndpoint {
            guest,
            resource,
            datagrams,
        })
    }

    /// Reports the errors of earlier datagrams to the guest.
    fn report_errors(&mut self) {
        while let Some((error, peer)) = next_error(self.socket.fd()) {
            self.error(&error, peer);
        }
    }

    fn error(&mut self, error: &ConnectionError, peer: Option<SocketAddr>) {
        tracing::debug!(local = %self.local, ?peer, %error, "a datagram was not delivered");
        self.event(None, |endpoint| {
            endpoint
                .guest
                .error_received(endpoint.resource, error, peer)
        });
    }

    /// Sends what the guest has queued, and ends the endpoint if the guest
    /// asked for that.
    async fn flush(&mut self) {
        let mut errors = Vec::new();
        let Some(endpoint) = &self.endpoint else {
            return;
        };
        let datagrams = Rc::clone(&endpoint.datagrams);
        if datagrams.ending.get() != Some(Closing::Now) {
            loop {
                let result = datagrams.outgoing.borrow_mut().send(
                    self.socket.fd(),
                    &self.state,
                    &self.turn,
                    &mut errors,
                );
                if result.is_ok() {
                    if datagrams.outgoing.borrow().bursts.is_empty() {
                        break;
                    }
                    self.turn.pause(0).await;
                    continue;
                }
                match self.socket.writable().await {
                    Ok(mut guard) => guard.clear(),
                    Err(_) => break,
                }
            }
        }
        let mut outgoing = datagrams.outgoing.borrow_mut();
        let sent = std::mem::take(&mut outgoing.sent);
        let dropped = std::mem::take(&mut outgoing.dropped);
        drop(outgoing);
        self.thread.meter.add_bytes(Measure::Sent, sent);
        if dropped > 0 {
            tracing::warn!(local = %self.local, dropped, "datagrams were dropped: the kernel takes no more");
        }
        for (error, peer) in errors {
            self.error(&error, Some(peer));
        }
        if datagrams.is_closing() {
            self.end();
        }
    }

    /// Ends an endpoint in the middle of a burst, after one attempt to send its
    /// queue.
    fn end_sending(&mut self) {
        if let Some(endpoint) = &self.endpoint
            && endpoint.datagrams.ending.get() == Some(Closing::AfterFlush)
        {
            // Datagrams that find no room are lost, as UDP permits.
            let _ = self.try_send(endpoint);
        }
        self.end();
    }

    /// Ends the endpoint (`connection-lost`).
    fn end(&mut self) {
        if let Some(endpoint) = self.endpoint.take() {
            let _ = endpoint.guest.endpoint_lost(endpoint.resource);
        }
    }
}
