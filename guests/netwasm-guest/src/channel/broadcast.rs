//! A channel whose every receiver gets every value.
//!
//! It keeps the newest values only: a receiver that is too slow loses the
//! oldest ones and is told how many. So it holds up nobody.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Poll;

use super::senders::Senders;
use crate::cell::with;
use crate::wait::Waiters;

/// Makes a channel that keeps `capacity` values, at least one.
pub fn channel<T: Clone>(capacity: usize) -> Sender<T> {
    Sender(Rc::new(Shared {
        values: Cell::default(),
        capacity: capacity.max(1),
        end: Cell::new(0),
        senders: Senders::one(),
        receivers: Cell::new(0),
        arrived: Waiters::new(),
    }))
}

struct Shared<T> {
    values: Cell<VecDeque<T>>,
    capacity: usize,
    /// How many values were sent.
    end: Cell<u64>,
    senders: Senders,
    /// The number of receivers.
    receivers: Cell<usize>,
    arrived: Waiters,
}

/// The sending end. It may be cloned, and makes the receivers.
pub struct Sender<T>(Rc<Shared<T>>);

/// A receiving end.
pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
    /// How many values it has received or missed.
    next: u64,
}

/// Result of receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// The next value.
    Value(T),
    /// So many values were lost, because the receiver was too slow.
    Missed(u64),
}

impl<T: Clone> Sender<T> {
    /// Sends a value to all receivers.
    pub fn send(&self, value: T) {
        let shared = &self.0;
        if shared.receivers.get() == 0 {
            return;
        }
        let oldest = with(&shared.values, |values| {
            let is_full = values.len() >= shared.capacity;
            let oldest = if is_full { values.pop_front() } else { None };
            values.push_back(value);
            oldest
        });
        drop(oldest);
        shared.end.set(shared.end.get() + 1);
        shared.arrived.wake_all();
    }

    /// Makes a receiver, which gets what is sent from now on.
    pub fn subscribe(&self) -> Receiver<T> {
        self.0.receivers.set(self.0.receivers.get() + 1);
        Receiver {
            shared: self.0.clone(),
            next: self.0.end.get(),
        }
    }

    /// Returns the number of receivers.
    pub fn receivers(&self) -> usize {
        self.0.receivers.get()
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
            self.0.arrived.wake_all();
        }
    }
}

impl<T: Clone> Receiver<T> {
    /// Waits for the next value; `None` once all senders are gone and all that
    /// they sent was received.
    pub async fn recv(&mut self) -> Option<Received<T>> {
        let shared = self.shared.clone();
        let mut registration = shared.arrived.registration();
        std::future::poll_fn(|cx| {
            if let Some(received) = self.try_recv() {
                return Poll::Ready(Some(received));
            }
            if shared.senders.are_gone() {
                return Poll::Ready(None);
            }
            registration.register(cx);
            Poll::Pending
        })
        .await
    }

    /// Receives without waiting; `None` if there is nothing now.
    pub fn try_recv(&mut self) -> Option<Received<T>> {
        let (values, end) = (&self.shared.values, self.shared.end.get());
        let first = end - with(values, |values| values.len() as u64);
        if self.next < first {
            let missed = first - self.next;
            self.next = first;
            return Some(Received::Missed(missed));
        }
        let at = usize::try_from(self.next - first).ok()?;
        let value = with(values, |values| values.get(at).cloned())?;
        self.next += 1;
        Some(Received::Value(value))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.set(self.shared.receivers.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::block_on;
    use crate::{spawn, yield_now};

    #[test]
    fn all_receivers_get_all_values() {
        block_on(async {
            let sender = channel(10);
            let tasks = [(); 3].map(|()| {
                let mut receiver = sender.subscribe();
                spawn(async move {
                    let mut all = Vec::new();
                    while let Some(received) = receiver.recv().await {
                        all.push(received);
                    }
                    all
                })
            });
            assert_eq!(sender.receivers(), 3);
            yield_now().await;
            sender.send(1);
            yield_now().await;
            sender.send(2);
            drop(sender);
            for task in tasks {
                let all = task.await;
                assert_eq!(all, Some(vec![Received::Value(1), Received::Value(2)]));
            }
        });
    }

    #[test]
    fn a_slow_receiver_misses_the_oldest_values_and_knows_how_many() {
        block_on(async {
            let sender = channel(2);
            let mut receiver = sender.subscribe();
            for number in 0..5 {
                sender.send(number);
            }
            assert_eq!(receiver.recv().await, Some(Received::Missed(3)));
            assert_eq!(receiver.recv().await, Some(Received::Value(3)));
            assert_eq!(receiver.try_recv(), Some(Received::Value(4)));
            assert_eq!(receiver.try_recv(), None);
            drop(sender);
            assert_eq!(receiver.recv().await, None);
        });
    }
}
