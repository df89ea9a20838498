//! Socket for hyper and tokio-rustls. `connect` returns one that the runtime
//! already watches.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use netwasm_base::meter::{Measure, Meter};
use netwasm_net::io::Watched;

/// Maximum of one receive, in bytes. Hyper parses it before it receives more,
/// and other tasks have their turn in between.
const MOST: usize = 64 << 10;

/// No SIGPIPE, no blocking.
const FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// A connected socket.
#[derive(Debug)]
pub(super) struct Plain {
    socket: Watched,
    meter: Arc<Meter>,
}

impl Plain {
    /// Wraps a socket whose bytes a meter counts.
    pub(super) fn new(socket: Watched, meter: &Arc<Meter>) -> Self {
        Self {
            socket,
            meter: Arc::clone(meter),
        }
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        send: impl Fn(&OwnedFd) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(self.socket.poll_send(cx, send))?;
        self.meter.add_bytes(Measure::Sent, sent);
        Poll::Ready(Ok(sent))
    }
}

impl AsFd for Plain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = buffer.remaining().min(MOST);
        let free = buffer.initialize_unfilled_to(most);
        let count = ready!(self.socket.poll_recv(cx, free))?;
        self.meter.add_bytes(Measure::Received, count);
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| Ok(rustix::net::send(socket, data, FLAGS)?))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        /// IOV_MAX of Linux.
        const MOST: usize = 1024;
        let slices = slices.get(..MOST).unwrap_or(slices);
        self.poll_send(cx, |socket| {
            let mut ancillary = SendAncillaryBuffer::default();
            Ok(rustix::net::sendmsg(socket, slices, &mut ancillary, FLAGS)?)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        rustix::net::shutdown(self.socket.fd(), Shutdown::Write)?;
        Poll::Ready(Ok(()))
    }
}
