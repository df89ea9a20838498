//! Flow control of a connection (RFC 9113, section 5.2): how much a client may
//! send ahead of the guests.
//!
//! Each stream has a window of its own. The connection's window grows with each
//! arriving body, so that a body that no guest reads does not block the others.
//! The growth is taken from a limit of the run, `--max-unread`. Beyond that,
//! the bodies of a connection share its window.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::h2::incoming::Http2Body;
use crate::h2::stream::MOST_STREAMS;
use crate::local::Env;

/// Window of a stream, and smallest window of a connection, in bytes.
pub(super) const WINDOW: usize = 128 << 10;

/// Window of a connection.
#[derive(Debug)]
pub(super) struct Window {
    env: Arc<Env>,
    /// Bodies that are arriving, or not yet taken.
    bodies: Cell<usize>,
    /// Bytes by which the window exceeds [`WINDOW`].
    more: Cell<usize>,
    /// Bytes taken from the limit: the most that the client may have been
    /// granted beyond [`WINDOW`]. A grant cannot be withdrawn.
    taken: Cell<usize>,
    /// Payload bytes that had arrived at the last count.
    received: Cell<u64>,
    /// True from when the limit is found used up until it is not.
    short: Cell<bool>,
    /// Bodies whose frames may wait for their guests.
    unread: RefCell<Vec<Weak<Http2Body>>>,
}

/// A body that is arriving.
#[derive(Debug)]
pub(super) struct Coming(Rc<Window>);

impl Window {
    pub(super) fn new(env: &Arc<Env>) -> Rc<Self> {
        Rc::new(Self {
            env: Arc::clone(env),
            bodies: Cell::new(0),
            more: Cell::new(0),
            taken: Cell::new(0),
            received: Cell::new(0),
            short: Cell::new(false),
            unread: RefCell::default(),
        })
    }

    /// Counts a body until the returned value is dropped.
    pub(super) fn begin(self: &Rc<Self>) -> Coming {
        self.bodies.set(self.bodies.get() + 1);
        Coming(Rc::clone(self))
    }

    /// Takes note of a body that is arriving.
    pub(super) fn watch(&self, body: &Rc<Http2Body>) {
        let mut unread = self.unread.borrow_mut();
        if unread.len() >= 2 * MOST_STREAMS as usize {
            unread.retain(|body| body.strong_count() > 0);
        }
        unread.push(Rc::downgrade(body));
    }

    /// Joins the small frames of bodies that their guests do not read.
    pub(super) fn join_unread(&self) {
        self.unread
            .borrow_mut()
            .retain(|body| match body.upgrade() {
                Some(body) => {
                    body.join();
                    true
                }
                None => false,
            });
    }

    /// Returns the wanted size beyond the minimum, in bytes.
    fn wanted(&self) -> usize {
        let all = self.bodies.get().saturating_mul(WINDOW);
        all.min(self.env.flow_limit.each())
    }

    /// True if the limit had too little left. Others give back later without
    /// notice, so the window is to be fitted again.
    pub(super) fn is_short(&self) -> bool {
        self.wanted() > self.taken.get()
    }

    /// Fits the window to the arriving bodies. `received` is the total of
    /// payload bytes so far. Returns the new window in bytes, if it changes.
    pub(super) fn fit(&self, received: u64) -> Option<u32> {
        let limit = &self.env.flow_limit;
        let count = usize::try_from(received - self.received.replace(received));
        let wanted = self.wanted();
        // Received bytes used up part of the grant, and `h2` renewed it up
        // to the window.
        let promised = self.taken.get().saturating_sub(count.unwrap_or(usize::MAX));
        let promised = promised.max(self.more.get());
        if wanted > self.taken.get() {
            let missing = wanted - self.taken.get();
            let got = limit.take(missing);
            self.taken.set(self.taken.get() + got);
            self.note(got < missing);
        }
        let more = wanted.min(self.taken.get());
        let kept = promised.max(more);
        if self.taken.get() > kept {
            limit.give_back(self.taken.replace(kept) - kept);
        }
        if self.more.replace(more) == more {
            return None;
        }
        u32::try_from(WINDOW + more).ok()
    }

    /// Logs that the limit is used up, once until it is not.
    fn note(&self, short: bool) {
        if short && !self.short.get() {
            tracing::warn!(
                "bodies of HTTP/2 requests wait: clients have sent as much as may be unread \
                 (--max-unread)"
            );
        }
        self.short.set(short);
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.env.flow_limit.give_back(self.taken.get());
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.bodies.set(self.0.bodies.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow_limit::FlowLimit;

    const LEAST: u32 = WINDOW as u32;

    fn env(most: usize) -> Arc<Env> {
        Arc::new(Env {
            access_log: None,
            tallies: None,
            flow_limit: Arc::new(FlowLimit::new(most)),
        })
    }

    #[test]
    fn a_connection_has_a_window_for_each_body_that_is_coming() {
        let env = env(64 * WINDOW);
        let window = Window::new(&env);
        let bodies: Vec<_> = (0..3).map(|_| window.begin()).collect();
        assert_eq!(window.fit(0), Some(4 * LEAST));
        assert_eq!(window.fit(0), None);
        assert_eq!(env.flow_limit.left(), 61 * WINDOW);
        drop(bodies);
        assert_eq!(window.fit(0), Some(LEAST));
    }

    #[test]
    fn what_was_promised_is_free_for_others_once_it_was_used() {
        let env = env(64 * WINDOW);
        let window = Window::new(&env);
        let body = window.begin();
        window.fit(0);
        drop(body);
        window.fit(0);
        assert_eq!(
            env.flow_limit.left(),
            63 * WINDOW,
            "the client may still send that"
        );
        window.fit(WINDOW as u64 / 2);
        assert_eq!(env.flow_limit.left(), 63 * WINDOW + WINDOW / 2);
        window.fit(WINDOW as u64);
        assert_eq!(env.flow_limit.left(), 64 * WINDOW);
    }

    #[test]
    fn a_connection_gets_a_part_of_the_limit_and_gives_it_back_at_its_end() {
        let env = env(16 * WINDOW);
        let windows: Vec<_> = (0..10).map(|_| Window::new(&env)).collect();
        let bodies: Vec<_> = windows
            .iter()
            .flat_map(|window| (0..5).map(|_| window.begin()))
            .collect();
        for window in windows.iter().take(8) {
            assert_eq!(window.fit(0), Some(3 * LEAST));
        }
        assert_eq!(env.flow_limit.left(), 0);
        assert_eq!(windows[9].fit(0), None, "it has the least window");
        drop(bodies);
        drop(windows);
        assert_eq!(env.flow_limit.left(), 16 * WINDOW);
    }
}
