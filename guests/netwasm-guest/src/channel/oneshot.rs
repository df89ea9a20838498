//! A channel for one value.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::wait::Waiter;
use crate::{Error, Result};

struct Shared<T> {
    value: Cell<Option<T>>,
    /// True once either side is gone.
    closed: Cell<bool>,
    arrived: Waiter,
}

/// Makes both ends of a channel for one value.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared {
        value: Cell::new(None),
        closed: Cell::new(false),
        arrived: Waiter::default(),
    });
    (Sender(shared.clone()), Receiver(shared))
}

/// The sending end.
pub struct Sender<T>(Rc<Shared<T>>);

/// The receiving end: a future of the value. It fails if the sender was
/// dropped.
pub struct Receiver<T>(Rc<Shared<T>>);

impl<T> Sender<T> {
    /// Sends the value.
    ///
    /// # Errors
    /// Gives the value back if the receiver is gone.
    pub fn send(self, value: T) -> std::result::Result<(), T> {
        if self.0.closed.get() {
            return Err(value);
        }
        self.0.value.set(Some(value));
        Ok(())
    }

    /// Returns true if the receiver is gone.
    pub fn is_closed(&self) -> bool {
        self.0.closed.get()
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.set(true);
        self.0.arrived.wake();
    }
}

impl<T> Receiver<T> {
    /// Returns true if the value was sent, or the sender is gone.
    pub fn is_closed(&self) -> bool {
        self.0.closed.get()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.closed.set(true);
        drop(self.0.value.take());
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        if let Some(value) = self.0.value.take() {
            return Poll::Ready(Ok(value));
        }
        if self.0.closed.get() {
            return Poll::Ready(Err(Error::gone()));
        }
        self.0.arrived.register(cx);
        Poll::Pending
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}

#[cfg(test)]
mod tests {
    use super::channel;
    use crate::testing::block_on;
    use crate::{ErrorKind, spawn, yield_now};

    #[test]
    fn a_value_arrives_once() {
        block_on(async {
            let (sender, receiver) = channel();
            let task = spawn(receiver);
            yield_now().await;
            assert_eq!(sender.send(3), Ok(()));
            assert_eq!(task.await.and_then(Result::ok), Some(3));
        });
    }

    #[test]
    fn either_side_may_go() {
        block_on(async {
            let (sender, receiver) = channel::<u8>();
            drop(sender);
            let error = receiver.await.expect_err("nobody sends");
            assert_eq!(error.kind(), ErrorKind::Closed);
            let (sender, receiver) = channel();
            drop(receiver);
            assert!(sender.is_closed());
            assert_eq!(sender.send(3), Err(3));
        });
    }
}
