//! Operations of the task that drives a transport: everything that polls.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::Shutdown;

use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;

use crate::pipe::splice;
use crate::protocol::Lost;
use crate::queue::WriteQueue;
use crate::thread::{Received, Scratch, Tick};
use crate::tls::SessionInfo;
use crate::transport::Transport;
use crate::transport::core::{Core, Out};
use crate::turns::HEAVY;

/// Bytes of a file to encrypt at once, as one record.
const RECORD: usize = 16 << 10;

impl Transport {
    /// Marks the task as running until the guard is dropped, and registers its
    /// waker for later.
    pub fn drive(&self, cx: &Context<'_>) -> Driven<'_> {
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

    /// Wakes the task, unless it is running.
    pub(super) fn wake(&self, core: &Core) {
        if !self.driven.get()
            && let Some(waker) = &core.waker
        {
            waker.wake_by_ref();
        }
    }

    /// Wakes the task, unless it is running. For the transport on the other end
    /// of a relay.
    pub fn nudge(&self) {
        self.wake(&self.core.borrow());
    }

    /// Notes that a task of the connection has moved bytes. Returns true if its
    /// poll is to end, so that other tasks have their turn before more is
    /// received.
    pub fn pauses(&self, cx: &mut Context<'_>, bytes: usize) -> bool {
        let over = self.turn.is_over(bytes);
        if over && self.core.borrow_mut().poll_more(cx).is_ready() {
            self.turn.give_way(cx);
        }
        over
    }

    /// Receives and discards; 0 is the end.
    ///
    /// # Errors
    /// Fails if the connection failed.
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
    /// Fails if the connection failed, or its TLS stream was cut short.
    pub fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<Result<Received, ConnectionError>> {
        let mut core = self.core.borrow_mut();
        if core.tls.is_none() {
            let count = ready!(core.poll_recv(cx, scratch.wire()))?;
            core.touched = self.thread.now();
            return Poll::Ready(Ok(Received::Wire(count)));
        }
        let (wire, plain) = scratch.both();
        core.poll_receive_tls(cx, wire, plain, self.thread.now())
            .map_ok(Received::Plain)
    }

    /// Advances the TLS handshake until it is done.
    ///
    /// # Errors
    /// Fails if the connection or the handshake failed. An alert for the peer
    /// is then queued or sent.
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
            let kept = match &mut core.tls {
                Some(session) if session.is_handshaking() => session.take_kept(),
                // The last flight may still be queued. It is sent with what the
                // guest writes.
                _ => {
                    self.turn.note(HEAVY);
                    return Poll::Ready(Ok(()));
                }
            };
            if let Some(kept) = kept {
                core.feed_kept(kept)?;
                continue;
            }
            let count = ready!(core.poll_recv(cx, scratch.wire()))?;
            core.touched = self.thread.now();
            if count == 0 {
                return Poll::Ready(Err(ConnectionError::Tls(
                    "the peer left during the handshake".into(),
                )));
            }
            core.feed_received(scratch.wire().get(..count).unwrap_or_default())?;
        }
    }

    /// Moves what arrives to a pipe; 0 is the end.
    ///
    /// # Errors
    /// Fails as splice(2) does.
    pub(crate) fn poll_splice(
        &self,
        cx: &mut Context<'_>,
        pipe: &OwnedFd,
        most: usize,
    ) -> Poll<Result<usize, Errno>> {
        let mut core = self.core.borrow_mut();
        let Some(socket) = &core.socket else {
            return Poll::Ready(Ok(0));
        };
        loop {
            let Ok(mut guard) = ready!(socket.poll_read_ready(cx)) else {
                return Poll::Ready(Err(Errno::BADF));
            };
            let mut result = Ok(0);
            let tried = guard.try_io(|socket| {
                result = splice(socket, pipe, most);
                match result {
                    Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
                    _ => Ok(()),
                }
            });
            if tried.is_ok() {
                core.touched = self.thread.now();
                if let Ok(count) = result {
                    core.meter.add_bytes(Measure::Received, count);
                }
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
            core.touched = self.thread.now();
            core.progressed = core.touched;
        }
        result
    }

    /// Sends until the queue is empty.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let flushed = self.poll_flush_queue(cx);
        if let Poll::Ready(Ok(())) = flushed {
            let mut core = self.core.borrow_mut();
            // Bytes that wait for a handshake are not in the queue, but keep the
            // stream waiting.
            let waits = core.streams.waits_to_send() && core.is_handshaking();
            if !waits && let Some(sender) = core.streams.take_sender() {
                // The guest's sending stream has room now.
                sender.wake();
            }
        }
        flushed
    }

