//! The connection as the `h2` crate reads and writes it.
//!
//! To `h2` the end of what a client sends is the end of every stream. A client
//! may send nothing more and still want its responses, so that end is kept from
//! it until they are sent: it gets the frames instead by which the client would
//! have said as much.

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

/// The most that is received at once, bytes.
const PIECE: usize = 16 << 10;

/// What the connection's driver and what `h2` reads through both see.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) meter: RefCell<Meter>,
    pub(super) screen: RefCell<Screen>,
    /// Bytes that were received since it was last asked whether the round is over.
    received: Cell<usize>,
    /// True if others have their turn before more is received.
    over: Cell<bool>,
    /// Whether nothing more can be received in this turn.
    dry: Cell<bool>,
    /// Whether something waits until what is queued is sent.
    blocked: Cell<bool>,
    ending: RefCell<Ending>,
    /// When the meter was last given credit.
    credited: Cell<Tick>,
}

/// Whether the client may send more, and what `h2` learns where it does not.
#[derive(Debug, Default)]
enum Ending {
    #[default]
    No,
    /// It has ended its stream; the driver is to say what follows.
    Noticed,
    /// These bytes are still to be read, and no end.
    Saying(Vec<u8>),
    /// The end.
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
    }

    /// Whether the client has ended its stream, and `h2` does not know yet.
    pub(super) fn end_is_noticed(&self) -> bool {
        matches!(*self.ending.borrow(), Ending::Noticed)
    }

    /// Has `h2` read these bytes, and then wait for ever.
    pub(super) fn say(&self, last: Vec<u8>) {
        self.ending.replace(Ending::Saying(last));
    }

    /// Counts what was received, and returns it unless it is too much.
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

    /// Has `h2` know of the end.
    pub(super) fn tell_end(&self) {
        self.ending.replace(Ending::Told);
    }

    pub(super) fn turn_is_over(&self) -> bool {
        self.over.get()
    }

    /// The driver has taken all requests of which `h2` knows. If `h2` has asked for
    /// more than it was given, it knows of all there were.
    pub(super) fn all_are_taken(&self) {
        if self.dry.get() || self.over.get() {
            self.screen.borrow_mut().forget();
        }
    }

    /// Whether something waited until what was queued is sent; told once.
    pub(super) fn take_blocked(&self) -> bool {
        self.blocked.take()
    }
}

/// A transport between bytes and frames. It leaves no waker behind for what is
/// to be sent: the driver flushes, and lets `h2` go on after that.
pub(super) struct Io {
    transport: Rc<Transport>,
    gate: Rc<Gate>,
    /// What came before it was known what it is.
    kept: Vec<u8>,
    /// What was looked at and did not fit where it was read to.
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

    /// Has the screen look at what has come, and hands over what it lets through.
    /// False if that is nothing for now.
    fn hand_over(&mut self, received: &[u8], buffer: &mut ReadBuf<'_>) -> bool {
        let mut screen = self.gate.screen.borrow_mut();
        let screened = screen.screen(received);
        let (now, later) = screened.split_at(screened.len().min(buffer.remaining()));
        buffer.put_slice(now);
        // It is empty: nothing is received before it is read.
        self.screened = Bytes::copy_from_slice(later);
        !now.is_empty()
    }

    /// Receives a piece. False if more is needed before there is something to
    /// read.
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
        if received > 0 && self.transport.turn.is_over(received) {
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
            // Frames and messages tell their ends.
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
        if let Some(reason) = self.transport.failure() {
            return Poll::Ready(Err(io::Error::other(reason)));
        }
        if self.transport.queued() > 0 {
            self.gate.blocked.set(true);
            return Poll::Pending;
        }
        let count = slices.iter().map(|slice| slice.len()).sum();
        self.transport.turn.note(count);
        self.gate.meter.borrow_mut().sent(count);
        match slices {
            [slice] => self.transport.write(slice),
            slices => self.transport.write_vectored(slices),
        }
        Poll::Ready(Ok(count))
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
            // The driver sees to it.
            return Poll::Pending;
        }
        if !this.screened.is_empty() {
            let count = this.screened.len().min(buffer.remaining());
            buffer.put_slice(&this.screened.split_to(count));
            return Poll::Ready(Ok(()));
        }
        match &mut *this.gate.ending.borrow_mut() {
            // Asked before, it will wake the task.
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
        // A frame's head and what it carries.
        match slices {
            [] => Poll::Ready(Ok(0)),
            [one] => self.send(&[one]),
            [one, two] => self.send(&[one, two]),
            more => {
                let slices: Vec<&[u8]> = more.iter().map(|slice| &**slice).collect();
                self.send(&slices)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(reason) = self.transport.failure() {
            return Poll::Ready(Err(io::Error::other(reason)));
        }
        if self.transport.queued() > 0 {
            self.gate.blocked.set(true);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// The driver closes, in the way in which every connection is closed.
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
