//! Timers over the host's one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::netwasm::net::timers;
use super::{Client, Wake};

/// When a timer is due, and its number.
type Timer = (u64, u64);

thread_local! {
    /// Client of each timer, and its purpose.
    static TIMERS: RefCell<BTreeMap<Timer, (Rc<Client>, Wake)>> = RefCell::default();
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// Starts a timer, `delay` nanoseconds from now.
pub(super) fn start(delay: u64, client: Rc<Client>, wake: Wake) -> Timer {
    LAST.set(LAST.get() + 1);
    let timer = (timers::now().saturating_add(delay), LAST.get());
    TIMERS.with_borrow_mut(|timers| timers.insert(timer, (client, wake)));
    arm();
    timer
}

pub(super) fn cancel(timer: Timer) {
    TIMERS.with_borrow_mut(|timers| timers.remove(&timer));
    arm();
}

/// Cancels the timers of a client.
pub(super) fn forget(client: &Rc<Client>) {
    TIMERS.with_borrow_mut(|timers| timers.retain(|_, (other, _)| !Rc::ptr_eq(other, client)));
    arm();
}

/// Asks the host for the first.
fn arm() {
    let first = TIMERS.with_borrow(|timers| timers.keys().next().map(|(when, _)| *when));
    timers::wake_at(first);
}

/// Takes those that are due.
pub(super) fn due() -> Vec<(Rc<Client>, Wake)> {
    let now = timers::now();
    let due = TIMERS.with_borrow_mut(|timers| {
        let later = timers.split_off(&(now.saturating_add(1), 0));
        std::mem::replace(timers, later)
    });
    assert!(!due.is_empty(), "the host wakes nobody too early");
    arm();
    due.into_values().collect()
}
