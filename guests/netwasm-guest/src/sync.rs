//! Objects that several tasks wait for.

use std::cell::Cell;
use std::collections::VecDeque;
use std::task::Poll;

use crate::cell::with;
use crate::wait::Waiters;

/// Wakes tasks; asyncio's `Event`, cleared at once.
#[derive(Default)]
pub struct Notify {
    /// How often all were woken.
    turns: Cell<u64>,
    waiters: Waiters,
}

impl Notify {
    /// Makes one that nobody waits for.
    pub const fn new() -> Self {
        Self {
            turns: Cell::new(0),
            waiters: Waiters::new(),
        }
    }

    /// Wakes all that wait now.
    pub fn notify_waiters(&self) {
        self.turns.set(self.turns.get().wrapping_add(1));
        self.waiters.wake_all();
    }

    /// Waits for the next `notify_waiters`: counted from this call, not from
    /// where the future is first polled.
    pub fn notified(&self) -> impl Future<Output = ()> + '_ {
        let turn = self.turns.get();
        let mut registration = self.waiters.registration();
        std::future::poll_fn(move |cx| {
            if self.turns.get() != turn {
                return Poll::Ready(());
            }
            registration.register(cx);
            Poll::Pending
        })
    }
}

/// Lets a number of tasks do something at once; asyncio's `Semaphore`. Those
/// who wait are served in the order in which they came.
pub struct Semaphore {
    permits: Cell<usize>,
    next: Cell<u64>,
    /// Those who wait, by the numbers that they drew.
    queue: Cell<VecDeque<u64>>,
    waiters: Waiters,
}

impl Semaphore {
    /// Makes one with a number of permits.
    pub const fn new(permits: usize) -> Self {
        Self {
            permits: Cell::new(permits),
            next: Cell::new(0),
            queue: Cell::new(VecDeque::new()),
            waiters: Waiters::new(),
        }
    }

    /// Waits for a permit. Dropping it gives it back.
    pub async fn acquire(&self) -> Permit<'_> {
        if let Some(permit) = self.try_acquire() {
            return permit;
        }
        let number = self.next.get();
        self.next.set(number + 1);
        with(&self.queue, |queue| queue.push_back(number));
        let turn = Turn {
            semaphore: self,
            number,
        };
        let mut registration = self.waiters.registration();
        std::future::poll_fn(|cx| {
            let is_first = with(&self.queue, |queue| queue.front() == Some(&number));
            if is_first && self.permits.get() > 0 {
                self.permits.set(self.permits.get() - 1);
                return Poll::Ready(());
            }
            registration.register(cx);
            Poll::Pending
        })
        .await;
        drop(turn);
        Permit(self)
    }

    /// Returns a permit if one is free and nobody waits for it.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        let permits = self.permits.get();
        if permits == 0 || with(&self.queue, |queue| !queue.is_empty()) {
            return None;
        }
        self.permits.set(permits - 1);
        Some(Permit(self))
    }

    /// Returns the number of free permits.
    pub const fn available(&self) -> usize {
        self.permits.get()
    }
}

/// A place in the queue, left when this is dropped.
struct Turn<'a> {
    semaphore: &'a Semaphore,
    number: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let number = self.number;
        with(&self.semaphore.queue, |queue| {
            queue.retain(|other| *other != number);
        });
        self.semaphore.waiters.wake_all();
    }
}

/// A permit of a [`Semaphore`].
#[must_use = "the permit is given back at once if it is not kept"]
pub struct Permit<'a>(&'a Semaphore);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.permits.set(self.0.permits.get() + 1);
        self.0.waiters.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::testing::block_on;
    use crate::{Either, select, sleep, spawn, yield_now};

    #[test]
    fn notifying_wakes_all_who_wait() {
        block_on(async {
            let notify = Rc::new(Notify::new());
            let tasks = [(); 3].map(|()| {
                let notify = notify.clone();
                spawn(async move { notify.notified().await })
            });
            yield_now().await;
            assert!(tasks.iter().all(|task| !task.is_finished()));
            notify.notify_waiters();
            for task in tasks {
                assert_eq!(task.await, Some(()));
            }
            let before = notify.notified();
            notify.notify_waiters();
            before.await;
        });
    }

    #[test]
    fn waiting_again_and_again_keeps_nothing() {
        block_on(async {
            let notify = Notify::new();
            for _ in 0..100 {
                let turn = select(notify.notified(), yield_now()).await;
                assert_eq!(turn, Either::Right(()));
            }
            assert_eq!(notify.waiters.registration().key_for_test(), 0);
        });
    }

    #[test]
    fn permits_go_round_in_order() {
        block_on(async {
            let semaphore = Rc::new(Semaphore::new(2));
            let order = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = (0..6)
                .map(|number| {
                    let (semaphore, order) = (semaphore.clone(), order.clone());
                    spawn(async move {
                        let _permit = semaphore.acquire().await;
                        order.borrow_mut().push(number);
                        sleep(Duration::from_secs(1)).await;
                    })
                })
                .collect();
            yield_now().await;
            assert_eq!(*order.borrow(), [0, 1]);
            assert!(semaphore.try_acquire().is_none());
            // One who gives up is skipped.
            if let Some(task) = tasks.get(3) {
                task.abort();
            }
            for task in tasks {
                let _ = task.await;
            }
            assert_eq!(*order.borrow(), [0, 1, 2, 4, 5]);
            assert_eq!(semaphore.available(), 2);
        });
    }
}
