//! A byte-stream connection on the host's side: the socket, its TLS session and
//! the queue for the peer.
//!
//! Two parties work on a [`Transport`]: the task that drives it
//! (`connection.rs`), which polls, and the guest, whose calls never wait. Both
//! run on one thread, in turns, so a `RefCell` is all the locking needed. A
//! guest's call wakes the task if it leaves the task something to do.
//!
//! `protocol.rs` has the grammar of events. No policy is decided here.

mod core;
mod delivery;
mod describe;
mod drive;
mod leaving;
mod linger;
mod streams;

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use netwasm_base::address::Address;
use netwasm_base::config::ProxyProtocol;
use netwasm_base::error::ConnectionError;

use crate::files::File;
use crate::io::Watched;
use crate::options::{self, SocketOption};
use crate::parked::is_quiet;
use crate::permits::Permit;
use crate::protocol::Flow;
use crate::proxy::{self, Proxied};
use crate::queue::{FilePart, WriteQueue};
use crate::relay::Relay;
use crate::thread::{Thread, Tick};
use crate::tls::{Session, SessionInfo};
use crate::turns::Turn;

use self::core::{Core, GuestStreams};
use self::delivery::{Delivery, Leaving};

pub use self::delivery::{LOOK, Presence};
pub use self::describe::OpenConnection;
pub use self::linger::{HandshakeFailed, LINGER, LINGER_MOST, Linger};

/// Maximum of file parts queued for a connection. Each may hold a descriptor,
/// even after the guest has dropped its file.
const MOST_FILE_PARTS: usize = 64;

/// One byte-stream connection.
#[derive(Debug)]
pub struct Transport {
    thread: Rc<Thread>,
    peer: Address,
    /// Local address, once it was asked for.
    local: OnceCell<Box<Address>>,
    /// Facts that a proxy has told of the connection, if one is before it.
    proxied: OnceCell<Box<Proxied>>,
    /// Tick at which the connection was opened.
    opened: Tick,
    /// True while the driving task runs, and so need not be woken.
    driven: Cell<bool>,
    /// True while nothing is under way, so that the connection may be closed to
    /// make room for another.
    pub idle: Cell<bool>,
    /// True if the connection is being closed to make room for another.
    reclaimed: Cell<bool>,
    /// True if the connection ends with its next answer.
    leaves: Cell<bool>,
    /// True if the guest gave the connection back to its pool.
    given_back: Cell<bool>,
    /// Turns of the connection's tasks among those of the thread.
    pub turn: Rc<Turn>,
    /// The mutable state.
    pub core: RefCell<Core>,
}
impl Transport {
    /// Wraps a connected, non-blocking socket.
    ///
    /// # Errors
    /// Fails if the runtime cannot watch the socket.
    pub(crate) fn new(
        thread: &Rc<Thread>,
        socket: OwnedFd,
        peer: Address,
        permit: Option<Permit>,
    ) -> io::Result<Rc<Self>> {
        let socket = Watched::stream(socket)?;
        Ok(Self::watched(thread, socket, peer, permit))
    }

    /// Wraps a connected, non-blocking socket that the runtime watches for
    /// reading and writing.
    pub fn watched(
        thread: &Rc<Thread>,
        socket: Watched,
        peer: Address,
        permit: Option<Permit>,
    ) -> Rc<Self> {
        Rc::new(Self::with_socket(thread, Some(socket), peer, permit))
    }

    /// Returns a transport without a socket, which discards writes.
    pub fn unconnected(thread: &Rc<Thread>) -> Self {
        Self::with_socket(thread, None, Address::Unix(None), None)
    }

