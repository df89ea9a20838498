//! A channel for many values.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::senders::Senders;
use crate::cell::with;
use crate::wait::{Waiter, Waiters};

/// Makes both ends of a channel with room for `capacity` values, at least one;
/// asyncio's `Queue(maxsize)`.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared {
        queue: Cell::default(),
        capacity: capacity.max(1),
        senders: Senders::one(),
        received: Cell::new(true),
        arrived: Waiter::default(),
        room: Waiters::new(),
    });
    (Sender(shared.clone()), Receiver(shared))
}

/// Makes both ends of a channel without a limit. Prefer [`channel`] for what
/// comes from the network: its backpressure keeps memory bounded.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(usize::MAX)
}

struct Shared<T> {
    queue: Cell<VecDeque<T>>,
    capacity: usize,
    senders: Senders,
    /// True while there is a receiver.
    received: Cell<bool>,
    arrived: Waiter,
    room: Waiters,
}

impl<T> Shared<T> {
    fn has_room(&self) -> bool {
        with(&self.queue, |queue| queue.len() < self.capacity)
    }

    fn push(&self, value: T) {
        with(&self.queue, |queue| queue.push_back(value));
        self.arrived.wake();
    }
}

/// The sending end. It may be cloned.
pub struct Sender<T>(Rc<Shared<T>>);

/// The receiving end.
pub struct Receiver<T>(Rc<Shared<T>>);

impl<T> Sender<T> {
    /// Sends a value, and waits for room.
    ///
    /// # Errors
    /// Gives the value back if the receiver is gone.
    pub async fn send(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        let mut registration = self.0.room.registration();
        std::future::poll_fn(move |cx| {
            if self.0.received.get() && !self.0.has_room() {
                registration.register(cx);
                return Poll::Pending;
            }
            match value.take() {
                Some(value) if self.0.received.get() => self.0.push(value),
                Some(value) => return Poll::Ready(Err(value)),
                None => {}
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Sends a value without waiting.
    ///
    /// # Errors
    /// Gives the value back if there is no room, or the receiver is gone.
    pub fn try_send(&self, value: T) -> Result<(), T> {
        if !self.0.received.get() || !self.0.has_room() {
            return Err(value);
        }
        self.0.push(value);
        Ok(())
    }

    /// Returns true if the receiver is gone.
    pub fn is_closed(&self) -> bool {
        !self.0.received.get()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.enter();
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.leave() {
            self.0.arrived.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// Receives the next value; `None` once all senders are gone and all their
    /// values were received.
    pub async fn recv(&mut self) -> Option<T> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives a value without waiting; `None` if there is none now.
    pub fn try_recv(&mut self) -> Option<T> {
        let value = with(&self.0.queue, VecDeque::pop_front);
        if value.is_some() && self.0.capacity != usize::MAX {
            self.0.room.wake_all();
        }
        value
    }

    /// Polls for the next value.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(value) = self.try_recv() {
            return Poll::Ready(Some(value));
        }
        if self.0.senders.are_gone() {
            return Poll::Ready(None);
        }
        self.0.arrived.register(cx);
        Poll::Pending
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.received.set(false);
        drop(self.0.queue.take());
        self.0.room.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::testing::block_on;
    use crate::{join, spawn, yield_now};

    #[test]
    fn senders_wait_for_room_and_nothing_is_lost() {
        block_on(async {
            let (sender, mut receiver) = channel(2);
            let sent = Rc::new(Cell::new(0));
            for start in [0, 100] {
                let (sender, sent) = (sender.clone(), sent.clone());
                spawn(async move {
                    for number in start..start + 10 {
                        assert_eq!(sender.send(number).await, Ok(()));
                        sent.set(sent.get() + 1);
                    }
                });
            }
            drop(sender);
            yield_now().await;
            yield_now().await;
            assert_eq!(sent.get(), 2);
            let mut all = Vec::new();
            while let Some(number) = receiver.recv().await {
                all.push(number);
            }
            all.sort_unstable();
            assert_eq!(all, (0..10).chain(100..110).collect::<Vec<_>>());
        });
    }

    #[test]
    fn a_value_comes_back_if_nobody_takes_it() {
        block_on(async {
            let (sender, receiver) = channel(1);
            assert_eq!(sender.try_send(1), Ok(()));
            assert_eq!(sender.try_send(2), Err(2));
            let waiting = sender.send(3);
            let going = async move {
                yield_now().await;
                drop(receiver);
            };
            assert_eq!(join(waiting, going).await.0, Err(3));
            assert!(sender.is_closed());
            assert_eq!(sender.try_send(4), Err(4));
        });
    }

    #[test]
    fn what_was_sent_is_received_after_the_senders_are_gone() {
        block_on(async {
            let (sender, mut receiver) = unbounded();
            for number in 0..3 {
                assert_eq!(sender.try_send(number), Ok(()));
            }
            drop(sender);
            let seen = RefCell::new(Vec::new());
            while let Some(number) = receiver.recv().await {
                seen.borrow_mut().push(number);
            }
            assert_eq!(*seen.borrow(), [0, 1, 2]);
        });
    }
}
