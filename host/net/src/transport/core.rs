//! The mutable state of a transport, and the operations that go straight to its
//! socket.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::rc::Weak;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};

use netwasm_base::error::ConnectionError;
use netwasm_base::meter::{Measure, Meter};

use crate::clients::ClientPlace;
use crate::io::Watched;
use crate::of_listener::OfListener;
use crate::permits::{Permit, Permits};
use crate::protocol::Flow;
use crate::queue::{FilePart, WriteQueue, send};
use crate::relay::Relay;
use crate::thread::Tick;
use crate::tls::{KeptCiphertext, Session, Sink};
use crate::transport::Transport;
use crate::transport::delivery::{Delivery, Leaving};
use crate::upstream::Place;

/// Parts of together so many bytes are copied into a buffer of the thread and go by
/// send(2), which takes 0.4 us less than sendmsg(2) does for two parts.
const JOINED: usize = 4 << 10;

/// The mutable state of a [`Transport`].
#[derive(Debug)]
pub struct Core {
    /// `None` once the connection is lost.
    pub socket: Option<Watched>,
    /// Counts the bytes that move.
    pub(super) meter: Arc<Meter>,
    pub flow: Flow,
    /// Bytes for the socket as they are: plain text, or TLS records.
    pub(crate) queue: WriteQueue,
    pub(crate) tls: Option<Box<Session>>,
    /// Relay that copies what arrives to another transport.
    pub(crate) relay: Option<Box<Relay>>,
    /// The source of native copying to this transport.
    pub(crate) fed_by: Weak<Transport>,
    /// True if that copying waits for room in this transport's socket.
    pub(crate) wants_room: bool,
    /// True if that copying is to be woken once the queue is empty.
    pub(crate) feeder_waits: bool,
    pub(super) waker: Option<Waker>,
    /// The guest's streams.
    pub(super) streams: GuestStreams,
    /// Tick at which a byte last moved.
    pub(super) touched: Tick,
    /// Tick at which the peer last took some of the queue, or the queue was
    /// empty.
    pub(super) progressed: Tick,
    /// Limit of idleness in place of the run's.
    pub(super) idle_timeout: Option<Duration>,
    /// Bytes that the peer has acknowledged.
    pub(super) delivery: Delivery,
    /// Time limit of the present stage (the handshake), and its name.
    pub(super) deadline: Option<(Tick, &'static str)>,
    /// Tick at which the task is to be woken by the alarm.
    pub(super) alarm: Option<Tick>,
    /// Duration of an alarm that starts once the peer has acknowledged
    /// everything.
    pub(super) rest: Option<Duration>,
    /// True if the alarm has rung and the task has yet to be told.
    pub(super) rang: bool,
    /// End or error of the peer, not read yet.
    pub(super) leaving: Leaving,
    /// True if a guest has the connection as streams.
    pub(super) has_streams: bool,
    /// True while the guest's stream waits for something to receive.
    pub(super) reads: bool,
    /// Counts the connection against `--max-connections` or `--max-outgoing`.
    pub(super) permit: Option<Permit>,
    /// Place of an accepted connection among those of its client, if these are limited.
    pub(crate) client: Option<Box<ClientPlace>>,
    /// Counts it among those of its listener.
    pub(crate) of_listener: Option<OfListener>,
    /// Place of a guest's connection at a server of an upstream group.
    pub(crate) upstream: Option<Box<Place>>,
}

/// State of a guest's streams, made for the first one: idle connections of events
/// need none.
#[derive(Debug, Default)]
pub(super) struct GuestStreams(Option<Box<StreamState>>);

#[derive(Debug, Default)]
pub(super) struct StreamState {
    /// Waker of the receiving stream, if it waits.
    pub(super) receiver: Option<Waker>,
    /// Waker of the sending stream, if it waits.
    pub(super) sender: Option<Waker>,
    /// Bytes that the streams received and sent in the present poll.
    pub(super) received: Moved,
    pub(super) sent: Moved,
}

impl GuestStreams {
    /// Returns the state to change it.
    pub(super) fn state(&mut self) -> &mut StreamState {
        self.0.get_or_insert_default()
    }

    /// Returns the bytes received in a poll.
    pub(super) fn received_in(&self, poll: u32) -> usize {
        let state = self.0.as_ref();
        state.map_or(0, |state| state.received.in_poll(poll))
    }

    /// Returns the bytes sent in a poll.
    pub(super) fn sent_in(&self, poll: u32) -> usize {
        let state = self.0.as_ref();
        state.map_or(0, |state| state.sent.in_poll(poll))
    }

    /// True if the sending stream waits.
    pub(super) fn waits_to_send(&self) -> bool {
        let state = self.0.as_ref();
        state.is_some_and(|state| state.sender.is_some())
    }

    /// Takes the waker of the receiving stream.
    pub(super) fn take_receiver(&mut self) -> Option<Waker> {
        self.0.as_mut()?.receiver.take()
    }

