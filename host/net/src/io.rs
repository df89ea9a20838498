//! Descriptors that the runtime watches, and what their peers acknowledged. The
//! one place that knows tokio's `AsyncFd`.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl};
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

/// A non-blocking descriptor that the runtime of this thread watches.
#[derive(Debug)]
pub struct Watched(AsyncFd<OwnedFd>);

/// What is known of a [`Watched`] one: it may be read or written.
pub(crate) struct Ready<'a>(AsyncFdReadyGuard<'a, OwnedFd>);

/// An operation found that it was not ready after all.
pub(crate) struct NotReady;

impl Watched {
    /// Has the runtime watch a descriptor.
    ///
    /// # Errors
    /// What epoll_ctl(2) says.
    #[expect(unsafe_code, reason = "tokio wants a promise about the descriptor")]
    pub fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        // SAFETY: the descriptor must stay open and the same as long as it is
        // watched. An `OwnedFd` owns it and never changes it, and `AsyncFd` ends
        // the watch before it drops it.
        let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
        watched.map(Self).map_err(io::Error::from)
    }

    /// A socket, to be read and written.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub(crate) fn stream(fd: OwnedFd) -> io::Result<Self> {
        Self::new(fd, Interest::READABLE | Interest::WRITABLE)
    }

    /// The descriptor itself.
    #[inline]
    pub fn fd(&self) -> &OwnedFd {
        self.0.get_ref()
    }

    /// Has the runtime watch it no more.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.0.into_inner()
    }

    /// Waits until it may be read.
    #[inline]
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready<'_>>> {
        self.0.poll_read_ready(cx).map_ok(Ready)
    }

    /// Waits until it may be written.
    #[inline]
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready<'_>>> {
        self.0.poll_write_ready(cx).map_ok(Ready)
    }

    /// The same, for either or an error.
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready<'_>> {
        self.0.ready(interest).await.map(Ready)
    }

    /// Waits until it can be written.
    pub(crate) async fn writable(&self) -> io::Result<Ready<'_>> {
        self.0.writable().await.map(Ready)
    }

    /// Tries an operation that may find no room, keeping the runtime's idea of
    /// its readiness right.
    pub(crate) fn try_write<R>(
        &self,
        operation: impl FnOnce(&OwnedFd) -> io::Result<R>,
    ) -> io::Result<R> {
        self.0.try_io(Interest::WRITABLE, operation)
    }

    /// Does something as soon as that is possible.
    pub(crate) async fn when<R>(
        &self,
        interest: Interest,
        operation: impl FnMut(&OwnedFd) -> io::Result<R>,
    ) -> io::Result<R> {
        self.0.async_io(interest, operation).await
    }

    /// Receives as soon as there is something, or the end: 0.
    ///
    /// # Errors
    /// Those of recv(2).
    pub fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.poll_read_ready(cx))?;
            let mut short = None;
            let result = guard.try_io(|fd| {
                let (count, _) = rustix::net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT)?;
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
                (None, Err(NotReady)) => {}
            }
        }
    }

    /// Writes, by some call of send(2)'s kind, as soon as there is room.
    ///
    /// # Errors
    /// Those of the call.
    pub fn poll_send(
        &self,
        cx: &mut Context<'_>,
        send: impl Fn(&OwnedFd) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.poll_write_ready(cx))?;
            match guard.try_io(&send) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(NotReady) => {}
            }
        }
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd().as_fd()
    }
}

impl Ready<'_> {
    /// Does something; where that says `WouldBlock`, it is not ready any more.
    #[inline]
    pub(crate) fn try_io<R>(
        &mut self,
        operation: impl FnOnce(&OwnedFd) -> io::Result<R>,
    ) -> Result<io::Result<R>, NotReady> {
        let tried = self.0.try_io(|watched| operation(watched.get_ref()));
        tried.map_err(|_would_block| NotReady)
    }

    /// It is not ready, as was found by other means.
    pub(crate) fn clear(&mut self) {
        self.0.clear_ready();
    }

    /// Whether there is an error to be read.
    pub(crate) fn is_error(&self) -> bool {
        self.0.ready().is_error()
    }
}

/// Bytes that a TCP socket has taken and its peer has not acknowledged, sent or
/// not (SIOCOUTQ of tcp(7)). For a Unix socket, memory that holds what the peer
/// has not read (unix(7)).
///
/// # Errors
/// The descriptor is no such socket.
#[expect(unsafe_code, reason = "rustix has no safe call for it")]
pub fn unacknowledged(socket: impl AsFd) -> Result<u64, Errno> {
    /// SIOCOUTQ has the same number.
    const OUTQ: Opcode = libc::TIOCOUTQ as Opcode;
    // SAFETY: this request writes one int, and nothing else.
    let count = unsafe { ioctl(socket, Getter::<OUTQ, c_int>::new()) }?;
    Ok(u64::try_from(count).unwrap_or(0))
}
