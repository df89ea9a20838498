//! Byte stream of a connection to a server, which `h2` reads and writes.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use netwasm_base::error::ConnectionError;
use netwasm_net::thread::Tick;
use netwasm_net::transport::Transport;

use super::frames::FrameWatch;
use crate::sink;

/// Maximum of one receive, in bytes.
const PIECE: usize = 16 << 10;

/// State shared by the connection's driver and its [`WireIo`].
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) frames: RefCell<FrameWatch>,
    /// Time at which the server was last heard.
    pub(super) heard: Cell<Tick>,
    /// Bytes received since the turn was last checked.
    received: Cell<usize>,
    /// True if other tasks have their turn before more is received.
    pub(super) is_over: Cell<bool>,
    /// True if `h2` waits until the queue is sent.
    blocked: Cell<bool>,
}

impl Wire {
    /// True if `h2` waited until the queue was sent. Reported once.
    pub(super) fn take_blocked(&self) -> bool {
        self.blocked.take()
    }

    /// Begins a poll of the driver.
    pub(super) fn begin_turn(&self) {
        self.received.set(0);
        self.is_over.set(false);
    }
}

/// Adapter of a transport for `h2`. It registers no waker for writing: the
/// driver flushes, and then polls `h2` again.
pub(super) struct WireIo {
    transport: Rc<Transport>,
    wire: Rc<Wire>,
}

impl WireIo {
    pub(super) fn new(transport: &Rc<Transport>, wire: &Rc<Wire>) -> Self {
        Self {
            transport: Rc::clone(transport),
            wire: Rc::clone(wire),
        }
    }

    fn send(&self, slices: &[&[u8]]) -> Poll<io::Result<usize>> {
        sink::poll_write(&self.transport, &self.wire.blocked, slices)
    }
}

impl AsyncRead for WireIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { transport, wire } = &*self;
        if wire.is_over.get() {
            // The driver handles this.
            return Poll::Pending;
        }
        let received = wire.received.take();
        if received > 0 && transport.turn.is_over(received) {
            let more = transport.poll_receivable(cx).is_ready();
            wire.is_over.set(more);
            return Poll::Pending;
        }
        let mut scratch = transport.thread().scratch.borrow_mut();
        let room = buffer.remaining().min(PIECE);
        match ready!(transport.poll_receive_part(cx, &mut scratch, room)) {
            Ok(received) if received.is_end() => Poll::Ready(Ok(())),
            Ok(received) => {
                let received = scratch.get(received);
                wire.frames.borrow_mut().feed(received);
                wire.heard.set(transport.thread().now());
                wire.received.set(received.len());
                buffer.put_slice(received);
                Poll::Ready(Ok(()))
            }
            // Frames and messages tell their own ends, so TLS need not.
            Err(ConnectionError::TlsTruncated) => Poll::Ready(Ok(())),
            Err(reason) => {
                transport.fail(reason.clone());
                Poll::Ready(Err(io::Error::other(reason)))
            }
        }
    }
}

impl AsyncWrite for WireIo {
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
        sink::poll_flush(&self.transport, &self.wire.blocked)
    }

    /// Only flushes. The driver closes the connection.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
