//! Deadlines of a connection, and what its peer has acknowledged.
//!
//! A socket takes megabytes that its peer has yet to receive, and has room again
//! in steps of a third of them. So time-outs of idleness and of progress count
//! from what the peer's kernel acknowledged. That costs a system call for each
//! look, and so a connection is looked at from time to time, and only after
//! something moved on it.

use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use netwasm_base::error::ConnectionError;

use crate::io::{Watched, unacknowledged};
use crate::thread::Tick;
use crate::transport::Transport;
use crate::transport::core::Core;

/// Ticks between two looks at one connection: at most a quarter of the shortest
/// time-out, and 2 s.
const BETWEEN_LOOKS: Tick = 4;

/// Time between two looks whether a peer has left that nobody reads from.
pub const LOOK: Duration = Duration::from_millis(500);

/// What the peer has acknowledged, as of the last look.
#[derive(Debug)]
pub(super) struct Delivery {
    /// Bytes that the socket held for the peer.
    held: u64,
    looked: Tick,
    /// When the peer was last seen to have acknowledged all, or some of what the
    /// socket held at the look before.
    moved: Tick,
    /// When it was last seen to acknowledge some of that.
    took: Tick,
}

/// What a look at a socket tells of its peer, without reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It may still be there.
    There,
    /// It has ended its sending side: it has closed, or sends no more and still
    /// reads.
    Ended,
    /// It has reset the connection, or both sides were shut.
    Gone,
}

/// What is known of a peer that nobody reads from.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    looked: Tick,
    ended: bool,
}

impl Delivery {
    pub(super) fn new(now: Tick) -> Self {
        Self {
            held: 0,
            looked: now,
            moved: now,
            took: now,
        }
    }

    /// True if the socket may hold something for the peer.
    fn may_hold(&self, touched: Tick) -> bool {
        self.held > 0 || touched >= self.looked
    }

    fn look(&mut self, socket: &Watched, now: Tick) {
        let before = self.held;
        // Without an answer, nothing is held against the peer.
        self.held = unacknowledged(socket.fd()).unwrap_or(0);
        self.looked = now;
        if self.held < before {
            self.took = now;
        }
        if self.held == 0 || self.held < before {
            self.moved = now;
        }
    }
}

impl Core {
    /// Looks at what the peer has acknowledged, if it is time for that.
    fn look(&mut self, now: Tick, at_once: bool) {
        let since = now.saturating_sub(self.delivery.looked);
        let due = since >= BETWEEN_LOOKS || (at_once && since > 0);
        if due
            && self.delivery.may_hold(self.touched)
            && let Some(socket) = &self.socket
        {
            self.delivery.look(socket, now);
        }
    }

    /// When the peer was last seen to send, to take, or to acknowledge.
    fn moved(&self) -> Tick {
        self.touched.max(self.delivery.moved)
    }

    /// True if nobody would notice that the peer leaves, as nothing is read.
    fn is_unread(&self) -> bool {
        match self.has_streams {
            true => !self.reads && self.relay.is_none(),
            false => !self.flow.receives(),
        }
    }
}

impl Transport {
    /// What the peer has done, told without reading.
    pub fn presence(&self) -> Presence {
        presence(&self.core.borrow())
    }

    /// When the peer was last seen to take some of what the socket held for it.
    pub fn took(&self) -> Tick {
        self.core.borrow().delivery.took
    }

    /// When the peer was last seen to send, to take, or to acknowledge
    /// something.
    pub fn moved(&self) -> Tick {
        self.core.borrow().moved()
    }

    /// Ends the connection if a deadline has passed.
    pub(crate) fn check_deadlines(&self) {
        let limits = &self.thread.env.limits;
        let now = self.thread.now();
        let mut core = self.core.borrow_mut();
        if core.socket.is_none() {
            return;
        }
        let rings = core.alarm.is_some_and(|alarm| now >= alarm);
        core.look(now, rings);
        if rings {
            let begun = core.delivery.moved;
            match core.rest {
                Some(limit) if !self.thread.passed(begun, limit) => {
                    core.alarm = Some(self.thread.tick_after(limit) - (now - begun));
                }
                _ => {
                    core.alarm = None;
                    core.rang = true;
                    self.wake(&core);
                }
            }
        }
        let waits = core.queued() > 0 || core.wants_room || core.sender.is_some();
        if !waits {
            core.progressed = now;
        }
        let progressed = core.progressed.max(core.delivery.moved);
        let late = match core.deadline {
            Some((deadline, what)) if now >= deadline => Some(what),
            _ if waits && self.thread.passed(progressed, limits.write_timeout) => {
                Some("the peer takes nothing of what is queued (--write-timeout)")
            }
            _ => limits
                .idle_timeout
                .filter(|&limit| self.thread.passed(self.moved_in_relay(&core), limit))
                .map(|_| "nothing moved (--idle-timeout)"),
        };
        let lost = late.map(ConnectionError::Timeout);
        if let Some(reason) = lost.or_else(|| self.check_leaving(&mut core)) {
            core.flow.fail(reason);
            self.wake(&core);
        }
    }

    /// When something last moved on a connection, or between it and the one
    /// that it is relayed to: a target that takes slowly keeps the source waiting.
    fn moved_in_relay(&self, core: &Core) -> Tick {
        let target = core.relay.as_ref().map(|relay| relay.target());
        match target.filter(|target| !std::ptr::eq(Rc::as_ptr(target), self)) {
            Some(target) => core.moved().max(target.moved()),
            None => core.moved(),
        }
    }

    /// Looks whether a peer that nobody reads from is still there, and bounds
    /// how long one that has ended its side may wait for the next byte.
    fn check_leaving(&self, core: &mut Core) -> Option<ConnectionError> {
        let ended = !core.flow.receiving_open();
        if core.flow.is_closing() || !(ended || core.is_unread()) {
            return None;
        }
        let now = self.thread.now();
        if self.thread.passed(core.leaving.looked, LOOK) {
            core.leaving.looked = now;
            match presence(core) {
                Presence::Gone => return Some(ConnectionError::Reset),
                presence => core.leaving.ended = ended || presence == Presence::Ended,
            }
        }
        let limit = self.thread.env.limits.half_close_timeout?;
        let late = core.leaving.ended && self.thread.passed(self.moved_in_relay(core), limit);
        late.then_some(ConnectionError::Timeout(
            "nothing moved since the peer ended its side (--half-close-timeout)",
        ))
    }
}

fn presence(core: &Core) -> Presence {
    let Some(socket) = &core.socket else {
        return Presence::Gone;
    };
    // An error and a hang-up are told always.
    let mut watched = [PollFd::new(socket, PollFlags::RDHUP)];
    match rustix::event::poll(&mut watched, Some(&Timespec::default())) {
        Ok(1..) => {}
        // In doubt, reading and writing tell.
        Ok(0) | Err(_) => return Presence::There,
    }
    let told = watched.map(|it| it.revents());
    match told {
        [told] if told.intersects(PollFlags::ERR | PollFlags::HUP) => Presence::Gone,
        _ => Presence::Ended,
    }
}
