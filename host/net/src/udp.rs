//! Datagram sockets: bursts in by recvmmsg(2), bursts out by segmentation
//! offload (UDP_SEGMENT, udp(7)) where several datagrams of one size go to one
//! peer.

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, sockopt};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::sync::Notify;

use netwasm_base::error::ConnectionError;

use crate::guest::{DatagramGuest, Gone, Guests};
use crate::io::{Ready, Watched};
use crate::service::{DatagramService, Serving};
use crate::thread::Thread;
use crate::turns::Turn;

/// The longest datagram, bytes: what the length fields of UDP and IPv4 leave.
const LONGEST_V4: usize = 65_507;
/// The same for IPv6, whose length does not count its own header.
const LONGEST_V6: usize = 65_527;

/// What one receive may bring, bytes: a datagram, or several that the kernel
/// joined (UDP_GRO).
const BUFFER: usize = 64 << 10;

/// Only datagrams up to this size, bytes, are sent as segments: every link
/// carries them whole (RFC 8200, section 5: 1,280 with headers).
const SEGMENT: usize = 1232;

/// How many of the last peers are looked at for a burst to join.
const OPEN_BURSTS: usize = 16;

/// How many peers an endpoint remembers at least: those it may send to.
const KNOWN_PEERS: usize = 16 << 10;

/// How much may wait for the kernel, bytes; beyond it datagrams are dropped.
const MOST_QUEUED: usize = 4 << 20;

/// A datagram socket as a guest holds it.
#[derive(Debug)]
pub struct Datagrams {
    local: SocketAddr,
    outgoing: RefCell<Outgoing>,
    ending: Cell<Option<Closing>>,
    /// The datagram being handled: from whom, and to which of our addresses.
    handled: Cell<Option<(SocketAddr, Option<IpAddr>)>>,
    known: RefCell<KnownPeers>,
    wake: Notify,
}

/// The peers that have sent something lately. A guest may answer them; any
/// other address has to be allowed.
#[derive(Debug, Default)]
struct KnownPeers {
    recent: HashSet<SocketAddr>,
    /// Those before, forgotten when `recent` is full again.
    older: HashSet<SocketAddr>,
}