    /// Takes the waker of the sending stream.
    pub(super) fn take_sender(&mut self) -> Option<Waker> {
        self.0.as_mut()?.sender.take()
    }
}

/// Bytes moved in one poll of a task.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    poll: u32,
    bytes: usize,
}

impl Moved {
    /// Adds bytes moved in a poll.
    pub(super) fn add(&mut self, poll: u32, bytes: usize) {
        self.bytes = self.in_poll(poll).saturating_add(bytes);
        self.poll = poll;
    }

    /// Returns the bytes moved in a poll.
    pub(super) fn in_poll(self, poll: u32) -> usize {
        if self.poll == poll { self.bytes } else { 0 }
    }
}

impl Core {
    /// Moves the permit to another budget if it is of this one. Returns false if
    /// that has nothing free.
    pub(crate) fn moves_permit(&mut self, from: &Arc<Permits>, to: &Arc<Permits>) -> bool {
        match &mut self.permit {
            Some(permit) if permit.is_of(from) => permit.move_to(to),
            _ => true,
        }
    }

    /// Moves the permit to another budget, whatever it is of. Returns false if that
    /// has nothing free.
    pub(crate) fn takes_place(&mut self, to: &Arc<Permits>) -> bool {
        self.permit.as_mut().is_none_or(|permit| permit.move_to(to))
    }

    /// Returns the bytes queued, in all.
    pub(crate) fn queued(&self) -> u64 {
        self.queue.len() + self.tls.as_ref().map_or(0, |session| session.staged().0)
    }

    pub(super) fn in_memory(&self) -> u64 {
        self.queue.in_memory() + self.tls.as_ref().map_or(0, |session| session.staged().1)
    }

    /// Returns the number of file parts queued.
    pub(super) fn file_parts(&self) -> usize {
        self.queue.file_parts()
            + self
                .tls
                .as_ref()
                .map_or(0, |session| session.staged_parts())
    }

