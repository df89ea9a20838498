//! The connection as the `h2` crate reads and writes it.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::ConnectionError;
use crate::http::http2::meter::Meter;
use crate::transport::Transport;
use crate::worker::Tick;

/// The most that is received at once, bytes.
const PIECE: usize = 16 << 10;

/// How many pieces are received before other connections have their turn.
const TURN: u32 = 32;

/// What the connection's driver and what `h2` reads through both see.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) meter: RefCell<Meter>,
    /// How many pieces may still be received in this turn.
    pieces: Cell<u32>,
    /// Whether something waits until what is queued is sent.
    blocked: Cell<bool>,
    /// When the meter was last given credit.
    credited: Cell<Tick>,
}

impl Gate {
    pub(super) fn begin_turn(&self) {
        self.pieces.set(TURN);
    }

    pub(super) fn turn_is_over(&self) -> bool {
        self.pieces.get() == 0
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
}

impl Io {
    pub(super) fn new(transport: &Rc<Transport>, gate: &Rc<Gate>, kept: Vec<u8>) -> Self {
        Self {
            transport: Rc::clone(transport),
            gate: Rc::clone(gate),
            kept,
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
        let pieces = this.gate.pieces.get();
        if pieces == 0 || this.gate.meter.borrow().flood().is_some() {
            // The driver sees to it.
            return Poll::Pending;
        }
        let room = buffer.remaining().min(PIECE);
        let place = buffer.initialize_unfilled_to(room);
        let count = if this.kept.is_empty() {
            this.gate.pieces.set(pieces - 1);
            match ready!(this.transport.poll_receive_into(cx, place)) {
                Ok(count) => count,
                // Frames and messages tell their ends.
                Err(ConnectionError::TlsTruncated) => 0,
                Err(reason) => {
                    this.transport.fail(reason.clone());
                    return Poll::Ready(Err(io::Error::other(reason)));
                }
            }
        } else {
            let count = this.kept.len().min(room);
            for (to, from) in place.iter_mut().zip(this.kept.drain(..count)) {
                *to = from;
            }
            count
        };
        let worker = this.transport.worker();
        let mut meter = this.gate.meter.borrow_mut();
        if worker.passed(this.gate.credited.get(), Duration::from_secs(1)) {
            this.gate.credited.set(worker.now());
            meter.second_passed();
        }
        meter.received(place.get(..count).unwrap_or_default(), worker.now());
        if meter.flood().is_some() {
            return Poll::Pending;
        }
        buffer.advance(count);
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