impl KnownPeers {
    fn note(&mut self, peer: SocketAddr) {
        if self.recent.len() >= KNOWN_PEERS {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(peer);
    }

    fn contains(&self, peer: &SocketAddr) -> bool {
        self.recent.contains(peer) || self.older.contains(peer)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    AfterFlush,
    Now,
}

impl Datagrams {
    pub(crate) fn new(local: SocketAddr) -> Rc<Self> {
        Rc::new(Self {
            local,
            outgoing: RefCell::default(),
            ending: Cell::new(None),
            handled: Cell::new(None),
            known: RefCell::default(),
            wake: Notify::new(),
        })
    }

    /// The address of this end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether the address has sent something to this endpoint lately.
    pub fn knows(&self, peer: SocketAddr) -> bool {
        self.handled
            .get()
            .is_some_and(|(handled, _)| handled == peer)
            || self.known.borrow().contains(&peer)
    }

    /// Queues a datagram for the end of the burst.
    pub fn send_to(&self, data: &[u8], to: SocketAddr) -> Result<(), ConnectionError> {
        if self.ending.get().is_some() {
            return Err(ConnectionError::InvalidState);
        }
        let longest = if to.is_ipv4() { LONGEST_V4 } else { LONGEST_V6 };
        if data.len() > longest || to.is_ipv4() != self.local.is_ipv4() || to.port() == 0 {
            return Err(ConnectionError::InvalidArgument);
        }
        let handled = self.handled.get();
        // An answer leaves from the address that was asked.
        let from = handled
            .filter(|(peer, _)| *peer == to)
            .and_then(|(_, local)| local);
        self.outgoing.borrow_mut().push(data, to, from);
        if handled.is_none() {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Ends it after what is queued.
    pub fn close(&self) {
        if self.ending.get().is_none() {
            self.ending.set(Some(Closing::AfterFlush));
            self.wake.notify_one();
        }
    }

    /// Ends it at once.
    pub fn abort(&self) {
        self.ending.set(Some(Closing::Now));
        self.wake.notify_one();
    }

    /// Whether it ends, or has ended.
    pub fn is_closing(&self) -> bool {
        self.ending.get().is_some()
    }
}

/// What is to be sent, in the order in which it was given for each peer.
#[derive(Debug, Default)]
pub struct Outgoing {
    bursts: VecDeque<Burst>,
    queued: usize,
    dropped: u64,
    /// A buffer to use again.
    spare: Vec<u8>,
}

/// Datagrams to one peer, all of one size but the last, which may be shorter.
#[derive(Debug)]
struct Burst {
    to: SocketAddr,
    from: Option<IpAddr>,
    size: usize,
    count: usize,
    data: Vec<u8>,
    /// Datagrams that the kernel has taken already, one by one.
    sent: usize,
}

impl Burst {
    fn takes(&self, data: &[u8], from: Option<IpAddr>) -> bool {
        self.from == from
            && (1..=self.size.min(SEGMENT)).contains(&data.len())
            && self.size <= SEGMENT
            && self.data.len() == self.size * self.count
            && self.count < 64
            && self.data.len() + data.len() <= LONGEST_V4
    }
}

impl Outgoing {
    fn push(&mut self, data: &[u8], to: SocketAddr, from: Option<IpAddr>) {
        // An empty datagram takes room as well.
        let size = data.len() + size_of::<Burst>();
        if self.queued + size > MOST_QUEUED {
            self.dropped += 1;
            return;
        }
        let last = self
            .bursts
            .iter_mut()
            .rev()
            .take(OPEN_BURSTS)
            .find(|burst| burst.to == to);
        if let Some(burst) = last
            && burst.takes(data, from)
        {
            burst.data.extend_from_slice(data);
            burst.count += 1;
            self.queued += data.len();
            return;
        }
        self.queued += size;
        let mut buffer = std::mem::take(&mut self.spare);
        buffer.clear();
        buffer.extend_from_slice(data);
        self.bursts.push_back(Burst {
            to,
            from,
            size: data.len(),
            count: 1,
            data: buffer,
            sent: 0,
        });
    }

    /// Sends what the kernel takes, until others have their turn.
    ///
    /// # Errors
    /// `WouldBlock` where it takes no more at present. What else goes wrong
    /// with a burst is that burst's, and is added to `errors`.
    fn send(
        &mut self,
        socket: &OwnedFd,
        state: &UdpSocketState,
        turn: &Turn,
        errors: &mut Vec<(ConnectionError, SocketAddr)>,
    ) -> io::Result<()> {
        while let Some(burst) = self.bursts.front_mut() {
            let size = burst.data.len() + size_of::<Burst>();
            match burst.send(socket, state) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Ok(()) => {}
                Err(error) => errors.push((error.into(), burst.to)),
            }
            if let Some(burst) = self.bursts.pop_front() {
                self.queued = self.queued.saturating_sub(size);
                self.spare = burst.data;
            }
            if turn.is_over(size) {
                break;
            }
        }
        if self.spare.capacity() > LONGEST_V6 {
            self.spare = Vec::new();
        }
        Ok(())
    }
}

impl Burst {
    /// Sends what is left of it: as segments of one call where that is
    /// possible, or one by one.
    fn send(&mut self, socket: &OwnedFd, state: &UdpSocketState) -> io::Result<()> {
        if (2..=state.max_gso_segments()).contains(&(self.count - self.sent)) {
            match self.transmit(socket, state, self.left(), Some(self.size)) {
                // The device cannot: one by one, then.
                Err(error)
                    if matches!(
                        Errno::from_io_error(&error),
                        Some(Errno::IO | Errno::INVAL | Errno::MSGSIZE)
                    ) => {}
                result => return result,
            }
        }
        while self.sent < self.count {
            let left = self.left();
            let datagram = left.get(..self.size).unwrap_or(left);
            self.transmit(socket, state, datagram, None)?;
            self.sent += 1;
        }
        Ok(())
    }

    /// The datagrams that are yet to be sent.
    fn left(&self) -> &[u8] {
        self.data.get(self.sent * self.size..).unwrap_or_default()
    }

    fn transmit(
        &self,
        socket: &OwnedFd,
        state: &UdpSocketState,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.to,
            ecn: None,
            contents,
            segment_size,
            src_ip: self.from,
        };
        match state.try_send(socket.into(), &transmit) {
            // Perhaps the error of an earlier datagram, by ICMP, which the
            // error queue tells too; this one was not sent. Its own error
            // comes again.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                state.try_send(socket.into(), &transmit)
            }
            result => result,
        }
    }
}

/// Hands the datagrams of a socket to guests.
pub struct DatagramsToGuests<G> {
    guests: Rc<dyn Guests<G>>,
}

impl<G> DatagramsToGuests<G> {
    /// To those of a worker.
    pub fn new(guests: Rc<dyn Guests<G>>) -> Self {
        Self { guests }
    }
}

impl<G: DatagramGuest> DatagramService for DatagramsToGuests<G> {
    fn serve(&self, thread: &Rc<Thread>, socket: UdpSocket, turn: &Rc<Turn>) -> Serving {
        let (thread, guests, turn) = (Rc::clone(thread), Rc::clone(&self.guests), Rc::clone(turn));
        Box::pin(async move {
            let drained = Rc::clone(&thread).drained();
            let mut server = Server::new(thread, guests, socket, turn)?;
            let result = tokio::select! {
                () = drained => Ok(()),
                error = server.run() => Err(error),
            };
            // What has come is handled while there is time.
            server.deliver_burst();
            server.end_sending();
            result
        })
    }
}

/// The task of one socket.
struct Server<G: DatagramGuest> {
    thread: Rc<Thread>,
    guests: Rc<dyn Guests<G>>,
    socket: Rc<Watched>,
    state: UdpSocketState,
    local: SocketAddr,
    endpoint: Option<OpenEndpoint<G>>,
    buffers: Vec<u8>,
    /// What was received there and has yet to be handed to the guest.
    burst: ReceivedBurst,
    turn: Rc<Turn>,
}

/// Datagrams that were received at once.
#[derive(Default)]
pub struct ReceivedBurst {
    metas: [RecvMeta; BATCH_SIZE],
    /// How many buffers were filled.
    count: usize,
    /// The next buffer, and how much of it was handed over, in bytes.
    next: usize,
    offset: usize,
}

impl ReceivedBurst {
    fn is_empty(&self) -> bool {
        self.next >= self.count
    }