    fn with_socket(
        thread: &Rc<Thread>,
        socket: Option<Watched>,
        peer: Address,
        permit: Option<Permit>,
    ) -> Self {
        let limits = &thread.env.limits;
        let now = thread.now();
        let client = match &peer {
            Address::Ip(address) => Some(address.ip()),
            Address::Unix(_) => None,
        };
        Self {
            thread: Rc::clone(thread),
            peer,
            opened: now,
            driven: Cell::new(false),
            idle: Cell::new(false),
            reclaimed: Cell::new(false),
            leaves: Cell::new(false),
            given_back: Cell::new(false),
            local: OnceCell::new(),
            proxied: OnceCell::new(),
            turn: thread.turns.turn_of(client),
            core: RefCell::new(Core {
                socket,
                meter: Arc::clone(&thread.meter),
                flow: Flow::new(limits.write_high as u64, limits.write_low as u64),
                queue: WriteQueue::default(),
                tls: None,
                relay: None,
                fed_by: Weak::new(),
                wants_room: false,
                feeder_waits: false,
                waker: None,
                streams: GuestStreams::default(),
                touched: now,
                progressed: now,
                idle_timeout: None,
                delivery: Delivery::new(now),
                deadline: None,
                alarm: None,
                rest: None,
                rang: false,
                leaving: Leaving::default(),
                has_streams: false,
                reads: false,
                permit,
                client: None,
                of_listener: None,
                upstream: None,
            }),
        }
    }

    /// Returns the thread of the connection.
    pub fn thread(&self) -> &Rc<Thread> {
        &self.thread
    }

    /// Returns the peer's address.
    pub fn peer(&self) -> &Address {
        &self.peer
    }

    // Operations of guests. None of them waits.

    /// Sends bytes or queues them.
    pub fn write(&self, data: &[u8]) {
        self.write_with(|core| core.write(data, false));
    }

    /// Sends bytes and then a part of a file, or queues them. The caller must
    /// have checked that the file is long enough.
    pub fn write_with_file(&self, data: &[u8], part: FilePart) {
        self.write_with(|core| {
            core.write(data, part.remaining > 0);
            core.push_file(part);
        });
    }

    /// Sends several slices or queues them, in one system call if possible.
    pub fn write_vectored(&self, slices: &[&[u8]]) {
        let joined = &mut *self.thread.joined.borrow_mut();
        self.write_with(|core| core.write_vectored(slices, joined));
    }

    /// Returns how many bytes the guest may write before the queue reaches the
    /// high watermark. After a return of 0, the guest is told when there is
    /// room ([`EventGuest::writable`](crate::guest::EventGuest::writable)).
    pub fn room(&self) -> u64 {
        let mut core = self.core.borrow_mut();
        let queued = core.queued();
        let room = core.flow.room(queued);
        if room == 0 {
            self.wake(&core);
        }
        room
    }

    /// Asks that the guest be told when there is room, even if there is some.
    pub fn want_write(&self) {
        let mut core = self.core.borrow_mut();
        core.flow.want_write();
        self.wake(&core);
    }

    /// Sets how long nothing may move, in place of `--idle-timeout`, which
    /// `None` restores.
    pub fn set_idle_timeout(&self, after: Option<Duration>) {
        self.core.borrow_mut().idle_timeout = after;
    }

    /// Sets an option of the socket.
    ///
    /// # Errors
    /// - `InvalidArgument`: the value is out of range.
    /// - `InvalidState`: the connection is closing.
    /// - `NotSupported`: this kind of socket has no such option.
    pub fn set_option(&self, option: SocketOption) -> Result<(), ConnectionError> {
        let core = self.core.borrow();
        match &core.socket {
            Some(socket) if !core.flow.is_closing() => options::set(socket.fd(), option),
            _ => Err(ConnectionError::InvalidState),
        }
    }

    fn write_with(&self, write: impl FnOnce(&mut Core)) {
        let mut core = self.core.borrow_mut();
        if !core.flow.accepts_writes() {
            return;
        }
        let now = self.thread.now();
        core.touched = now;
        if core.queued() == 0 {
            core.progressed = now;
        }
        write(&mut core);
        if core.in_memory() > self.thread.env.limits.max_write_buffer as u64 {
            core.flow.fail(ConnectionError::LimitExceeded(
                "more is queued for the peer than --max-write-buffer allows",
            ));
        }
        if core.queued() > 0 || core.flow.is_closing() {
            self.wake(&core);
        }
    }

