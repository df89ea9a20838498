//! Watches the sockets of kept connections for anything that their peers do
//! unasked. All sockets are in one epoll(7) instance, polled from time to time,
//! which saves a system call for each.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// Maximum of sockets reported at a time.
const EVENTS: usize = 256;

/// The watched sockets.
#[derive(Debug)]
pub(crate) struct Lookout {
    epoll: OwnedFd,
    /// Number of the next socket.
    next: AtomicU64,
}

impl Lookout {
    /// Creates an empty lookout.
    ///
    /// # Errors
    /// Fails if no descriptor is left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            next: AtomicU64::new(0),
        })
    }

    /// Watches a socket. Returns its number for [`Self::stirred`], or `None` if
    /// the kernel watches no more.
    pub(super) fn add(&self, socket: impl AsFd) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let data = EventData::new_u64(number);
        epoll::add(
            &self.epoll,
            socket,
            data,
            EventFlags::IN | EventFlags::RDHUP,
        )
        .ok()?;
        Some(number)
    }

    /// Stops watching a socket, which stays open.
    pub(super) fn remove(&self, socket: impl AsFd) {
        // It cannot fail: the socket was added.
        let _ = epoll::delete(&self.epoll, socket);
    }

    /// Returns the numbers of sockets that have something to read, or an end.
    pub(crate) fn stirred(&self) -> HashSet<u64> {
        let mut events = Vec::with_capacity(EVENTS);
        let now = Timespec::default();
        // A signal may interrupt the call. The next call will do.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&now));
        events.iter().map(|event| event.data.u64()).collect()
    }
}
