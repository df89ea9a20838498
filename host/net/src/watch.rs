//! Watching descriptors from the runtime, and what their peers acknowledged.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the runtime of this thread watch a descriptor, which is non-blocking.
///
/// # Errors
/// What epoll_ctl(2) says.
#[expect(unsafe_code, reason = "tokio wants a promise about the descriptor")]
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor must stay open and the same as long as it is
    // watched. An `OwnedFd` owns it and never changes it, and `AsyncFd` ends
    // the watch before it drops it.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    watched.map_err(io::Error::from)
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
