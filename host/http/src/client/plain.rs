//! A socket as hyper and tokio-rustls want it: `connect` gives one that the
//! runtime watches already.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are received at once: hyper takes them apart before it receives
/// more, and others have their turn in between.
const MOST: usize = 64 << 10;

/// A connected socket.
#[derive(Debug)]
pub(super) struct Plain(AsyncFd<OwnedFd>);

impl From<AsyncFd<OwnedFd>> for Plain {
    fn from(socket: AsyncFd<OwnedFd>) -> Self {
        Self(socket)
    }
}

impl AsFd for Plain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Plain {
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        send: impl Fn(&OwnedFd, SendFlags) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match guard.try_io(|socket| send(socket.get_ref(), flags)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let most = buffer.remaining().min(MOST);
            let free = buffer.initialize_unfilled_to(most);
            let size = free.len();
            let mut count = 0;
            let tried = guard.try_io(|socket| {
                count = rustix::net::recv(socket.get_ref(), &mut *free, RecvFlags::DONTWAIT)?.0;
                match 0 < count && count < size {
                    // The socket is empty now, which is as good as EAGAIN.
                    true => Err(io::ErrorKind::WouldBlock.into()),
                    false => Ok(()),
                }
            });
            match tried {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) if count == 0 => continue,
                Ok(Ok(())) | Err(_) => {}
            }
            buffer.advance(count);
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket, flags| {
            Ok(rustix::net::send(socket, data, flags)?)
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        /// IOV_MAX of Linux.
        const MOST: usize = 1024;
        let slices = slices.get(..MOST).unwrap_or(slices);
        self.poll_send(cx, |socket, flags| {
            let mut ancillary = SendAncillaryBuffer::default();
            Ok(rustix::net::sendmsg(socket, slices, &mut ancillary, flags)?)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        rustix::net::shutdown(self.0.get_ref(), Shutdown::Write)?;
        Poll::Ready(Ok(()))
    }
}
