//! Byte stream that the `h2` crate reads and writes.
//!
//! To `h2`, the end of input is the end of every stream. But a client may
//! half-close and still want its responses. So the end is hidden from `h2`
//! until they are sent. Instead `h2` reads the frames by which the client would
//! have said that it sends no more.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use netwasm_base::error::ConnectionError;
use netwasm_net::thread::Tick;
use netwasm_net::transport::Transport;

use crate::h2::meter::Meter;
use crate::h2::screen::Screen;
use crate::sink;

/// Maximum of one receive, in bytes.
const PIECE: usize = 16 << 10;

/// State shared by the connection's driver and the [`Io`] that `h2` reads.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) meter: RefCell<Meter>,
    pub(super) screen: RefCell<Screen>,
    /// Bytes received since the turn was last checked.
    received: Cell<usize>,
    /// True if other tasks have their turn before more is received.
    over: Cell<bool>,
    /// True if nothing more can be received in this turn.
    dry: Cell<bool>,
    /// True if `h2` waits until the queue is sent.
    blocked: Cell<bool>,
    ending: RefCell<Ending>,
    /// Time at which the meter last got credit.
    credited: Cell<Tick>,
}

/// State of the input's end, and what `h2` knows of it.
#[derive(Debug, Default)]
enum Ending {
    #[default]
    No,
    /// The client has half-closed. The driver decides what `h2` reads next.
    Noticed,
    /// `h2` still reads these bytes, and no end.
    Saying(Vec<u8>),
    /// `h2` reads the end.
    Told,
}

impl Gate {
    /// One for heads of up to so many bytes, as `h2` knows them.
    pub(super) fn new(max_head: usize) -> Self {
        Self {
            screen: RefCell::new(Screen::new(max_head)),
            ..Self::default()
        }
    }

    pub(super) fn begin_turn(&self) {
        self.received.set(0);
        self.over.set(false);
        self.dry.set(false);
        self.meter.borrow_mut().begin_turn();
    }

    /// True if the client has half-closed and `h2` does not know yet.
    pub(super) fn end_is_noticed(&self) -> bool {
        matches!(*self.ending.borrow(), Ending::Noticed)
    }

    /// Lets `h2` read these bytes, and then wait for ever.
    pub(super) fn say(&self, last: Vec<u8>) {
        self.ending.replace(Ending::Saying(last));
    }

    /// Counts what was received. Returns it, or `None` after a flood.
    fn note<'a>(&self, received: &'a [u8], transport: &Transport) -> Option<&'a [u8]> {
        let thread = transport.thread();
        let mut meter = self.meter.borrow_mut();
        if thread.passed(self.credited.get(), Duration::from_secs(1)) {
            self.credited.set(thread.now());
            meter.second_passed();
        }
        meter.received(received, thread.now());
        meter.flood().is_none().then_some(received)
    }

    /// Lets `h2` read the end.
    pub(super) fn tell_end(&self) {
        self.ending.replace(Ending::Told);
    }

    pub(super) fn turn_is_over(&self) -> bool {
        self.over.get()
    }

    /// Notes that the driver has taken all requests that `h2` knows. If `h2` has
    /// asked for more than it was given, those are all there were.
    pub(super) fn all_are_taken(&self) {
        if self.dry.get() || self.over.get() {
            self.screen.borrow_mut().forget();
        }
    }

    /// True if `h2` waited until the queue was sent. Reported once.
    pub(super) fn take_blocked(&self) -> bool {
        self.blocked.take()
    }
}

/// Adapter of a transport for `h2`. It registers no waker for writing: the
/// driver flushes, and then polls `h2` again.
pub(super) struct Io {
    transport: Rc<Transport>,
    gate: Rc<Gate>,
    /// Bytes received before the protocol was known to be HTTP/2.
    kept: Vec<u8>,
    /// Screened bytes that did not fit into the reader's buffer.
    screened: Bytes,
}

impl Io {
    pub(super) fn new(transport: &Rc<Transport>, gate: &Rc<Gate>, kept: Vec<u8>) -> Self {
        Self {
            transport: Rc::clone(transport),
            gate: Rc::clone(gate),
            kept,
            screened: Bytes::new(),
        }
    }

    /// Screens what was received, and hands over the result. Returns false if
    /// there is nothing to read for now.
    fn hand_over(&mut self, received: &[u8], buffer: &mut ReadBuf<'_>) -> bool {
        let mut screen = self.gate.screen.borrow_mut();
        let screened = screen.screen(received);
        let (now, later) = screened.split_at(screened.len().min(buffer.remaining()));
        buffer.put_slice(now);
        // It is empty: nothing is received before it is read.
        self.screened = Bytes::copy_from_slice(later);
        !now.is_empty()
    }

