//! Lists of those who wait.

use std::cell::Cell;
use std::task::{Context, Waker};

use crate::cell::with;
use crate::slab::Slab;

/// The one who waits for something: whoever asked last.
#[derive(Default)]
pub(crate) struct Waiter {
    /// Kept when it was woken, so that a task that waits for one thing again
    /// and again stores its waker once.
    waker: Cell<Option<Waker>>,
    waits: Cell<bool>,
}

impl Waiter {
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.waits.set(true);
        let waker = match self.waker.take() {
            Some(waker) if waker.will_wake(cx.waker()) => waker,
            _ => cx.waker().clone(),
        };
        self.waker.set(Some(waker));
    }

    pub(crate) fn wake(&self) {
        if self.waits.replace(false)
            && let Some(waker) = self.waker.take()
        {
            waker.wake_by_ref();
            self.waker.set(Some(waker));
        }
    }
}

/// Any number of those who wait for one thing.
#[derive(Default)]
pub(crate) struct Waiters {
    /// The waker of each registration, until it is woken.
    wakers: Cell<Slab<Option<Waker>>>,
}

impl Waiters {
    pub(crate) const fn new() -> Self {
        Self {
            wakers: Cell::new(Slab::new()),
        }
    }

    /// Returns a registration that does not wait yet.
    pub(crate) const fn registration(&self) -> Registration<'_> {
        Registration {
            waiters: self,
            key: None,
        }
    }

    /// Stores a waker, at a new key or one that was returned before.
    pub(crate) fn enter(&self, key: Option<usize>, cx: &Context<'_>) -> usize {
        let waker = Some(cx.waker().clone());
        let (key, old) = with(&self.wakers, |wakers| {
            match key.and_then(|key| Some((key, wakers.get_mut(key)?))) {
                Some((key, place)) => (key, std::mem::replace(place, waker)),
                None => (wakers.insert(waker), None),
            }
        });
        drop(old);
        key
    }

    /// Gives up a key.
    pub(crate) fn leave(&self, key: usize) {
        drop(with(&self.wakers, |wakers| wakers.remove(key)));
    }

    pub(crate) fn wake_all(&self) {
        let woken: Vec<_> = with(&self.wakers, |wakers| {
            wakers.values_mut().filter_map(Option::take).collect()
        });
        woken.into_iter().for_each(Waker::wake);
    }
}

/// Someone who waits, for as long as this is kept.
pub(crate) struct Registration<'a> {
    waiters: &'a Waiters,
    key: Option<usize>,
}

impl Registration<'_> {
    pub(crate) fn register(&mut self, cx: &Context<'_>) {
        self.key = Some(self.waiters.enter(self.key, cx));
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.waiters.leave(key);
        }
    }
}

#[cfg(test)]
impl Registration<'_> {
    /// The key that the next registration gets.
    pub(crate) fn key_for_test(&self) -> usize {
        with(&self.waiters.wakers, |wakers| wakers.next_key())
    }
}
