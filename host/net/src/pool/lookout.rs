//! Watching the sockets of kept connections for what their peers do unasked,
//! without a system call for each: all are in one epoll(7) instance, which is
//! asked from time to time.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// How many sockets are told of at a time.
const EVENTS: usize = 256;

/// Sockets that are watched.
#[derive(Debug)]
pub(crate) struct Lookout {
    epoll: OwnedFd,
    /// The next number.
    next: AtomicU64,
}

impl Lookout {
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            next: AtomicU64::new(0),
        })
    }

    /// Watches a socket. Returns the number by which it is told of; `None`
    /// where the kernel watches no more.
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

    /// Watches a socket no more, which stays open.
    pub(super) fn remove(&self, socket: impl AsFd) {
        // It was added.
        let _ = epoll::delete(&self.epoll, socket);
    }

    /// The numbers of sockets that have something to read, or an end.
    pub(crate) fn stirred(&self) -> HashSet<u64> {
        let mut events = Vec::with_capacity(EVENTS);
        let now = Timespec::default();
        // A signal may interrupt it: the next time will do.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&now));
        events.iter().map(|event| event.data.u64()).collect()
    }
}