    /// The next datagram: what is known of it, and where it is in the buffers.
    fn next(&mut self) -> Option<(RecvMeta, Range<usize>)> {
        if self.is_empty() {
            return None;
        }
        let meta = *self.metas.get(self.next)?;
        let begin = self.next * BUFFER;
        let end = self.offset.saturating_add(meta.stride.max(1)).min(meta.len);
        let datagram = begin + self.offset..begin + end;
        if end >= meta.len {
            self.next += 1;
            self.offset = 0;
        } else {
            self.offset = end;
        }
        Some((meta, datagram))
    }
}

/// The guest's side of it.
struct OpenEndpoint<G: DatagramGuest> {
    guest: Rc<G>,
    resource: G::Endpoint,
    datagrams: Rc<Datagrams>,
}

impl<G: DatagramGuest> Server<G> {
    fn new(
        thread: Rc<Thread>,
        guests: Rc<dyn Guests<G>>,
        socket: UdpSocket,
        turn: Rc<Turn>,
    ) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let state = UdpSocketState::new((&socket).into())?;
        state.enable_transport_errors((&socket).into())?;
        allow_fragments(&socket, local)?;
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::ERROR;
        Ok(Self {
            thread,
            guests,
            socket: Rc::new(Watched::new(socket.into(), interest)?),
            state,
            local,
            endpoint: None,
            buffers: vec![0; BATCH_SIZE * BUFFER],
            burst: ReceivedBurst::default(),
            turn,
        })
    }

