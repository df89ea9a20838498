//! A byte-stream connection as the host holds it: the socket, its TLS session
//! and what is queued for the peer.
//!
//! Two parties work on a [`Transport`]: the task that drives it
//! (`connection.rs`), which polls, and the guest, whose calls never wait. Both
//! run on one thread and in turns, so a `RefCell` is all the locking there is.
//! A guest's call that leaves the task something to do wakes it.
//!
//! The grammar of events is `protocol.rs`'s; no policy is decided here.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::OwnedSemaphorePermit;

use crate::error::ConnectionError;
use crate::files::File;
use crate::protocol::{Flow, Lost, Watermark};
use crate::queue::{FilePart, WriteQueue, send};
use crate::relay::{Relay, splice};
use crate::tls::{Session, SessionInfo, Sink};
use crate::watch::watch;
use crate::worker::{Received, Scratch, Tick, Worker};

/// How much one poll sends before others have their turn, bytes.
const FLUSH_BUDGET: usize = 1 << 20;

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Ip(SocketAddr),
    /// A Unix domain socket; `None` where it has no name.
    Unix(Option<PathBuf>),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix"),
        }
    }
}

impl From<rustix::net::SocketAddrAny> for Address {
    fn from(address: rustix::net::SocketAddrAny) -> Self {
        if let Ok(ip) = SocketAddr::try_from(address.clone()) {
            return Self::Ip(ip);
        }
        let path = rustix::net::SocketAddrUnix::try_from(address)
            .ok()
            .and_then(|unix| {
                use std::os::unix::ffi::OsStrExt;
                unix.path_bytes()
                    .map(|path| PathBuf::from(std::ffi::OsStr::from_bytes(path)))
            });
        Self::Unix(path)
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Transport {
    worker: Rc<Worker>,
    peer: Address,
    /// Whether the driving task runs at present, and so need not be woken.
    driven: Cell<bool>,
    pub(crate) core: RefCell<Core>,
}

/// What changes in the life of a [`Transport`].
#[derive(Debug)]
pub(crate) struct Core {
    /// `None` once the connection is lost.
    pub(crate) socket: Option<AsyncFd<OwnedFd>>,
    pub(crate) flow: Flow,
    /// Bytes for the socket as they are: plain text, or records.
    pub(crate) queue: WriteQueue,
    pub(crate) tls: Option<Box<Session>>,
    /// Where the host copies what arrives.
    pub(crate) relay: Option<Box<Relay>>,
    /// The transport whose stream the host copies to this one.
    pub(crate) fed_by: Weak<Transport>,
    /// Whether that copying waits for room in this one's socket.
    pub(crate) wants_room: bool,
    waker: Option<Waker>,
    /// When a byte last moved.
    touched: Tick,
    /// When the peer last took some of what is queued, or the queue was empty.
    progressed: Tick,
    /// When the present stage (handshake, lingering) must be over.
    deadline: Option<(Tick, &'static str)>,
    /// Counts the connection against `--max-connections`.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Transport {
    /// Takes a connected, non-blocking socket.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub(crate) fn new(
        worker: &Rc<Worker>,
        socket: OwnedFd,
        peer: Address,
        permit: Option<OwnedSemaphorePermit>,
    ) -> io::Result<Rc<Self>> {
        let socket = watch(socket, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Rc::new(Self::with_socket(
            worker,
            Some(socket),
            peer,
            permit,
        )))
    }

    /// One without a socket, which takes writes and forgets them.
    pub(crate) fn unconnected(worker: &Rc<Worker>) -> Self {
        Self::with_socket(worker, None, Address::Unix(None), None)
    }

    fn with_socket(
        worker: &Rc<Worker>,
        socket: Option<AsyncFd<OwnedFd>>,
        peer: Address,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let limits = &worker.shared.limits;
        let now = worker.now();
        Self {
            worker: Rc::clone(worker),
            peer,
            driven: Cell::new(false),
            core: RefCell::new(Core {
                socket,
                flow: Flow::new(limits.write_high as u64, limits.write_low as u64),
                queue: WriteQueue::default(),
                tls: None,
                relay: None,
                fed_by: Weak::new(),
                wants_room: false,
                waker: None,
                touched: now,
                progressed: now,
                deadline: None,
                _permit: permit,
            }),
        }
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    pub(crate) fn peer(&self) -> &Address {
        &self.peer
    }

    // What a guest asks for. None of these waits.

    /// Sends bytes or queues them.
    pub(crate) fn write(&self, data: &[u8]) {
        self.write_with(|core| core.write(data));
    }

    /// Sends several slices or queues them, in one system call where possible.
    pub(crate) fn write_vectored(&self, slices: &[&[u8]]) {
        self.write_with(|core| core.write_vectored(slices));
    }

    fn write_with(&self, write: impl FnOnce(&mut Core)) {
        let mut core = self.core.borrow_mut();
        if !core.flow.accepts_writes() {
            return;
        }
        let now = self.worker.now();
        core.touched = now;
        if core.queued() == 0 {
            core.progressed = now;
        }
        write(&mut core);
        if core.in_memory() > self.worker.shared.limits.max_write_buffer as u64 {
            core.flow.fail(ConnectionError::LimitExceeded(
                "more is queued for the peer than --max-write-buffer allows",
            ));
        }
        if core.queued() > 0 || core.flow.is_closing() {
            self.wake(&core);
        }
    }

    /// Queues a part of a file. Returns how many bytes that is.
    pub(crate) fn send_file(
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
        if core.queued() == 0 {
            core.progressed = self.worker.now();
        }
        let part = FilePart {
            file: Rc::clone(file),
            offset,
            remaining: length,
        };
        match &mut core.tls {
            Some(session) => session.stage().push_file(part),
            None => core.queue.push_file(part),
        }
        self.wake(&core);
        Ok(length)
    }

    /// Shuts the sending side after the queue.
    pub(crate) fn write_eof(&self) -> Result<(), ConnectionError> {
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

    pub(crate) fn can_write_eof(&self) -> bool {
        self.core.borrow().can_write_eof()
    }

    /// Has the host copy what arrives here to `to`.
    pub(crate) fn relay(self: &Rc<Self>, to: &Rc<Self>) -> Result<(), ConnectionError> {
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

    /// Continues in TLS, with what already arrived of it.
    pub(crate) fn start_tls(
        &self,
        session: Session,
        received: &[u8],
    ) -> Result<(), ConnectionError> {
        let mut core = self.core.borrow_mut();
        if !core.flow.accepts_writes() || core.tls.is_some() || core.relay.is_some() {
            return Err(ConnectionError::InvalidState);
        }
        core.begin_tls(session);
        if let Some(session) = &mut core.tls {
            session.keep(received);
        }
        core.deadline = Some(self.worker.handshake_deadline());
        self.wake(&core);
        Ok(())
    }

    /// Whether TLS has begun, or the connection is closing or relayed: then
    /// it cannot begin.
    pub(crate) fn can_start_tls(&self) -> bool {
        let core = self.core.borrow();
        core.flow.accepts_writes() && core.tls.is_none() && core.relay.is_none()
    }

    pub(crate) fn close(&self) {
        let mut core = self.core.borrow_mut();
        core.flow.close();
        self.wake(&core);
    }

    pub(crate) fn abort(&self) {
        self.fail(ConnectionError::Aborted);
    }

    /// Ends the connection for a reason.
    pub(crate) fn fail(&self, reason: ConnectionError) {
        let mut core = self.core.borrow_mut();
        core.flow.fail(reason);
        self.wake(&core);
    }

    pub(crate) fn is_closing(&self) -> bool {
        let core = self.core.borrow();
        core.flow.is_closing() || core.socket.is_none()
    }

    pub(crate) fn pause_receiving(&self) {
        self.core.borrow_mut().flow.pause_receiving();
    }

    pub(crate) fn resume_receiving(&self) {
        let mut core = self.core.borrow_mut();
        core.flow.resume_receiving();
        self.wake(&core);
    }

    pub(crate) fn set_watermarks(&self, high: u64, low: u64) {
        let mut core = self.core.borrow_mut();
        core.flow.set_watermarks(high, low);
        self.wake(&core);
    }

    pub(crate) fn watermarks(&self) -> (u64, u64) {
        self.core.borrow().flow.watermarks()
    }

    /// What is queued, bytes.
    pub(crate) fn queued(&self) -> u64 {
        self.core.borrow().queued()
    }

    /// The address of this end; `None` once the connection is lost.
    pub(crate) fn local(&self) -> Option<Address> {
        let core = self.core.borrow();
        let socket = core.socket.as_ref()?;
        rustix::net::getsockname(socket.get_ref())
            .ok()
            .map(Address::from)
    }

    pub(crate) fn session_info(&self) -> Option<SessionInfo> {
        self.core.borrow().tls.as_ref()?.info()
    }

    // What the driving task does.

    /// Marks the task as running until the guard is dropped, and has it woken
    /// from now on where it is needed.
    pub(crate) fn drive(&self, cx: &Context<'_>) -> Driven<'_> {
        let mut core = self.core.borrow_mut();
        if !core
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            core.waker = Some(cx.waker().clone());
        }
        self.driven.set(true);
        Driven(&self.driven)
    }

    /// Wakes the task, unless it runs.
    fn wake(&self, core: &Core) {
        if !self.driven.get()
            && let Some(waker) = &core.waker
        {
            waker.wake_by_ref();
        }
    }

    /// The same, for the transport on the other end of a relay.
    pub(crate) fn nudge(&self) {
        self.wake(&self.core.borrow());
    }

    /// Receives and forgets; 0 is the end.
    ///
    /// # Errors
    /// The connection failed.
    pub(crate) fn poll_discard(
        &self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        self.core.borrow_mut().poll_recv(cx, scratch.wire())
    }

    /// Receives the next piece of plain text; an empty one is the end.
    ///
    /// # Errors
    /// The connection failed, or its TLS stream was cut short.
    pub(crate) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<Result<Received, ConnectionError>> {
        let mut core = self.core.borrow_mut();
        if core.tls.is_none() {
            let count = ready!(core.poll_recv(cx, scratch.wire()))?;
            core.touched = self.worker.now();
            return Poll::Ready(Ok(Received::Wire(count)));
        }
        loop {
            let Some(session) = &mut core.tls else {
                return Poll::Ready(Ok(Received::Plain(0)));
            };
            let count = session.read(scratch.plain());
            if count > 0 || session.peer_closed() {
                return Poll::Ready(Ok(Received::Plain(count)));
            }
            if let Some(mut kept) = session.take_kept() {
                let taken = core.feed_tls(kept.rest())?;
                kept.advance(taken)?;
                if let Some(session) = &mut core.tls {
                    session.put_back(kept);
                }
                continue;
            }
            let count = ready!(core.poll_recv(cx, scratch.wire()))?;
            core.touched = self.worker.now();
            if count == 0 {
                return Poll::Ready(Err(ConnectionError::TlsTruncated));
            }
            let received = scratch.wire().get(..count).unwrap_or_default();
            let taken = core.feed_tls(received)?;
            if let Some(rest) = received.get(taken..)
                && let Some(session) = &mut core.tls
            {
                session.keep(rest);
            }
        }
    }

    /// Advances the TLS handshake until it is done.
    ///
    /// # Errors
    /// The connection or the handshake failed; an alert for the peer is
    /// queued or sent.
    pub(crate) fn poll_handshake(
        &self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<Result<(), ConnectionError>> {
        loop {
            if let Poll::Ready(result) = self.poll_flush(cx) {
                result?;
            }
            let mut core = self.core.borrow_mut();
            match &core.tls {
                Some(session) if session.is_handshaking() => {}
                // The last flight may still be queued; it is sent with what
                // the guest writes.
                _ => return Poll::Ready(Ok(())),
            }
            let count = ready!(core.poll_recv(cx, scratch.wire()))?;
            core.touched = self.worker.now();
            if count == 0 {
                return Poll::Ready(Err(ConnectionError::Tls(
                    "the peer left during the handshake".into(),
                )));
            }
            let mut rest = scratch.wire().get(..count).unwrap_or_default();
            while core
                .tls
                .as_ref()
                .is_some_and(|session| session.is_handshaking())
                && !rest.is_empty()
            {
                let taken = core.feed_tls(rest)?;
                rest = rest.get(taken.max(1)..).unwrap_or_default();
            }
            if let Some(session) = &mut core.tls {
                session.keep(rest);
            }
        }
    }

    /// Moves what arrives to a pipe; 0 is the end.
    ///
    /// # Errors
    /// What splice(2) says.
    pub(crate) fn poll_splice(
        &self,
        cx: &mut Context<'_>,
        pipe: &OwnedFd,
        most: usize,
    ) -> Poll<Result<usize, Errno>> {
        let mut core = self.core.borrow_mut();
        core.touched = self.worker.now();
        let Some(socket) = &core.socket else {
            return Poll::Ready(Ok(0));
        };
        loop {
            let Ok(mut guard) = ready!(socket.poll_read_ready(cx)) else {
                return Poll::Ready(Err(Errno::BADF));
            };
            let mut result = Ok(0);
            let tried = guard.try_io(|socket| {
                result = splice(socket.get_ref(), pipe, most);
                match result {
                    Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
                    _ => Ok(()),
                }
            });
            if tried.is_ok() {
                return Poll::Ready(result);
            }
        }
    }

    /// Tries an operation on the socket that may find no room.
    pub(crate) fn try_write<R>(
        &self,
        operation: impl FnOnce(&OwnedFd) -> Result<R, Errno>,
    ) -> io::Result<R> {
        let mut core = self.core.borrow_mut();
        let result = core.try_write(operation);
        if result.is_ok() {
            core.touched = self.worker.now();
            core.progressed = core.touched;
        }
        result
    }

    /// Sends what is queued until it is all gone.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        let mut budget = FLUSH_BUDGET;
        loop {
            if core.queue.is_empty() {
                if let Some(session) = &mut core.tls {
                    if session.is_handshaking() || session.stage().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    let mut out = Out {
                        socket: &core.socket,
                        queue: &mut core.queue,
                        error: None,
                    };
                    session.pump(&mut out).map_err(file_error)?;
                    if let Some(errno) = out.error {
                        return Poll::Ready(Err(errno.into()));
                    }
                    budget = budget.saturating_sub(16 << 10);
                    core.touched = self.worker.now();
                    core.progressed = core.touched;
                } else {
                    return Poll::Ready(Ok(()));
                }
            } else {
                let Some(socket) = &core.socket else {
                    return Poll::Ready(Ok(()));
                };
                let mut guard = ready!(socket.poll_write_ready(cx))?;
                match guard.try_io(|socket| core.queue.send_front(socket.as_fd())) {
                    Ok(Ok(count)) => {
                        budget = budget.saturating_sub(count);
                        core.touched = self.worker.now();
                        core.progressed = core.touched;
                    }
                    Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(Err(error)) => return Poll::Ready(Err(file_error(error))),
                    Err(_would_block) => {}
                }
            }
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Waits for room in the socket, for a relay that found none.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut core = self.core.borrow_mut();
        let Some(socket) = &core.socket else {
            return Poll::Ready(());
        };
        // An error shows at the next write.
        drop(ready!(socket.poll_write_ready(cx)));
        core.wants_room = false;
        Poll::Ready(())
    }

    /// Shuts the sending side where that is due, in TLS after `close_notify`.
    /// Returns whether something was done, so that there may be more to do.
    pub(crate) fn shut_if_due(&self) -> bool {
        let core = self.core.borrow();
        let queued = core.queued();
        if !core.flow.shut_is_due(queued) {
            return false;
        }
        drop(core);
        self.say_close_notify();
        if self.queued() == 0 {
            self.shut();
        }
        true
    }

    /// Shuts the sending side.
    pub(crate) fn shut(&self) {
        let mut core = self.core.borrow_mut();
        core.flow.sending_ended();
        if let Some(socket) = &core.socket {
            // The peer may be gone already; receiving will tell.
            let _ = rustix::net::shutdown(socket.get_ref(), Shutdown::Write);
        }
    }

    /// Ends the TLS session's sending side; the record goes to the queue
    /// where the socket is full.
    pub(crate) fn say_close_notify(&self) {
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        if let Some(session) = &mut core.tls {
            let mut out = Out {
                socket: &core.socket,
                queue: &mut core.queue,
                error: None,
            };
            session.close(&mut out);
        }
    }

    /// Lets go of the socket and all that is queued.
    pub(crate) fn release(&self) {
        let mut core = self.core.borrow_mut();
        core.socket = None;
        core.queue = WriteQueue::default();
        core.tls = None;
        core.relay = None;
        core.fed_by = Weak::new();
        core.waker = None;
        core._permit = None;
    }

    /// Has the close send a reset, so that the peer cannot take a stream
    /// that was cut short for a whole one.
    pub(crate) fn reset_on_close(&self) {
        if let Some(socket) = &self.core.borrow().socket {
            let linger = Some(std::time::Duration::ZERO);
            let _ = rustix::net::sockopt::set_socket_linger(socket.get_ref(), linger);
        }
    }

    /// Sets when the present stage must be over, or that it need not.
    pub(crate) fn set_deadline(&self, deadline: Option<(Tick, &'static str)>) {
        self.core.borrow_mut().deadline = deadline;
    }

    /// Ends the connection if a deadline has passed.
    pub(crate) fn check_deadlines(&self) {
        let limits = &self.worker.shared.limits;
        let now = self.worker.now();
        let mut core = self.core.borrow_mut();
        if core.socket.is_none() {
            return;
        }
        let waits = core.queued() > 0 || core.wants_room;
        if !waits {
            core.progressed = now;
        }
        let late = match core.deadline {
            Some((deadline, what)) if now >= deadline => Some(what),
            _ if waits && self.worker.passed(core.progressed, limits.write_timeout) => {
                Some("the peer takes nothing of what is queued (--write-timeout)")
            }
            _ => limits
                .idle_timeout
                .filter(|&limit| self.worker.passed(core.touched, limit))
                .map(|_| "nothing moved (--idle-timeout)"),
        };
        if let Some(what) = late {
            core.flow.fail(ConnectionError::Timeout(what));
            self.wake(&core);
        }
    }

    /// Whether there is nothing to do but to receive: the usual case, told
    /// by a few loads.
    pub(crate) fn only_receives(&self) -> bool {
        let core = self.core.borrow();
        core.flow.only_receives()
            && core.queue.is_empty()
            && core
                .tls
                .as_ref()
                .is_none_or(|session| session.staged().0 == 0)
            && core.relay.is_none()
            && !core.wants_room
            && core.fed_by.strong_count() == 0
    }

    /// Whether the connection is over, and why.
    pub(crate) fn over(&self) -> Option<Lost> {
        let core = self.core.borrow();
        core.flow.over(core.queued())
    }

    /// The watermark event that is due.
    pub(crate) fn watermark(&self) -> Option<Watermark> {
        let mut core = self.core.borrow_mut();
        // What a relay queues is not the guest's.
        let queued = if core.fed_by.strong_count() > 0 {
            0
        } else {
            core.queued()
        };
        core.flow.watermark(queued)
    }
}

/// See [`Transport::drive`].
#[derive(Debug)]
pub(crate) struct Driven<'a>(&'a Cell<bool>);

impl Drop for Driven<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Core {
    /// All that is queued, bytes.
    pub(crate) fn queued(&self) -> u64 {
        self.queue.len() + self.tls.as_ref().map_or(0, |session| session.staged().0)
    }

    fn in_memory(&self) -> u64 {
        self.queue.in_memory() + self.tls.as_ref().map_or(0, |session| session.staged().1)
    }

    pub(crate) fn can_write_eof(&self) -> bool {
        self.tls
            .as_ref()
            .is_none_or(|session| session.can_half_close())
    }

    /// Whether it may be read and written past the TLS layer.
    pub(crate) fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Begins a TLS session; what a client has to say first goes to the
    /// queue, after what is there.
    pub(crate) fn begin_tls(&mut self, mut session: Session) {
        let mut out = Out {
            socket: &self.socket,
            queue: &mut self.queue,
            error: None,
        };
        session.flush(&mut out);
        self.tls = Some(Box::new(session));
    }

    /// Gives ciphertext to the session, and sends what it answers. Returns
    /// how much was taken.
    pub(crate) fn feed_tls(&mut self, ciphertext: &[u8]) -> Result<usize, ConnectionError> {
        let Some(session) = &mut self.tls else {
            return Ok(0);
        };
        let result = session.feed(ciphertext);
        let mut out = Out {
            socket: &self.socket,
            queue: &mut self.queue,
            error: None,
        };
        // Even after an error: the alert says why.
        session.flush(&mut out);
        let failed = out.error;
        let taken = result?;
        failed.map_or(Ok(taken), |errno| Err(errno.into()))
    }

    pub(crate) fn write(&mut self, data: &[u8]) {
        match &mut self.tls {
            None if self.queue.is_empty() => {
                let Some(socket) = &self.socket else { return };
                match send(socket.get_ref(), data) {
                    Ok(sent) if sent == data.len() => {}
                    Ok(sent) => self.queue.push_bytes(data.get(sent..).unwrap_or_default()),
                    Err(Errno::AGAIN) => self.queue.push_bytes(data),
                    Err(errno) => self.flow.fail(errno.into()),
                }
            }
            None => self.queue.push_bytes(data),
            Some(session) => {
                let mut out = Out {
                    socket: &self.socket,
                    queue: &mut self.queue,
                    error: None,
                };
                session.write(data, &mut out);
                if let Some(errno) = out.error {
                    self.flow.fail(errno.into());
                }
            }
        }
    }

    fn write_vectored(&mut self, slices: &[&[u8]]) {
        let mut out = Out {
            socket: &self.socket,
            queue: &mut self.queue,
            error: None,
        };
        match &mut self.tls {
            None => {
                let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
                out.accept(&slices);
            }
            Some(session) => session.write_vectored(slices, &mut out),
        }
        if let Some(errno) = out.error {
            self.flow.fail(errno.into());
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(socket) = &self.socket else {
            return Poll::Ready(Ok(0));
        };
        loop {
            let mut guard = ready!(socket.poll_read_ready(cx))?;
            let mut short = None;
            let result = guard.try_io(|socket| {
                let (count, _) =
                    rustix::net::recv(socket.get_ref(), &mut *buffer, RecvFlags::DONTWAIT)?;
                if 0 < count && count < buffer.len() {
                    // The socket is empty now: that is as good as EAGAIN, and
                    // saves the call that would only say so.
                    short = Some(count);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(count)
            });
            match (short, result) {
                (Some(count), _) => return Poll::Ready(Ok(count)),
                (None, Ok(Err(error))) if error.kind() == io::ErrorKind::Interrupted => {}
                (None, Ok(result)) => return Poll::Ready(result),
                (None, Err(_would_block)) => {}
            }
        }
    }

    /// Tries an operation on the socket that may find no room, keeping the
    /// runtime's idea of its readiness right.
    pub(crate) fn try_write<R>(
        &self,
        operation: impl FnOnce(&OwnedFd) -> Result<R, Errno>,
    ) -> io::Result<R> {
        match &self.socket {
            None => Err(Errno::PIPE.into()),
            Some(socket) => socket.try_io(Interest::WRITABLE, |fd| {
                operation(fd).map_err(io::Error::from)
            }),
        }
    }
}

/// Sends what it can and queues the rest.
struct Out<'a> {
    socket: &'a Option<AsyncFd<OwnedFd>>,
    queue: &'a mut WriteQueue,
    error: Option<Errno>,
}

impl Sink for Out<'_> {
    fn accept(&mut self, slices: &[IoSlice<'_>]) {
        let mut sent = 0;
        if self.queue.is_empty()
            && let Some(socket) = self.socket
        {
            match send_vectored(socket.get_ref(), slices) {
                Ok(count) => sent = count,
                Err(Errno::AGAIN) => {}
                Err(errno) => {
                    self.error = Some(errno);
                    return;
                }
            }
        }
        for slice in slices {
            match slice.get(sent..) {
                Some(rest) => {
                    self.queue.push_bytes(rest);
                    sent = 0;
                }
                None => sent -= slice.len(),
            }
        }
    }
}

/// sendmsg(2), never SIGPIPE.
fn send_vectored(socket: &OwnedFd, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    /// IOV_MAX of Linux.
    const MOST: usize = 1024;
    let slices = slices.get(..MOST).unwrap_or(slices);
    loop {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let mut ancillary = SendAncillaryBuffer::default();
        match rustix::net::sendmsg(socket, slices, &mut ancillary, flags) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// What a failure to send means; a file's own failure is told in its words.
fn file_error(error: io::Error) -> ConnectionError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        ConnectionError::Other(error.to_string())
    } else {
        error.into()
    }
}