    /// True if a TLS handshake is under way.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|session| session.is_handshaking())
    }

    /// True if TLS can begin.
    pub(super) fn can_start_tls(&self) -> bool {
        self.flow.accepts_writes()
            && self.tls.is_none()
            && self.relay.is_none()
            && self.fed_by.strong_count() == 0
    }

    pub(crate) fn can_write_eof(&self) -> bool {
        self.tls
            .as_ref()
            .is_none_or(|session| session.can_half_close())
    }

    /// Queues a part of a file after what is queued already.
    pub(super) fn push_file(&mut self, part: FilePart) {
        match &mut self.tls {
            Some(session) => session.stage().push_file(part),
            None => self.queue.push_file(part),
        }
    }

    /// True if no TLS session stands between the socket and the plain text.
    pub(crate) fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Begins a TLS session. A client's first flight is queued after what is
    /// queued already.
    pub(crate) fn begin_tls(&mut self, mut session: Session) {
        let mut out = Out {
            socket: &self.socket,
            meter: &self.meter,
            queue: &mut self.queue,
            error: None,
        };
        session.flush(&mut out);
        self.tls = Some(Box::new(session));
    }

    /// Feeds ciphertext to the session and sends the session's answer. Returns
    /// the number of bytes taken.
    pub(crate) fn feed_tls(&mut self, ciphertext: &[u8]) -> Result<usize, ConnectionError> {
        let Some(session) = &mut self.tls else {
            return Ok(0);
        };
        let handshaking = session.is_handshaking();
        let result = session.feed(ciphertext);
        if handshaking && !session.is_handshaking() {
            // The handshake met its deadline.
            self.deadline = None;
            if result.is_ok() {
                session.count_handshake(&self.meter);
            }
        }
        let mut out = Out {
            socket: &self.socket,
            meter: &self.meter,
            queue: &mut self.queue,
            error: None,
        };
        // Flush even after an error: the alert tells the peer why.
        session.flush(&mut out);
        let failed = out.error;
        let taken = result?;
        failed.map_or(Ok(taken), |errno| Err(errno.into()))
    }

    /// Feeds received ciphertext to the session, and keeps the rest.
    pub(super) fn feed_received(&mut self, received: &[u8]) -> Result<(), ConnectionError> {
        let taken = self.feed_tls(received)?;
        if let Some(rest) = received.get(taken..)
            && let Some(session) = &mut self.tls
        {
            session.keep(rest);
        }
        Ok(())
    }

    /// Feeds kept ciphertext to the session, and keeps the rest.
    pub(super) fn feed_kept(&mut self, mut kept: KeptCiphertext) -> Result<(), ConnectionError> {
        let taken = self.feed_tls(kept.rest())?;
        kept.advance(taken)?;
        if let Some(session) = &mut self.tls {
            session.put_back(kept);
        }
        Ok(())
    }

    /// Sends bytes or queues them. `more` is true if more follows at once.
    pub(crate) fn write(&mut self, data: &[u8], more: bool) {
        match &mut self.tls {
            None if self.queue.is_empty() => {
                let Some(socket) = &self.socket else { return };
                match send(socket.fd(), data, more) {
                    Ok(sent) => {
                        self.meter.add_bytes(Measure::Sent, sent);
                        // Mostly nothing.
                        self.queue.push_bytes(data.get(sent..).unwrap_or_default());
                    }
                    Err(Errno::AGAIN) => self.queue.push_bytes(data),
                    Err(errno) => self.flow.fail(errno.into()),
                }
            }
            None => self.queue.push_bytes(data),
            Some(session) => {
                let mut out = Out {
                    socket: &self.socket,
                    meter: &self.meter,
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

    /// Sends slices or queues them. `joined` is an empty buffer.
    pub(super) fn write_vectored(&mut self, slices: &[&[u8]], joined: &mut Vec<u8>) {
        let mut out = Out {
            socket: &self.socket,
            meter: &self.meter,
            queue: &mut self.queue,
            error: None,
        };
        match (&mut self.tls, slices) {
            (Some(session), _) => session.write_vectored(slices, &mut out),
            (None, [slice]) => out.accept(&[IoSlice::new(slice)]),
            (None, _) if slices.iter().map(|slice| slice.len()).sum::<usize>() <= JOINED => {
                for slice in slices {
                    joined.extend_from_slice(slice);
                }
                out.accept(&[IoSlice::new(joined)]);
                joined.clear();
            }
            (None, [first, second]) => out.accept(&[IoSlice::new(first), IoSlice::new(second)]),
            (None, _) => {
                let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
                out.accept(&slices);
            }
        }
        if let Some(errno) = out.error {
            self.flow.fail(errno.into());
        }
    }

    pub(super) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Some(socket) = &self.socket else {
            return Poll::Ready(Ok(0));
        };
        let received = socket.poll_recv(cx, buffer);
        if let Poll::Ready(Ok(count)) = received {
            self.meter.add_bytes(Measure::Received, count);
        }
        received
    }

    /// Waits until there is, or may be, more to receive.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_plain_text() {
            return Poll::Ready(());
        }
        match &self.socket {
            Some(socket) => socket.poll_readable(cx).map(drop),
            None => Poll::Ready(()),
        }
    }

    /// Receives plain text from the TLS session; 0 is the end.
    pub(super) fn poll_receive_tls(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut [u8],
        plain: &mut [u8],
        now: Tick,
    ) -> Poll<Result<usize, ConnectionError>> {
        loop {
            let Some(session) = &mut self.tls else {
                return Poll::Ready(Ok(0));
            };
            let count = session.read(plain);
            if count > 0 || session.peer_closed() {
                return Poll::Ready(Ok(count));
            }
            if let Some(kept) = session.take_kept() {
                self.feed_kept(kept)?;
                continue;
            }
            let count = ready!(self.poll_recv(cx, wire))?;
            self.touched = now;
            if count == 0 {
                return Poll::Ready(Err(ConnectionError::TlsTruncated));
            }
            self.feed_received(wire.get(..count).unwrap_or_default())?;
            if !self.queue.is_empty() {
                // The session's own answer found no room.
                match &self.waker {
                    Some(driver) => driver.wake_by_ref(),
                    None => cx.waker().wake_by_ref(),
                }
            }
        }
    }

    /// True if received plain text has not been taken yet.
    pub(super) fn has_plain_text(&mut self) -> bool {
        self.tls
            .as_mut()
            .is_some_and(|session| session.peer_closed() || session.has_plain_text())
    }

    /// Tries an operation on the socket that may find no room, and keeps the
    /// runtime's record of readiness correct.
    pub(crate) fn try_write<R>(
        &self,
        operation: impl FnOnce(&OwnedFd) -> Result<R, Errno>,
    ) -> io::Result<R> {
        match &self.socket {
            None => Err(Errno::PIPE.into()),
            Some(socket) => socket.try_write(|fd| operation(fd).map_err(io::Error::from)),
        }
    }
}
/// Sends as much as the socket takes and queues the rest.
pub(super) struct Out<'a> {
    pub(super) socket: &'a Option<Watched>,
    pub(super) meter: &'a Meter,
    pub(super) queue: &'a mut WriteQueue,
    pub(super) error: Option<Errno>,
}

impl Sink for Out<'_> {
    fn accept(&mut self, slices: &[IoSlice<'_>]) {
        let mut sent = 0;
        if self.queue.is_empty()
            && let Some(socket) = self.socket
        {
            let sending = match slices {
                [slice] => send(socket.fd(), slice, false),
                slices => send_vectored(socket.fd(), slices),
            };
            match sending {
                Ok(count) => {
                    self.meter.add_bytes(Measure::Sent, count);
                    sent = count;
                }
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

/// Calls sendmsg(2), without SIGPIPE.
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
