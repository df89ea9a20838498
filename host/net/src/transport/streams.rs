//! Operations of a guest's streams on a transport. They read and write it
//! directly, and wait for it themselves. The driving task flushes what TLS has
//! queued, and wakes the streams when the connection is over.

use std::io;
use std::rc::Rc;
use std::rc::Weak;
use std::task::{Context, Poll, Waker, ready};

use rustix::io::Errno;

use netwasm_base::counters::Counted;
use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;

use crate::parked::Parked;
use crate::queue::{WriteQueue, send};
use crate::thread::{Received, Scratch, Thread};
use crate::transport::Transport;

/// Maximum of one write to a TLS session, in bytes: as much as may be queued
/// for a peer that does not read.
const TLS_WRITE: usize = 64 << 10;

/// Bytes that a guest may send in one poll even after its turn is over. Most
/// polls send no more.
const LITTLE: usize = 16 << 10;

impl Transport {
    /// Receives plain text; 0 is the end.
    ///
    /// # Errors
    /// Fails if the connection failed, or its TLS stream was cut short.
    pub fn poll_receive_into(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, ConnectionError>> {
        if let Some(reason) = self.failure() {
            return Poll::Ready(Err(reason));
        }
        ready!(self.poll_turn_to_receive(cx));
        let mut core = self.core.borrow_mut();
        let received = if core.is_plain() {
            let received = core.poll_recv(cx, buffer).map_err(ConnectionError::from);
            if received.is_ready() {
                core.touched = self.thread.now();
            }
            received
        } else {
            let mut scratch = self.thread.scratch.borrow_mut();
            core.poll_receive_tls(cx, scratch.wire(), buffer, self.thread.now())
        };
        core.reads = received.is_pending();
        match received {
            Poll::Pending => keep(&mut core.streams.state().receiver, cx),
            Poll::Ready(Ok(0)) => core.flow.peer_ended(),
            Poll::Ready(Ok(count)) => core.streams.state().received.add(self.turn.number(), count),
            Poll::Ready(Err(_)) => {}
        }
        received
    }

    /// Waits while the driving task reads the handshake of `start-tls`.
    fn poll_handshaken(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_handshaking() {
            return Poll::Ready(());
        }
        let mut core = self.core.borrow_mut();
        core.reads = true;
        keep(&mut core.streams.state().receiver, cx);
        Poll::Pending
    }

    /// Notes that bytes were received natively, by another way than these.
    pub fn note_received(&self, count: usize) {
        let mut core = self.core.borrow_mut();
        core.streams.state().received.add(self.turn.number(), count);
    }

    /// Waits for the connection's turn, if this poll has already received
    /// something and there is more.
    pub fn poll_turn_to_receive(&self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_handshaken(cx));
        let bytes = self.core.borrow().streams.received_in(self.turn.number());
        if bytes > 0 && self.pauses(cx, bytes) {
            let mut core = self.core.borrow_mut();
            // If nothing more is there yet, the stream waits for bytes rather
            // than for its turn.
            core.reads = !self.turn.waits();
            keep(&mut core.streams.state().receiver, cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Receives into the scratch buffers, at most `most` bytes; none is the
    /// end.
    ///
    /// # Errors
    /// Fails if the connection failed, or its TLS stream was cut short.
    pub fn poll_receive_part(
        &self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        most: usize,
    ) -> Poll<Result<Received, ConnectionError>> {
        if let Some(reason) = self.failure() {
            return Poll::Ready(Err(reason));
        }
        let part = |buffer: &mut [u8]| most.min(buffer.len());
        let mut core = self.core.borrow_mut();
        let received = if core.is_plain() {
            let wire = scratch.wire();
            let part = part(wire);
            let received = core.poll_recv(cx, wire.get_mut(..part).unwrap_or_default());
            if received.is_ready() {
                core.touched = self.thread.now();
            }
            received
                .map_ok(Received::Wire)
                .map_err(ConnectionError::from)
        } else {
            let (wire, plain) = scratch.both();
            let part = part(plain);
            let plain = plain.get_mut(..part).unwrap_or_default();
            core.poll_receive_tls(cx, wire, plain, self.thread.now())
                .map_ok(Received::Plain)
        };
        match &received {
            Poll::Pending => keep(&mut core.streams.state().receiver, cx),
            Poll::Ready(Ok(received)) if received.is_end() => core.flow.peer_ended(),
            Poll::Ready(_) => {}
        }
        received
    }

    /// Receives the next piece of plain text for a guest; an empty one is the
    /// end.
    ///
    /// # Errors
    /// Fails if the connection failed, or its TLS stream was cut short.
    pub fn poll_receive_piece(
        &self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<Result<Received, ConnectionError>> {
        if let Some(reason) = self.failure() {
            return Poll::Ready(Err(reason));
        }
        ready!(self.poll_turn_to_receive(cx));
        let received = self.poll_receive(cx, scratch);
        let mut core = self.core.borrow_mut();
        match &received {
            Poll::Pending => keep(&mut core.streams.state().receiver, cx),
            Poll::Ready(Ok(received)) => core
                .streams
                .state()
                .received
                .add(self.turn.number(), received.count()),
            Poll::Ready(Err(_)) => {}
        }
        received
    }

    /// Waits until there is, or may be, something to receive.
    pub fn poll_receivable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let core = self.core.borrow();
        if core.flow.failure().is_some() {
            return Poll::Ready(());
        }
        drop(core);
        ready!(self.poll_handshaken(cx));
        let mut core = self.core.borrow_mut();
        let ready = core.poll_more(cx).is_ready();
        core.reads = !ready;
        if ready {
            return Poll::Ready(());
        }
        keep(&mut core.streams.state().receiver, cx);
        Poll::Pending
    }

    /// Sends a part of `data`. If `data` is empty, waits until a send is
    /// possible.
    ///
    /// # Errors
    /// Fails if the connection failed, or its sending side was shut.
    pub fn poll_send(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize, ConnectionError>> {
        if let Some(reason) = self.failure() {
            return Poll::Ready(Err(reason));
        }
        let mut core = self.core.borrow_mut();
        if !core.flow.accepts_writes() || core.socket.is_none() {
            return Poll::Ready(Err(ConnectionError::Broken));
        }
        let poll = self.turn.number();
        let bytes = core.streams.sent_in(poll);
        let sent = if bytes > LITTLE && self.turn.is_over(bytes) {
            self.turn.give_way(cx);
            Poll::Pending
        } else if core.is_plain() && core.queue.is_empty() {
            core.poll_send_plain(cx, data)
        } else if core.queued() > 0 {
            // The driving task flushes the queue and wakes the stream then.
            self.wake(&core);
            Poll::Pending
        } else {
            let part = data.get(..TLS_WRITE).unwrap_or(data);
            core.write(part, false);
            if core.queued() > 0 {
                self.wake(&core);
            }
            Poll::Ready(match core.flow.failure() {
                Some(reason) => Err(reason.clone()),
                None => Ok(part.len()),
            })
        };
        let now = self.thread.now();
        if sent.is_pending() {
            if !core.streams.waits_to_send() {
                core.progressed = now;
            }
            keep(&mut core.streams.state().sender, cx);
        } else {
            core.streams.take_sender();
            core.touched = now;
            core.progressed = now;
        }
        if let Poll::Ready(Ok(count)) = sent {
            core.streams.state().sent.add(poll, count);
        }
        sent
    }

    /// Notes that a guest has the connection as streams, and reads when it
    /// wants to.
    pub(crate) fn has_streams(&self) {
        self.core.borrow_mut().has_streams = true;
    }

    /// Notes that the guest no longer waits for something to receive.
    pub fn cancel_receive(&self) {
        self.core.borrow_mut().reads = false;
    }

    /// Notes that the guest no longer wants to send what found no room.
    pub fn cancel_send(&self) {
        self.core.borrow_mut().streams.take_sender();
    }

    /// Drops the queued rest of a file that ended early, provided that nothing
    /// else is queued.
    pub(crate) fn forget_file(&self) {
        let mut core = self.core.borrow_mut();
        // A TLS session removes a part from the queue before reading it.
        if core.is_plain() {
            core.queue = WriteQueue::default();
        }
    }

    /// True if everything written has been sent, and the sending side was shut
    /// if the connection can be half-closed.
    pub(crate) fn has_sent_all(&self) -> bool {
        let core = self.core.borrow();
        let cannot_shut = !core.can_write_eof() && !core.is_handshaking();
        core.flow.is_shut() || (core.queued() == 0 && cannot_shut)
    }

    /// Returns the reason of a failure.
    pub fn failure(&self) -> Option<ConnectionError> {
        self.core.borrow().flow.failure().cloned()
    }

    /// Wakes the streams that wait.
    pub fn wake_streams(&self) {
        let mut core = self.core.borrow_mut();
        let waiting = [core.streams.take_receiver(), core.streams.take_sender()];
        drop(core);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    /// Ends the copying to another transport.
    pub(crate) fn stop_relay(&self) {
        let relay = self.core.borrow_mut().relay.take();
        if let Some(relay) = relay {
            let mut target = relay.target().core.borrow_mut();
            target.fed_by = Weak::new();
            target.wants_room = false;
            target.feeder_waits = false;
        }
    }

    /// Takes over a connection that a pool kept.
    ///
    /// # Errors
    /// Fails if the runtime cannot watch the socket.
    pub fn resume(thread: &Rc<Thread>, parked: Parked) -> io::Result<Rc<Self>> {
        let Parked {
            socket,
            peer,
            session,
            permit,
            counted,
        } = parked;
        let transport = Self::new(thread, socket, peer, permit)?;
        counted.resume();
        if let Some(session) = session {
            transport.core.borrow_mut().begin_tls(session.resume());
        }
        Ok(transport)
    }

    /// Takes the connection from the worker and ends the driving task. Returns
    /// `None` if something is under way or one side has ended.
    pub(crate) fn park(&self) -> Option<Parked> {
        let mut core = self.core.borrow_mut();
        if !core.rests() {
            return None;
        }
        let socket = core.socket.take()?.into_fd();
        let permit = core.permit.take();
        core.flow.close();
        self.wake(&core);
        Some(Parked {
            socket,
            peer: self.peer().clone(),
            session: core.tls.take().map(|session| session.park()),
            permit,
            counted: Counted::new(&self.thread.env.counters),
        })
    }

    /// Ends the connection's use by a task, whose wakers it forgets, so that its
    /// thread may keep it for another. Returns false if something is under way
    /// or has arrived, or one side has ended.
    pub fn rest(&self) -> bool {
        let mut core = self.core.borrow_mut();
        if !core.rests() {
            return false;
        }
        core.waker = None;
        core.streams.take_receiver();
        core.streams.take_sender();
        core.alarm = None;
        core.rang = false;
        drop(core);
        self.receives_nothing()
    }

    /// True if nothing has arrived on a connection at rest, not even an end, as
    /// far as the runtime knows. Asks the kernel only if there is something new.
    pub fn is_at_rest(&self) -> bool {
        let core = self.core.borrow();
        match &core.socket {
            Some(socket) if core.tls.is_none() => {
                let mut scratch = self.thread.scratch.borrow_mut();
                core.flow.failure().is_none() && socket.has_nothing(scratch.wire())
            }
            _ => {
                drop(core);
                self.receives_nothing()
            }
        }
    }

    /// Like [`Self::is_at_rest`]. The runtime forgets the task that has waited.
    fn receives_nothing(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut scratch = self.thread.scratch.borrow_mut();
        self.failure().is_none() && self.poll_receive(&mut cx, &mut scratch).is_pending()
    }

    /// True if the connection was parked, and goes on without this transport.
    pub(crate) fn is_parked(&self) -> bool {
        self.core.borrow().socket.is_none()
    }
}

impl super::Core {
    /// True if nothing is under way and neither side has ended.
    fn rests(&mut self) -> bool {
        self.flow.accepts_writes()
            && self.flow.receiving_open()
            && self.queued() == 0
            && self.relay.is_none()
            && self.fed_by.strong_count() == 0
            && self.tls.as_mut().is_none_or(|session| session.is_quiet())
    }

    fn poll_send_plain(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize, ConnectionError>> {
        let Some(socket) = &self.socket else {
            return Poll::Ready(Err(ConnectionError::Broken));
        };
        if data.is_empty() {
            return socket.poll_writable(cx).map_ok(|()| 0).map_err(Into::into);
        }
        // There is mostly room: try before waiting for readiness.
        let sent = match send(socket.fd(), data, false) {
            Err(Errno::AGAIN) => {
                let sent = socket.poll_send(cx, |fd| send(fd, data, false).map_err(Into::into));
                sent.map_err(ConnectionError::from)
            }
            result => Poll::Ready(result.map_err(Into::into)),
        };
        if let Poll::Ready(Ok(count)) = sent {
            self.meter.add_bytes(Measure::Sent, count);
        }
        sent
    }
}

/// Stores the waker of the current task.
fn keep(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use netwasm_base::config::Limits;

    use super::*;
    use crate::testing::{connection, in_worker};

    #[test]
    fn readiness_shows_before_the_runtime_has_looked() {
        in_worker(Limits::default(), async |worker| {
            let (transport, mut there) = connection(&worker);
            let mut cx = Context::from_waker(Waker::noop());
            for _ in 0..2 {
                let ready = transport.poll_send(&mut cx, &[]);
                assert!(matches!(ready, Poll::Ready(Ok(0))));
            }
            there.write_all(b"here").expect("there is room");
            for _ in 0..2 {
                assert!(transport.poll_receivable(&mut cx).is_ready());
            }
        });
    }

    #[test]
    fn a_full_socket_is_not_ready_to_send() {
        in_worker(Limits::default(), async |worker| {
            let (transport, mut there) = connection(&worker);
            let mut cx = Context::from_waker(Waker::noop());
            let piece = vec![0; LITTLE];
            let mut sent = 0;
            while let Poll::Ready(count) = transport.poll_send(&mut cx, &piece) {
                sent += count.expect("the peer is there");
                assert!(sent < 1 << 30, "it takes all");
            }
            assert!(transport.poll_send(&mut cx, &[]).is_pending());
            let mut all = vec![0; sent];
            there.read_exact(&mut all).expect("all was sent");
        });
    }
}
