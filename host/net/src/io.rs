//! Descriptors that the runtime watches, and what their peers acknowledged.
//! Only this module uses tokio's `AsyncFd`.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl};
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::task::coop::has_budget_remaining;

/// A non-blocking descriptor that the runtime of this thread watches.
#[derive(Debug)]
pub struct Watched {
    fd: AsyncFd<OwnedFd>,
    /// True if the next receive tries before it waits. The runtime knows of no
    /// readiness before it has looked.
    tries: AtomicBool,
    /// True until the runtime, or the kernel, was seen to know if there is something
    /// to read.
    new_to_read: AtomicBool,
    /// Like `new_to_read`, for writing.
    new_to_write: AtomicBool,
}

/// Readiness of a [`Watched`] descriptor, for reading or writing.
pub(crate) struct Ready<'a>(AsyncFdReadyGuard<'a, OwnedFd>);

/// The operation would have blocked.
pub(crate) struct NotReady;

impl Watched {
    /// Registers a descriptor with the runtime.
    ///
    /// # Errors
    /// Fails as epoll_ctl(2) does.
    #[expect(unsafe_code, reason = "tokio wants a promise about the descriptor")]
    pub fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        // SAFETY: the descriptor must stay open and unchanged while it is
        // registered. An `OwnedFd` owns it and never changes it, and `AsyncFd`
        // deregisters it before dropping it.
        let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
        Ok(Self {
            fd: watched?,
            tries: AtomicBool::new(false),
            new_to_read: AtomicBool::new(true),
            new_to_write: AtomicBool::new(true),
        })
    }

    /// Lets the next receive try before it waits, as bytes may have come.
    pub(crate) fn try_first(&self) {
        self.tries.store(true, Ordering::Relaxed);
    }

    /// Registers a socket for reading and writing.
    ///
    /// # Errors
    /// Fails as [`Self::new`] does.
    pub(crate) fn stream(fd: OwnedFd) -> io::Result<Self> {
        Self::new(fd, Interest::READABLE | Interest::WRITABLE)
    }

    /// Returns the descriptor.
    #[inline]
    pub fn fd(&self) -> &OwnedFd {
        self.fd.get_ref()
    }

    /// Deregisters the descriptor from the runtime.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd.into_inner()
    }

    /// Waits until the descriptor is readable.
    #[inline]
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready<'_>>> {
        self.fd.poll_read_ready(cx).map_ok(Ready)
    }

    /// Waits until the descriptor is writable.
    #[inline]
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready<'_>>> {
        self.fd.poll_write_ready(cx).map_ok(Ready)
    }

    /// Like [`Self::poll_read_ready`], but asks the kernel as long as the runtime may
    /// not have looked at a new descriptor.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.poll_read_ready(cx).map_ok(drop);
        self.at_first(polled, &self.new_to_read, PollFlags::IN)
    }

    /// Like [`Self::poll_readable`], for writing.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.poll_write_ready(cx).map_ok(drop);
        self.at_first(polled, &self.new_to_write, PollFlags::OUT)
    }

    fn at_first(
        &self,
        polled: Poll<io::Result<()>>,
        is_new: &AtomicBool,
        flags: PollFlags,
    ) -> Poll<io::Result<()>> {
        if !is_new.load(Ordering::Relaxed) {
            return polled;
        }
        if polled.is_pending() {
            // The runtime shows nothing to a task that is to give way.
            if !has_budget_remaining() {
                return polled;
            }
            if self.is_ready_now(flags) {
                return Poll::Ready(Ok(()));
            }
        }
        // From here on, a change of the descriptor wakes the task.
        is_new.store(false, Ordering::Relaxed);
        polled
    }

    /// Asks the kernel if the descriptor is ready for `flags` now. On error it is:
    /// the operation tells.
    pub(crate) fn is_ready_now(&self, flags: PollFlags) -> bool {
        let mut watched = [PollFd::new(self, flags)];
        !matches!(
            rustix::event::poll(&mut watched, Some(&Timespec::default())),
            Ok(0)
        )
    }

    /// Waits for any readiness of `interest`, or an error.
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready<'_>> {
        self.fd.ready(interest).await.map(Ready)
    }

    /// Waits until the descriptor is writable.
    pub(crate) async fn writable(&self) -> io::Result<Ready<'_>> {
        self.fd.writable().await.map(Ready)
    }

    /// Tries an operation that may find no room, and keeps the runtime's record
    /// of readiness correct.
    pub(crate) fn try_write<R>(
        &self,
        operation: impl FnOnce(&OwnedFd) -> io::Result<R>,
    ) -> io::Result<R> {
        self.fd.try_io(Interest::WRITABLE, operation)
    }

    /// Performs an operation: now if possible, as the runtime may not have looked
    /// yet, or as soon as the descriptor is ready for it.
    ///
    /// # Errors
    /// Fails as the operation does.
    pub async fn when<R>(
        &self,
        interest: Interest,
        mut operation: impl FnMut(&OwnedFd) -> io::Result<R>,
    ) -> io::Result<R> {
        // One that always succeeds lets other tasks run now and then.
        tokio::task::consume_budget().await;
        match operation(self.fd()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            performed => return performed,
        }
        self.fd.async_io(interest, operation).await
    }

    /// Receives as soon as bytes arrive; 0 is the end.
    ///
    /// # Errors
    /// Fails as recv(2) does.
    pub fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.tries.load(Ordering::Relaxed) && self.tries.swap(false, Ordering::Relaxed) {
            match rustix::net::recv(self.fd(), &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((count, _)) => return Poll::Ready(Ok(count)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        loop {
            let mut guard = ready!(self.poll_read_ready(cx))?;
            let mut short = None;
            let result = guard.try_io(|fd| {
                let (count, _) = rustix::net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT)?;
                if 0 < count && count < buffer.len() {
                    // The socket is empty now. Treating that as EAGAIN saves
                    // the call that would only say so.
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

    /// True if nothing has arrived, not even an end, as far as the runtime has looked.
    /// Data that has arrived is lost.
    pub(crate) fn has_nothing(&self, buffer: &mut [u8]) -> bool {
        let received = self.fd.try_io(Interest::READABLE, |fd| {
            let (count, _) = rustix::net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT)?;
            Ok(count)
        });
        matches!(received, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes by `send`, a call like send(2), as soon as there is room.
    ///
    /// # Errors
    /// Fails as `send` does.
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
    /// Performs an operation. If it says `WouldBlock`, clears the readiness.
    #[inline]
    pub(crate) fn try_io<R>(
        &mut self,
        operation: impl FnOnce(&OwnedFd) -> io::Result<R>,
    ) -> Result<io::Result<R>, NotReady> {
        let tried = self.0.try_io(|watched| operation(watched.get_ref()));
        tried.map_err(|_would_block| NotReady)
    }

    /// True if the peer has ended its stream, or the connection is lost.
    pub(crate) fn is_read_closed(&self) -> bool {
        self.0.ready().is_read_closed()
    }

    /// Clears the readiness, which the caller found to be gone.
    pub(crate) fn clear(&mut self) {
        self.0.clear_ready();
    }

    /// True if the descriptor has an error to report.
    pub(crate) fn is_error(&self) -> bool {
        self.0.ready().is_error()
    }
}

/// Takes a descriptor that this process was started with, by its number;
/// `None` if there is none. It is not passed on to children.
///
/// # Safety
/// This takes the descriptor from whoever else uses the number, so the caller
/// must know that it was passed to this process, and take it once only.
#[expect(
    unsafe_code,
    reason = "a number is all that says which descriptor it is"
)]
pub(crate) unsafe fn inherited(number: i32) -> Option<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: it is borrowed only for this call, which fails if there is none.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC).ok()?;
    // SAFETY: it is open, and the caller says that nobody else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Returns the bytes in a TCP socket's send queue that the peer has not
/// acknowledged, sent or not (SIOCOUTQ of tcp(7)). For a Unix socket, returns
/// the memory that holds what the peer has not read (unix(7)).
///
/// # Errors
/// Fails if the descriptor is no such socket.
#[expect(unsafe_code, reason = "rustix has no safe call for it")]
pub fn unacknowledged(socket: impl AsFd) -> Result<u64, Errno> {
    /// SIOCOUTQ, which has the number of TIOCOUTQ.
    const OUTQ: Opcode = libc::TIOCOUTQ as Opcode;
    // SAFETY: this request writes one int, and nothing else.
    let count = unsafe { ioctl(socket, Getter::<OUTQ, c_int>::new()) }?;
    Ok(u64::try_from(count).unwrap_or(0))
}
