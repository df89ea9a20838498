//! A descriptor that becomes readable when something has happened in the host.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// A descriptor that is readable from [`Notice::give`] to [`Notice::take`]
/// (eventfd(2)), so that a watch list can wait for what is no socket.
#[derive(Debug)]
pub struct Notice(OwnedFd);

impl Notice {
    /// Makes a descriptor that is not readable.
    ///
    /// # Errors
    /// Fails if no descriptor is left.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(eventfd(0, flags)?))
    }

    /// Makes the descriptor readable.
    pub fn give(&self) {
        // It fails only if the count is at its maximum, which is readable.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable.
    pub fn take(&self) {
        // It fails only if it is unreadable already.
        let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
    }
}

impl AsFd for Notice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
