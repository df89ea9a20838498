//! Timers over the host's one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::Wake;
use super::netwasm::net::timers;

/// When a timer is due, and its number.
type Timer = (u64, u64);

thread_local! {
    /// Purpose of each timer.
    static TIMERS: RefCell<BTreeMap<Timer, Wake>> = RefCell::default();
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// Starts a timer, `delay` nanoseconds from now.
pub(super) fn start(delay: u64, wake: Wake) -> Timer {
    LAST.set(LAST.get() + 1);
    let timer = (timers::now().saturating_add(delay), LAST.get());
    TIMERS.with_borrow_mut(|timers| timers.insert(timer, wake));
    arm();
    timer
}

pub(super) fn cancel(timer: Timer) {
    TIMERS.with_borrow_mut(|timers| timers.remove(&timer));
    arm();
}

/// Cancels some timers.
pub(super) fn forget(which: impl Fn(&Wake) -> bool) {
    TIMERS.with_borrow_mut(|timers| timers.retain(|_, wake| !which(wake)));
    arm();
}

/// Asks the host for the first.
fn arm() {
    let first = TIMERS.with_borrow(|timers| timers.keys().next().map(|(when, _)| *when));
    timers::wake_at(first);
}

/// Takes those that are due.
pub(super) fn due() -> Vec<Wake> {
    let now = timers::now();
    let due = TIMERS.with_borrow_mut(|timers| {
        let later = timers.split_off(&(now.saturating_add(1), 0));
        std::mem::replace(timers, later)
    });
    assert!(!due.is_empty(), "the host wakes nobody too early");
    arm();
    due.into_values().collect()
}