    /// Runs until the socket cannot be watched.
    async fn run(&mut self) -> io::Error {
        let turn = Rc::clone(&self.turn);
        loop {
            self.flush().await;
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
                    Err(error) => return error,
                },
                () = wake => continue,
            };
            let more = self.receive(guard);
            self.deliver_burst();
            if more && self.burst.is_empty() {
                // Peers that never stop must not have the worker for themselves.
                self.flush().await;
                turn.pause(0).await;
            }
        }
    }

    /// Receives a burst. Returns true if there may be more.
    fn receive(&mut self, mut guard: Ready<'_>) -> bool {
        let metas = &mut self.burst.metas;
        let mut slices = self.buffers.chunks_mut(BUFFER).map(IoSliceMut::new);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        let mut short = 0;
        let reports = guard.is_error();
        let result = guard.try_io(|socket| {
            let count = self.state.recv(socket.into(), &mut slices, metas)?;
            if count < BATCH_SIZE {
                // There is no more: as good as EAGAIN, and saves the call
                // that would only say so.
                short = count;
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count)
        });
        let count = match result {
            Ok(Ok(count)) => count,
            Err(_would_block) => short,
            // The error of an earlier datagram.
            Ok(Err(_)) => 0,
        };
        if count == 0 || reports {
            self.report_errors();
        }
        self.burst = ReceivedBurst {
            metas: self.burst.metas,
            count,
            ..ReceivedBurst::default()
        };
        count == BATCH_SIZE
    }

    /// Hands datagrams to the guest until others have their turn. Returns true
    /// if some are left.
    fn deliver_burst(&mut self) -> bool {
        let buffers = std::mem::take(&mut self.buffers);
        while let Some((meta, datagram)) = self.burst.next() {
            let data = buffers.get(datagram).unwrap_or_default();
            self.deliver(data, &meta);
            if self.turn.is_over(data.len()) {
                break;
            }
        }
        self.buffers = buffers;
        !self.burst.is_empty()
    }

    fn deliver(&mut self, data: &[u8], meta: &RecvMeta) {
        let unspecified = self.local.ip().is_unspecified();
        let ours = meta.dst_ip.filter(|_| unspecified);
        self.thread.env.counters.datagrams_received.add();
        self.event(Some((meta.addr, ours)), |endpoint| {
            endpoint
                .guest
                .datagram_received(endpoint.resource, data, meta.addr)
        });
    }

    /// Calls the guest, with an endpoint made if there is none, and ends the
    /// endpoint if the guest traps.
    fn event(
        &mut self,
        handled: Option<(SocketAddr, Option<IpAddr>)>,
        call: impl FnOnce(&OpenEndpoint<G>) -> Result<(), Gone>,
    ) {
        match &self.endpoint {
            Some(endpoint) if endpoint.guest.is_dead() => self.endpoint = None,
            // The guest closed it while it handled this burst.
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
        let guest = match self.guests.guest() {
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

    /// Tells the guest what became of earlier datagrams.
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

    /// Sends what the guest has queued, and ends the endpoint if it asked for
    /// that.
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
        let dropped = std::mem::take(&mut datagrams.outgoing.borrow_mut().dropped);
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

    /// Ends an endpoint in the middle of a burst, with one try to send what it
    /// has queued.
    fn end_sending(&mut self) {
        if let Some(endpoint) = &self.endpoint
            && endpoint.datagrams.ending.get() == Some(Closing::AfterFlush)
        {
            let mut outgoing = endpoint.datagrams.outgoing.borrow_mut();
            // What finds no room is lost, as datagrams may be.
            let (socket, state) = (self.socket.fd(), &self.state);
            let _ = outgoing.send(socket, state, &self.turn, &mut Vec::new());
        }
        self.end();
    }

    /// `connection-lost`.
    fn end(&mut self) {
        if let Some(endpoint) = self.endpoint.take() {
            let _ = endpoint.guest.endpoint_lost(endpoint.resource);
        }
    }
}

/// Lets the kernel send a datagram that is longer than a packet in fragments.
/// quinn-udp, made for QUIC, forbids that.
fn allow_fragments(socket: &UdpSocket, local: SocketAddr) -> io::Result<()> {
    if local.is_ipv4() {
        let want = rustix::net::sockopt::Ipv4PathMtuDiscovery::WANT;
        rustix::net::sockopt::set_ip_mtu_discover(socket, want)?;
    } else {
        let want = rustix::net::sockopt::Ipv6PathMtuDiscovery::WANT;
        rustix::net::sockopt::set_ipv6_mtu_discover(socket, want)?;
        nix::sys::socket::setsockopt(socket, sockopt::Ipv6DontFrag, &false)?;
    }
    Ok(())
}

/// Takes the next entry of a socket's error queue: what went wrong, and with
/// which peer (IP_RECVERR, ip(7)).
fn next_error(socket: &OwnedFd) -> Option<(ConnectionError, Option<SocketAddr>)> {
    let mut payload = [0; 1];
    let mut slices = [IoSliceMut::new(&mut payload)];
    let mut space = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6, [u8; 128]);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = nix::sys::socket::recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        flags,
    )
    .ok()?;
    let peer = message.address.as_ref().and_then(|address| {
        let v4 = address
            .as_sockaddr_in()
            .map(|v4| SocketAddr::V4((*v4).into()));
        v4.or_else(|| {
            address
                .as_sockaddr_in6()
                .map(|v6| SocketAddr::V6((*v6).into()))
        })
    });
    let mut error = ConnectionError::Unreachable;
    for control in message.cmsgs().ok()? {
        if let ControlMessageOwned::Ipv4RecvErr(extended, _)
        | ControlMessageOwned::Ipv6RecvErr(extended, _) = control
            && let Ok(errno) = i32::try_from(extended.ee_errno)
        {
            error = Errno::from_raw_os_error(errno).into();
        }
    }
    Some((error, peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn bursts(outgoing: &Outgoing) -> Vec<(u16, usize, usize)> {
        outgoing
            .bursts
            .iter()
            .map(|burst| (burst.to.port(), burst.size, burst.count))
            .collect()
    }

    #[test]
    fn datagrams_of_one_size_to_one_peer_go_together() {
        let mut outgoing = Outgoing::default();
        for _ in 0..3 {
            outgoing.push(&[0; 64], peer(1), None);
            outgoing.push(&[0; 64], peer(2), None);
        }
        assert_eq!(bursts(&outgoing), [(1, 64, 3), (2, 64, 3)]);
    }

    #[test]
    fn a_shorter_one_ends_a_burst_and_a_longer_one_begins_another() {
        let mut outgoing = Outgoing::default();
        for size in [64, 10, 10, 64, 100] {
            outgoing.push(&vec![0; size], peer(1), None);
        }
        assert_eq!(
            bursts(&outgoing),
            [(1, 64, 2), (1, 10, 1), (1, 64, 1), (1, 100, 1)]
        );
    }

    #[test]
    fn empty_and_large_datagrams_go_alone() {
        let mut outgoing = Outgoing::default();
        for size in [0, 0, 2000, 2000, 64, 0] {
            outgoing.push(&vec![0; size], peer(1), None);
        }
        let counts: Vec<_> = outgoing.bursts.iter().map(|burst| burst.count).collect();
        assert_eq!(counts, [1, 1, 1, 1, 1, 1]);
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

    #[test]
    fn what_the_kernel_does_not_take_is_bounded() {
        let mut outgoing = Outgoing::default();
        for _ in 0..100 {
            outgoing.push(&[0; LONGEST_V4], peer(1), None);
        }
        assert!(outgoing.queued <= MOST_QUEUED);
        assert!(outgoing.dropped > 0);
        let sent = outgoing.bursts.len() as u64;
        assert_eq!(outgoing.dropped + sent, 100);
        for _ in 0..MOST_QUEUED {
            outgoing.push(&[], peer(1), None);
        }
        assert!(outgoing.queued <= MOST_QUEUED, "empty ones count as well");
    }
}