    /// Queues a part of a file. Returns its length in bytes.
    pub fn send_file(
        &self,
        file: &Rc<File>,
        offset: u64,
        length: Option<u64>,
    ) -> Result<u64, ConnectionError> {
        let size = file.size()?;
        let remaining = size
            .checked_sub(offset)
            .ok_or(ConnectionError::InvalidArgument)?;
        let length = length.unwrap_or(remaining);
        if length > remaining {
            return Err(ConnectionError::InvalidArgument);
        }
        let mut core = self.core.borrow_mut();
        if !core.flow.accepts_writes() {
            return Err(ConnectionError::InvalidState);
        }
        if core.file_parts() >= MOST_FILE_PARTS {
            return Err(ConnectionError::LimitExceeded(
                "too many parts of files are queued",
            ));
        }
        if core.queued() == 0 {
            core.progressed = self.thread.now();
        }
        let part = FilePart {
            file: Rc::clone(file),
            offset,
            remaining: length,
        };
        core.push_file(part);
        self.wake(&core);
        Ok(length)
    }

    /// Shuts the sending side once the queue is empty.
    pub fn write_eof(&self) -> Result<(), ConnectionError> {
        let mut core = self.core.borrow_mut();
        if !core.can_write_eof() {
            return Err(ConnectionError::NotSupported);
        }
        if !core.flow.shut_sending() {
            return Err(ConnectionError::InvalidState);
        }
        self.wake(&core);
        Ok(())
    }

    /// True if the connection can be half-closed.
    pub fn can_write_eof(&self) -> bool {
        self.core.borrow().can_write_eof()
    }

    /// Copies what arrives here to `to`, natively.
    pub fn relay(self: &Rc<Self>, to: &Rc<Self>) -> Result<(), ConnectionError> {
        let ready = |core: &Core| core.socket.is_some() && !core.flow.is_closing();
        {
            let core = self.core.borrow();
            let target = to.core.borrow();
            if !ready(&core)
                || !ready(&target)
                || core.relay.is_some()
                || !target.flow.accepts_writes()
                || target.fed_by.strong_count() > 0
            {
                return Err(ConnectionError::InvalidState);
            }
        }
        to.core.borrow_mut().fed_by = Rc::downgrade(self);
        let mut core = self.core.borrow_mut();
        core.relay = Some(Box::new(Relay::new(Rc::clone(to))));
        core.flow.resume_receiving();
        self.wake(&core);
        Ok(())
    }

    /// True if another connection, or this one, is copied to this one natively.
    pub fn is_fed(&self) -> bool {
        self.core.borrow().fed_by.strong_count() > 0
    }

    /// Begins TLS. `received` is the part of it that has already arrived.
    pub fn start_tls(&self, session: Session, received: &[u8]) -> Result<(), ConnectionError> {
        let mut core = self.core.borrow_mut();
        if !core.can_start_tls() {
            return Err(ConnectionError::InvalidState);
        }
        core.begin_tls(session);
        core.flow.begin_tls();
        if let Some(session) = &mut core.tls {
            session.keep(received);
        }
        core.deadline = Some(self.thread.handshake_deadline());
        self.wake(&core);
        Ok(())
    }

    /// True if TLS can begin: it has not begun yet, and the connection is
    /// neither closing nor relayed.
    pub fn can_start_tls(&self) -> bool {
        self.core.borrow().can_start_tls()
    }

    /// Closes the connection once the queue is empty.
    pub fn close(&self) {
        let mut core = self.core.borrow_mut();
        core.flow.close();
        self.wake(&core);
    }

    /// Closes the connection at once.
    pub fn abort(&self) {
        self.fail(ConnectionError::Aborted);
    }

