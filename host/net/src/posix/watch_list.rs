//! A program's epoll(7).

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use tokio::io::Interest;

use crate::io::Watched;

/// Maximum of what one call returns.
const MOST: usize = 1024;

/// Bits that may be watched for, and are returned: those of epoll_ctl(2) that
/// concern one program alone.
const KNOWN: EventFlags = EventFlags::IN
    .union(EventFlags::PRI)
    .union(EventFlags::OUT)
    .union(EventFlags::ERR)
    .union(EventFlags::HUP)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ONESHOT)
    .union(EventFlags::ET);

/// A watched number, and the bits of epoll(7) that it is ready for.
pub type Readiness = (u32, u32);

/// Descriptors that a program watches, by its numbers for them.
///
/// The runtime watches the list itself, so a turn costs what is ready, however
/// much is watched.
#[derive(Debug)]
pub struct WatchList {
    epoll: Watched,
    /// Numbers in the list, and what each is watched for.
    watched: RefCell<HashMap<u32, EventFlags>>,
    /// Buffer for what is ready, kept between calls.
    events: RefCell<Vec<MaybeUninit<Event>>>,
}

impl WatchList {
    /// Makes an empty list, watched by the runtime of this thread.
    ///
    /// # Errors
    /// Fails if no descriptor is left.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self {
            epoll: Watched::new(epoll, Interest::READABLE)?,
            watched: RefCell::default(),
            events: RefCell::default(),
        })
    }

    /// Watches a descriptor under a number, or changes what it is watched for.
    ///
    /// # Errors
    /// `INVAL`: there are unknown bits. Otherwise fails as epoll_ctl(2) does.
    pub fn watch(&self, number: u32, fd: BorrowedFd<'_>, bits: u32) -> Result<(), Errno> {
        let flags = EventFlags::from_bits_retain(bits);
        if !KNOWN.contains(flags) {
            return Err(Errno::INVAL);
        }
        let data = EventData::new_u64(number.into());
        let mut watched = self.watched.borrow_mut();
        match watched.contains_key(&number) {
            true => epoll::modify(&self.epoll, fd, data, flags)?,
            false => epoll::add(&self.epoll, fd, data, flags)?,
        }
        watched.insert(number, flags);
        Ok(())
    }

    /// Reports a descriptor once more that is watched for changes only
    /// (`EPOLLET`) and is still ready, though its owner was told otherwise.
    pub fn repeat(&self, number: u32, fd: BorrowedFd<'_>) {
        let flags = self.watched.borrow().get(&number).copied();
        // A program sets EPOLLONESHOT again by itself.
        let Some(flags) = flags
            .filter(|flags| flags.contains(EventFlags::ET) && !flags.contains(EventFlags::ONESHOT))
        else {
            return;
        };
        // The number is in the list, so only a lack of memory can fail this.
        let _ = epoll::modify(&self.epoll, fd, EventData::new_u64(number.into()), flags);
    }

    /// Takes a number out of the list. Returns false if it was not in there.
    ///
    /// To be called before the descriptor is closed: the kernel forgets it only
    /// with its last duplicate.
    pub fn forget(&self, number: u32, fd: BorrowedFd<'_>) -> bool {
        let was = self.watched.borrow_mut().remove(&number).is_some();
        if was {
            // Whatever it says, the number is not in the list any more.
            let _ = epoll::delete(&self.epoll, fd);
        }
        was
    }

    /// Returns what is ready now, at most `most`, without waiting.
    ///
    /// # Errors
    /// Fails as epoll_wait(2) does.
    pub fn ready(&self, most: usize) -> Result<Vec<Readiness>, Errno> {
        let most = most.clamp(1, MOST);
        let mut events = self.events.borrow_mut();
        if events.len() < most {
            events.resize(most, MaybeUninit::uninit());
        }
        let room = events.get_mut(..most).unwrap_or_default();
        let found = loop {
            match epoll::wait(&self.epoll, &mut *room, Some(&Timespec::default())) {
                Err(Errno::INTR) => {}
                Ok((found, _)) => break found,
                Err(errno) => return Err(errno),
            }
        };
        let ready = found.iter().map(|event| {
            let Event { flags, data, .. } = *event;
            (u32::try_from(data.u64()).unwrap_or_default(), flags.bits())
        });
        Ok(ready.collect())
    }

    /// Waits until something is ready, and returns it, at most `most`.
    ///
    /// # Errors
    /// Fails as epoll_wait(2) does, or if the runtime is ending.
    pub fn poll_ready(
        &self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<Vec<Readiness>>> {
        loop {
            let mut readiness = ready!(self.epoll.poll_read_ready(cx))?;
            let ready = self.ready(most)?;
            if !ready.is_empty() {
                return Poll::Ready(Ok(ready));
            }
            readiness.clear();
        }
    }
}

impl AsFd for WatchList {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
