//! Connections that are to go: given back, reclaimed, or asked to leave.

use std::sync::atomic::Ordering;

use crate::parked::Parked;

use super::Transport;

impl Transport {
    /// Takes the connection from its event guest, which hears no more of it.
    /// Returns it if it can be kept for reuse; otherwise closes it.
    pub fn give_back(&self) -> Option<Parked> {
        self.given_back.set(true);
        let parked = self.park();
        if parked.is_none() {
            self.close();
        }
        parked
    }

    /// Closes the connection. Its event guest hears no more of it.
    pub fn give_up(&self) {
        self.given_back.set(true);
        self.close();
    }

    /// True if the guest has given the connection back, and so is told nothing
    /// of it.
    pub(crate) fn is_given_back(&self) -> bool {
        self.given_back.get()
    }

    /// Asks the driving task to close the connection, as its place is wanted.
    pub(crate) fn reclaim(&self) {
        self.idle.set(false);
        self.reclaimed.set(true);
        self.nudge();
    }

    /// Lets the connection end with its next answer.
    pub(crate) fn leave(&self) {
        self.leaves.set(true);
        self.nudge();
    }

    /// Lets the connection go on, unless it has ended already.
    pub(crate) fn stay(&self) {
        self.leaves.set(false);
    }

    /// True if the connection is to end as soon as it can: no answer may invite
    /// another request.
    pub fn is_leaving(&self) -> bool {
        self.leaves.get() || self.thread.is_draining()
    }

    /// True if an answer of HTTP/1.1 is the connection's last one.
    pub fn ends_with_answer(&self) -> bool {
        self.is_leaving() || self.thread.env.ending.load(Ordering::Relaxed)
    }

    /// True if the connection's place is wanted for another.
    pub fn is_reclaimed(&self) -> bool {
        self.reclaimed.get()
    }
}