    /// Closes the connection at once, for a reason.
    pub fn fail(&self, reason: ConnectionError) {
        let mut core = self.core.borrow_mut();
        core.flow.fail(reason);
        self.wake(&core);
    }

    /// True if no unread bytes have arrived.
    pub fn is_quiet(&self) -> bool {
        let core = self.core.borrow();
        core.socket.as_ref().is_some_and(|it| is_quiet(it.fd()))
    }

    /// True if the connection is closing or over.
    pub fn is_closing(&self) -> bool {
        let core = self.core.borrow();
        core.flow.is_closing() || core.socket.is_none()
    }

    /// True if the connection is over, or will end without sending its queue.
    pub fn has_failed(&self) -> bool {
        let core = self.core.borrow();
        !core.flow.flushes() || core.socket.is_none()
    }

    /// True if a TLS handshake is under way.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.core.borrow().is_handshaking()
    }

    /// Stops receiving until [`Self::resume_receiving`].
    pub fn pause_receiving(&self) {
        self.core.borrow_mut().flow.pause_receiving();
    }

    /// Resumes receiving.
    pub fn resume_receiving(&self) {
        let mut core = self.core.borrow_mut();
        core.flow.resume_receiving();
        self.wake(&core);
    }

    /// Sets the queue sizes, in bytes, at which there is no room any more, and
    /// some again.
    pub fn set_watermarks(&self, high: u64, low: u64) {
        let mut core = self.core.borrow_mut();
        core.flow.set_watermarks(high, low);
        self.wake(&core);
    }

    /// Returns the high watermark and the low one, in bytes.
    pub fn watermarks(&self) -> (u64, u64) {
        self.core.borrow().flow.watermarks()
    }

    /// Returns the bytes queued.
    pub fn queued(&self) -> u64 {
        self.core.borrow().queued()
    }

    /// True if something waits for room in the socket, besides what is queued.
    pub fn waits_for_room(&self) -> bool {
        self.core.borrow().wants_room
    }

    /// True if no TLS session stands between the socket and the plain text.
    pub fn is_plain(&self) -> bool {
        self.core.borrow().is_plain()
    }

    /// Returns the tick at which the connection was opened.
    pub fn opened(&self) -> Tick {
        self.opened
    }

    /// Returns the local address; `None` once the connection is lost.
    pub fn local(&self) -> Option<Address> {
        let core = self.core.borrow();
        let socket = core.socket.as_ref()?;
        if let Some(known) = self.local.get() {
            return Some(Address::clone(known));
        }
        let local = rustix::net::getsockname(socket.fd()).ok()?;
        let known = self.local.get_or_init(|| Box::new(Address::from(local)));
        Some(Address::clone(known))
    }

    /// Notes what a proxy has told of the connection.
    pub(crate) fn came_through(&self, proxied: Proxied) {
        let _ = self.proxied.set(Box::new(proxied));
    }

    /// Returns what a proxy has told of the connection, if it came through one that
    /// sends a PROXY header.
    pub fn proxied(&self) -> Option<&Proxied> {
        self.proxied.get().map(|proxied| &**proxied)
    }

    /// Returns the PROXY header for a connection that is made for this one's peer.
    pub(crate) fn proxy_header(&self, version: ProxyProtocol) -> Vec<u8> {
        let destination = self.proxied().and_then(|it| it.destination.clone());
        let destination = destination.or_else(|| self.local());
        let ends = destination.as_ref().map(|it| (&self.peer, it));
        proxy::compose(version, ends)
    }

    /// True if TLS agreed on the protocol (ALPN).
    pub fn speaks(&self, protocol: &[u8]) -> bool {
        let core = self.core.borrow();
        core.tls
            .as_ref()
            .is_some_and(|session| session.speaks(protocol))
    }

    /// Returns what TLS agreed on, once the handshake is over.
    pub fn session_info(&self) -> Option<SessionInfo> {
        self.core.borrow().tls.as_ref()?.info()
    }
}
