//! Watching descriptors from the runtime.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the runtime of this thread watch a descriptor, which is non-blocking.
///
/// # Errors
/// What epoll_ctl(2) says.
#[expect(unsafe_code, reason = "tokio wants a promise about the descriptor")]
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor must stay open and the same as long as it is
    // watched. An `OwnedFd` owns it and never changes it, and `AsyncFd` ends
    // the watch before it drops it.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    watched.map_err(io::Error::from)
}
