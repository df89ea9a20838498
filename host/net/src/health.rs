//! How an instance fares, as those see it that hold its connections, requests
//! and bodies.

use std::cell::Cell;

use tokio::sync::Notify;

/// How the instance is that holds a connection's handle and streams.
#[derive(Debug, Default)]
pub struct Health {
    life: Cell<Fate>,
    /// How often it was its turn.
    turn: Cell<u64>,
    /// Whether it gave its turn up in the midst of it.
    yielded: Cell<bool>,
    /// Told when it need not wait for responses of upstreams any more.
    unwanted: Notify,
}

/// How an instance ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It has not, or by itself.
    #[default]
    Well,
    /// It exited with success: what it had ended by then is whole.
    Exited,
    Trapped,
}

impl Health {
    /// It is its turn: a new one, or the rest of one that it gave up.
    pub fn begin_turn(&self) {
        if !self.yielded.replace(false) {
            self.turn.set(self.turn.get() + 1);
        }
    }

    /// Bytes moved for it: it has awaited something, and whatever it computes
    /// from now on counts anew.
    pub fn moved(&self) {
        self.turn.set(self.turn.get() + 1);
    }

    /// It gives its turn up, and goes on with it later.
    pub fn yields(&self) {
        self.yielded.set(true);
    }

    /// How often it was its turn.
    pub fn turn(&self) -> u64 {
        self.turn.get()
    }

    /// Nobody wants what it waits for from upstreams.
    pub fn give_up(&self) {
        self.unwanted.notify_waiters();
    }

    /// Waits until that is so.
    pub async fn given_up(&self) {
        self.unwanted.notified().await;
    }

    /// It trapped: what it lets go of from now on was not let go of on purpose.
    pub fn trapped(&self) {
        self.life.set(Fate::Trapped);
    }

    /// It exited with success: what it lets go of from now on and had not ended
    /// is not whole.
    pub fn exited(&self) {
        self.life.set(Fate::Exited);
    }

    /// How it ended, if it has.
    pub(crate) fn fate(&self) -> Fate {
        self.life.get()
    }

    /// True if the instance can be called no more.
    pub fn is_gone(&self) -> bool {
        self.life.get() != Fate::Well
    }
}