    fn poll_flush_queue(&self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        let mut sent = None;
        loop {
            if core.queue.is_empty() {
                if let Some(session) = &mut core.tls {
                    if session.is_handshaking() || session.stage().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    if let Some(bytes) = sent.take()
                        && self.turn.is_over(bytes)
                    {
                        self.turn.give_way(cx);
                        return Poll::Pending;
                    }
                    let mut out = Out {
                        socket: &core.socket,
                        meter: &core.meter,
                        queue: &mut core.queue,
                        error: None,
                    };
                    session.pump(&mut out).map_err(file_error)?;
                    if let Some(errno) = out.error {
                        return Poll::Ready(Err(errno.into()));
                    }
                    sent = Some(RECORD);
                    core.touched = self.thread.now();
                    core.progressed = core.touched;
                } else {
                    return Poll::Ready(Ok(()));
                }
            } else {
                let Some(socket) = &core.socket else {
                    return Poll::Ready(Ok(()));
                };
                let mut guard = ready!(socket.poll_write_ready(cx))?;
                if let Some(bytes) = sent.take()
                    && self.turn.is_over(bytes)
                {
                    self.turn.give_way(cx);
                    return Poll::Pending;
                }
                let mut count = 0;
                let result = guard.try_io(|socket| {
                    let sent = core.queue.send_front(socket.as_fd())?;
                    count = sent.count;
                    match sent.short && !has_room(socket) {
                        true => Err(io::ErrorKind::WouldBlock.into()),
                        false => Ok(()),
                    }
                });
                if count > 0 {
                    sent = Some(count);
                    core.meter.add_bytes(Measure::Sent, count);
                    core.touched = self.thread.now();
                    core.progressed = core.touched;
                }
                match result {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(Err(error)) => return Poll::Ready(Err(file_error(error))),
                    Err(_would_block) => {}
                }
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

    /// Shuts the sending side if that is due; in TLS, after `close_notify`.
    /// Returns true if something was done, so that there may be more to do.
    pub fn shut_if_due(&self) -> bool {
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
            let _ = rustix::net::shutdown(socket.fd(), Shutdown::Write);
        }
    }

    /// Ends the TLS session's sending side. The record is queued if the socket
    /// is full.
    pub fn say_close_notify(&self) {
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        if let Some(session) = &mut core.tls {
            let mut out = Out {
                socket: &core.socket,
                meter: &core.meter,
                queue: &mut core.queue,
                error: None,
            };
            session.close(&mut out);
        }
    }

    /// Drops the socket and everything queued.
    pub fn release(&self) {
        let mut core = self.core.borrow_mut();
        core.socket = None;
        core.queue = WriteQueue::default();
        core.tls = None;
        core.relay = None;
        core.fed_by = Weak::new();
        core.waker = None;
        core.permit = None;
        core.client = None;
        core.of_listener = None;
        core.upstream = None;
    }

    /// Ends a connection that no task drives any more, together with its
    /// relays. It sends a reset, so that a stream cut short does not look
    /// complete.
    pub(crate) fn abandon(&self) {
        let core = self.core.borrow();
        if core.socket.is_none() {
            return;
        }
        let target = core.relay.as_ref().map(|relay| Rc::clone(relay.target()));
        let feeder = core.fed_by.upgrade();
        drop(core);
        self.reset_on_close();
        self.release();
        self.wake_streams();
        self.thread.env.counters.connections_lost.add();
        for other in target.into_iter().chain(feeder) {
            if !std::ptr::eq(&*other, self) {
                other.reset_on_close();
                other.fail(ConnectionError::Aborted);
            }
        }
    }

    /// Counts and logs how the connection ended.
    pub fn record_end(&self, lost: &Lost) {
        let counters = &self.thread.env.counters;
        match lost {
            None => {
                counters.connections_closed.add();
                tracing::debug!(peer = %self.peer, "connection closed");
            }
            Some(reason) => {
                counters.connections_lost.add();
                tracing::info!(peer = %self.peer, %reason, "connection lost");
            }
        }
    }

    /// Makes the close send a reset, so that the peer cannot take a stream cut
    /// short for a complete one.
    pub fn reset_on_close(&self) {
        if let Some(socket) = &self.core.borrow().socket {
            let linger = Some(Duration::ZERO);
            let _ = rustix::net::sockopt::set_socket_linger(socket.fd(), linger);
        }
    }

    /// Sets the deadline of the present stage, or removes it.
    pub(crate) fn set_deadline(&self, deadline: Option<(Tick, &'static str)>) {
        self.core.borrow_mut().deadline = deadline;
    }

    /// Sets the alarm, which wakes the task, in place of the one before. Its
    /// time starts once the peer has acknowledged all that was sent: until then
    /// the peer's kernel is busy.
    pub fn set_alarm(&self, after: Option<Duration>) {
        self.set_alarm_at(after.map(|after| self.thread.tick_after(after)));
        self.core.borrow_mut().rest = after;
    }

    /// Like [`Self::set_alarm`], for a tick, whatever the peer has
    /// acknowledged.
    pub fn set_alarm_at(&self, tick: Option<Tick>) {
        let mut core = self.core.borrow_mut();
        core.alarm = tick;
        core.rest = None;
        core.rang = false;
    }

    /// True if the alarm has rung. Reported once.
    pub fn alarm_rang(&self) -> bool {
        std::mem::take(&mut self.core.borrow_mut().rang)
    }

    /// True if receiving is all there is to do. This is the usual case, decided
    /// by a few loads.
    pub fn only_receives(&self) -> bool {
        let core = self.core.borrow();
        core.flow.only_receives()
            && core.queue.is_empty()
            && core
                .tls
                .as_ref()
                .is_none_or(|session| !session.is_handshaking() && session.staged().0 == 0)
            && core.relay.is_none()
            && !core.wants_room
            && core.fed_by.strong_count() == 0
    }

    /// Returns how the connection ended; `None` if it goes on.
    pub fn over(&self) -> Option<Lost> {
        let core = self.core.borrow();
        core.flow.over(core.queued())
    }

    /// Returns what TLS agreed on if the guest is to be told now.
    pub(crate) fn started_tls(&self) -> Option<SessionInfo> {
        let mut core = self.core.borrow_mut();
        if !core.flow.has_started_tls() {
            return None;
        }
        core.tls.as_ref()?.info()
    }

    /// True if the guest is to be told of room.
    pub(crate) fn is_writable(&self) -> bool {
        let mut core = self.core.borrow_mut();
        // Bytes queued by a relay are not the guest's.
        let queued = if core.fed_by.strong_count() > 0 {
            0
        } else {
            core.queued()
        };
        core.flow.is_writable(queued)
    }
}
/// Guard of [`Transport::drive`].
#[derive(Debug)]
pub struct Driven<'a>(&'a Cell<bool>);

impl Drop for Driven<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// True if a socket that did not take everything has ample room again. For
/// poll(2) that is a third of its buffer. Without this check, the sender would
/// wake a slow reader for every few bytes of room that it makes.
fn has_room(socket: &OwnedFd) -> bool {
    let mut watched = [PollFd::new(socket, PollFlags::OUT)];
    // On error, the next attempt tells.
    !matches!(
        rustix::event::poll(&mut watched, Some(&Timespec::default())),
        Ok(0)
    )
}

/// Converts an error of sending; a file's own failure gets its own case.
fn file_error(error: io::Error) -> ConnectionError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        ConnectionError::FileShortened
    } else {
        error.into()
    }
}
