//! The state of an instance, for those that hold its connections, requests and
//! bodies.

use std::cell::Cell;

use tokio::sync::Notify;

/// State of the instance that holds a connection's handle and streams.
#[derive(Debug, Default)]
pub struct Health {
    life: Cell<Fate>,
    /// Number of turns that the instance has had.
    turn: Cell<u64>,
    /// True if it yielded in the middle of a turn.
    yielded: Cell<bool>,
    /// Notified when upstreams' responses are no longer wanted.
    unwanted: Notify,
}

/// How an instance ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It has not ended, or ended by itself.
    #[default]
    Well,
    /// It exited with success: whatever it had ended by then is complete.
    Exited,
    Trapped,
}

impl Health {
    /// Begins a turn, or resumes one that was yielded.
    pub fn begin_turn(&self) {
        if !self.yielded.replace(false) {
            self.turn.set(self.turn.get() + 1);
        }
    }

    /// Notes that bytes moved for the instance. It has awaited something, so
    /// its computing time counts from zero.
    pub fn moved(&self) {
        self.turn.set(self.turn.get() + 1);
    }

    /// Yields the turn, to resume it later.
    pub fn yields(&self) {
        self.yielded.set(true);
    }

    /// Returns the number of turns so far.
    pub fn turn(&self) -> u64 {
        self.turn.get()
    }

    /// Notifies the waiters that upstreams' responses are no longer wanted.
    pub fn give_up(&self) {
        self.unwanted.notify_waiters();
    }

    /// Waits until upstreams' responses are no longer wanted.
    pub async fn given_up(&self) {
        self.unwanted.notified().await;
    }

    /// Notes a trap: from now on the instance drops things involuntarily.
    pub fn trapped(&self) {
        self.life.set(Fate::Trapped);
    }

    /// Notes an exit with success: whatever the instance drops unfinished from
    /// now on is incomplete.
    pub fn exited(&self) {
        self.life.set(Fate::Exited);
    }

    /// Returns how the instance ended.
    pub(crate) fn fate(&self) -> Fate {
        self.life.get()
    }

    /// True if the instance takes no more calls.
    pub fn is_gone(&self) -> bool {
        self.life.get() != Fate::Well
    }
}
