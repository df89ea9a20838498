//! Memory for the bodies of requests to guests that take requests whole.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Number of bodies of the largest size that a connection may hold in memory.
/// Beyond that, all but the oldest wait.
const LARGEST: usize = 4;

/// Memory for the bodies of a connection.
#[derive(Debug)]
pub(super) struct Budget {
    most: usize,
    kept: Cell<usize>,
    /// Arriving bodies by age, and the wakers of those that wait.
    coming: RefCell<BTreeMap<u64, Option<Waker>>>,
    next: Cell<u64>,
}

/// A body, or the part of it that has arrived.
pub(super) struct Held {
    budget: Rc<Budget>,
    number: u64,
    bytes: Vec<u8>,
}

impl Budget {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.saturating_mul(LARGEST),
            kept: Cell::new(0),
            coming: RefCell::default(),
            next: Cell::new(0),
        }
    }

    /// Waits until a body may grow.
    async fn room(&self, number: u64) {
        poll_fn(|cx| {
            let mut coming = self.coming.borrow_mut();
            let first = coming.first_key_value().is_none_or(|(it, _)| *it >= number);
            if first || self.kept.get() < self.most {
                return Poll::Ready(());
            }
            coming.insert(number, Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    fn wake_all(&self) {
        let mut coming = self.coming.borrow_mut();
        for waker in coming.values_mut().filter_map(Option::take) {
            waker.wake();
        }
    }
}

impl Held {
    pub(super) fn new(budget: &Rc<Budget>) -> Self {
        let number = budget.next.get();
        budget.next.set(number + 1);
        budget.coming.borrow_mut().insert(number, None);
        Self {
            budget: Rc::clone(budget),
            number,
            bytes: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, piece: &[u8]) {
        let kept = &self.budget.kept;
        kept.set(kept.get() + piece.len());
        self.bytes.extend_from_slice(piece);
    }

    /// Returns the bytes so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Waits until the body may grow.
    pub(super) async fn room(&self) {
        self.budget.room(self.number).await;
    }

    /// Returns the body, for the guest.
    pub(super) fn take(mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.bytes);
        self.free(bytes.len());
        bytes
    }

    fn free(&self, count: usize) {
        let budget = &self.budget;
        budget.kept.set(budget.kept.get() - count);
    }

    /// Marks the body as complete.
    pub(super) fn arrived(&self) {
        self.budget.coming.borrow_mut().remove(&self.number);
        self.budget.wake_all();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.free(self.bytes.len());
        self.arrived();
    }
}
