//! Deadlines of a connection, and what its peer has acknowledged.
//!
//! A socket takes megabytes that its peer has yet to receive, and has room
//! again in steps of a third of them. So idle and progress time-outs count from
//! what the peer's kernel acknowledged. Each look at that costs a system call.
//! So the host looks at a connection only from time to time, and only after
//! something moved.

use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use netwasm_base::error::ConnectionError;

use crate::io::{Watched, unacknowledged};
use crate::thread::Tick;
use crate::transport::Transport;
use crate::transport::core::Core;

/// Ticks between two looks at a connection, unless its alarm waits for what a look
/// finds: at most a quarter of the shortest time-out, and 2 s. A limit of the peer's
/// progress has to be longer.
const BETWEEN_LOOKS: Tick = 4;

/// Time between two checks for the departure of a peer that nobody reads from.
pub const LOOK: Duration = Duration::from_millis(500);

/// Acknowledgements of the peer, as of the last look.
#[derive(Debug)]
pub(super) struct Delivery {
    /// Bytes that the socket held for the peer.
    held: u64,
    looked: Tick,
    /// Tick of the last look at which the peer had acknowledged everything, or
    /// some of what the socket held at the look before.
    moved: Tick,
    /// Tick of the last look at which the peer had acknowledged some of that.
    took: Tick,
}

/// The peer's state, as the socket shows it without reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The peer may still be there.
    There,
    /// The peer has ended its sending side: it has closed, or it sends no more
    /// and still reads.
    Ended,
    /// The peer has reset the connection, or both sides were shut.
    Gone,
}

/// State of a peer that nobody reads from.
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
        // Without an answer, the peer gets the benefit of the doubt.
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
    /// Looks at what the peer has acknowledged, if a look is due. While an alarm
    /// waits for that, one is due at each tick: its time starts when a look finds
    /// that the peer has all.
    fn look(&mut self, now: Tick) {
        let since = now.saturating_sub(self.delivery.looked);
        let due = since >= BETWEEN_LOOKS || (self.rest.is_some() && since > 0);
        if due
            && self.delivery.may_hold(self.touched)
            && let Some(socket) = &self.socket
        {
            self.delivery.look(socket, now);
        }
    }

    /// Returns the tick at which the peer last sent, took or acknowledged
    /// something.
    fn moved(&self) -> Tick {
        self.touched.max(self.delivery.moved)
    }

    /// Returns the tick at which the peer last took some of what waits for it, or
    /// nothing waited.
    fn progressed(&self) -> Tick {
        self.progressed.max(self.delivery.moved)
    }

    /// True if nothing is being read, so that nobody would notice the peer
    /// leave.
    fn is_unread(&self) -> bool {
        match self.has_streams {
            true => !self.reads && self.relay.is_none(),
            false => !self.flow.receives(),
        }
    }
}

impl Transport {
    /// Returns the peer's state, without reading.
    pub fn presence(&self) -> Presence {
        presence(&self.core.borrow())
    }

    /// Returns the tick at which the peer last took some of what the socket
    /// held for it.
    pub fn took(&self) -> Tick {
        self.core.borrow().delivery.took
    }

    /// Returns the tick at which the peer last sent, took or acknowledged
    /// something.
    pub fn moved(&self) -> Tick {
        self.core.borrow().moved()
    }

    /// Returns the tick at which the peer last took some of what is queued for it, or
    /// nothing was queued.
    pub fn progressed(&self) -> Tick {
        self.core.borrow().progressed()
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
        core.look(now);
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
        let waits = core.queued() > 0 || core.wants_room || core.streams.waits_to_send();
        if !waits {
            core.progressed = now;
        }
        let progressed = core.progressed();
        let late = match core.deadline {
            Some((deadline, what)) if now >= deadline => Some(what),
            _ if waits && self.thread.passed(progressed, limits.write_timeout) => {
                Some("the peer takes nothing of what is queued (--write-timeout)")
            }
            _ => core
                .idle_timeout
                .or(limits.idle_timeout)
                .filter(|&limit| self.thread.passed(self.moved_in_relay(&core), limit))
                .map(|_| match core.idle_timeout {
                    Some(_) => "nothing moved (the guest's set-idle-timeout)",
                    None => "nothing moved (--idle-timeout)",
                }),
        };
        let lost = late.map(ConnectionError::Timeout);
        if let Some(reason) = lost.or_else(|| self.check_leaving(&mut core)) {
            core.flow.fail(reason);
            self.wake(&core);
        }
    }

    /// Returns the tick at which something last moved on a connection, or
    /// between it and the target that it is relayed to. A slow target keeps the
    /// source waiting.
    fn moved_in_relay(&self, core: &Core) -> Tick {
        let target = core.relay.as_ref().map(|relay| relay.target());
        match target.filter(|target| !std::ptr::eq(Rc::as_ptr(target), self)) {
            Some(target) => core.moved().max(target.moved()),
            None => core.moved(),
        }
    }

    /// Checks that a peer that nobody reads from is still there, and limits how
    /// long a peer that has ended its side may stay without a byte moving.
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
    // poll(2) always reports errors and hang-ups.
    let mut watched = [PollFd::new(socket, PollFlags::RDHUP)];
    match rustix::event::poll(&mut watched, Some(&Timespec::default())) {
        Ok(1..) => {}
        // On error, reading and writing tell.
        Ok(0) | Err(_) => return Presence::There,
    }
    let told = watched.map(|it| it.revents());
    match told {
        [told] if told.intersects(PollFlags::ERR | PollFlags::HUP) => Presence::Gone,
        _ => Presence::Ended,
    }
}
