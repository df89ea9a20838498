//! The signals of a program.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use tokio::task::AbortHandle;

use netwasm_net::posix::Notice;
use netwasm_net::thread::Thread;

/// SIGTERM, for a shutdown that no signal began.
const TERMINATE: u32 = 15;

/// A source of signals: the one that drains the run, once.
#[derive(Debug)]
pub(super) struct Signals {
    state: Rc<PendingSignals>,
    task: AbortHandle,
}

#[derive(Debug)]
struct PendingSignals {
    came: Notice,
    /// Number of a signal that the program has not taken.
    signal: Cell<Option<u32>>,
}

impl Signals {
    /// Waits for signals from now on.
    ///
    /// # Errors
    /// Fails if no descriptor is left.
    pub(super) fn new(thread: &Rc<Thread>) -> io::Result<Self> {
        let state = Rc::new(PendingSignals {
            came: Notice::new()?,
            signal: Cell::new(None),
        });
        let (thread, coming) = (Rc::clone(thread), Rc::clone(&state));
        let waiting = Rc::clone(&thread);
        let task = waiting.spawn_local(async move {
            Rc::clone(&thread).drained().await;
            let signal = match thread.env.signal.load(Ordering::Relaxed) {
                0 => TERMINATE,
                signal => signal,
            };
            coming.signal.set(Some(signal));
            coming.came.give();
        });
        Ok(Self { state, task })
    }

    /// Takes a signal.
    pub(super) fn take(&self) -> Option<u32> {
        self.state.came.take();
        self.state.signal.take()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.state.came.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.task.abort();
    }
}