    /// Receives a piece. Returns false if more is needed before there is
    /// something to read.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let room = buffer.remaining().min(PIECE);
        if !self.kept.is_empty() {
            let later = self.kept.split_off(room.min(self.kept.len()));
            let kept = std::mem::replace(&mut self.kept, later);
            let noted = self.gate.note(&kept, &self.transport);
            return match noted {
                Some(kept) => Poll::Ready(Ok(self.hand_over(kept, buffer))),
                None => Poll::Pending,
            };
        }
        let received = self.gate.received.take();
        let is_over = received > 0 && self.transport.turn.is_over(received);
        if is_over || self.gate.meter.borrow().has_many_small() {
            match self.transport.poll_receivable(cx) {
                Poll::Ready(()) => self.gate.over.set(true),
                Poll::Pending => self.gate.dry.set(true),
            }
            return Poll::Pending;
        }
        let transport = Rc::clone(&self.transport);
        let mut scratch = transport.thread().scratch.borrow_mut();
        match self.transport.poll_receive_part(cx, &mut scratch, room) {
            Poll::Pending => {
                self.gate.dry.set(true);
                Poll::Pending
            }
            Poll::Ready(Ok(received)) if received.is_end() => {
                self.gate.ending.replace(Ending::Noticed);
                Poll::Pending
            }
            Poll::Ready(Ok(received)) => {
                let received = scratch.get(received);
                self.gate.received.set(received.len());
                let Some(received) = self.gate.note(received, &self.transport) else {
                    return Poll::Pending;
                };
                Poll::Ready(Ok(self.hand_over(received, buffer)))
            }
            // Frames and messages tell their own ends, so TLS need not.
            Poll::Ready(Err(ConnectionError::TlsTruncated)) => {
                self.gate.tell_end();
                Poll::Ready(Ok(true))
            }
            Poll::Ready(Err(reason)) => {
                self.transport.fail(reason.clone());
                Poll::Ready(Err(io::Error::other(reason)))
            }
        }
    }

    fn send(&self, slices: &[&[u8]]) -> Poll<io::Result<usize>> {
        let sent = sink::poll_write(&self.transport, &self.gate.blocked, slices);
        if let Poll::Ready(Ok(count)) = sent {
            self.gate.meter.borrow_mut().sent(count);
        }
        sent
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.gate.over.get() || this.gate.meter.borrow().flood().is_some() {
            // The driver handles this.
            return Poll::Pending;
        }
        if !this.screened.is_empty() {
            let count = this.screened.len().min(buffer.remaining());
            buffer.put_slice(&this.screened.split_to(count));
            return Poll::Ready(Ok(()));
        }
        match &mut *this.gate.ending.borrow_mut() {
            // The transport was polled before and will wake the task.
            Ending::No if this.gate.dry.get() => return Poll::Pending,
            Ending::No => {}
            Ending::Noticed => return Poll::Pending,
            Ending::Saying(last) if last.is_empty() => return Poll::Pending,
            Ending::Saying(last) => {
                let count = last.len().min(buffer.remaining());
                buffer.put_slice(last.get(..count).unwrap_or_default());
                last.drain(..count);
                return Poll::Ready(Ok(()));
            }
            Ending::Told => return Poll::Ready(Ok(())),
        }
        while !std::task::ready!(this.poll_receive(cx, buffer))? {}
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.send(&[data])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        sink::with_slices(slices, |slices| self.send(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        sink::poll_flush(&self.transport, &self.gate.blocked)
    }

    /// Only flushes. The driver closes, as it closes every connection.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h2::PREFACE;

    #[test]
    fn targets_that_h2_has_refused_are_forgotten_once_all_requests_are_taken() {
        let gate = Gate::new(1000);
        let request = b"\0\0\x05\x01\x05\0\0\0\x01\x82\x04\x02/<";
        let again = || {
            let input = [PREFACE, request].concat();
            gate.screen.replace(Screen::default());
            gate.screen.borrow_mut().screen(&input);
        };
        again();
        // There may be a request that h2 has yet to read.
        gate.all_are_taken();
        assert!(gate.screen.borrow_mut().take(1).is_some());
        for asked in [&gate.dry, &gate.over] {
            again();
            asked.set(true);
            gate.all_are_taken();
            assert!(gate.screen.borrow_mut().take(1).is_none());
            gate.begin_turn();
        }
    }
}
