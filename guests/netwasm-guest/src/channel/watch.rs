//! A value that is watched for changes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Poll;

use crate::wait::Waiters;

/// Makes both ends of a watched value. The receiver may be cloned.
pub fn channel<T: Clone>(value: T) -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared {
        value: RefCell::new(value),
        version: Cell::new(0),
        closed: Cell::new(false),
        changed: Waiters::new(),
    });
    let receiver = Receiver {
        shared: shared.clone(),
        seen: 0,
    };
    (Sender(shared), receiver)
}

struct Shared<T> {
    value: RefCell<T>,
    version: Cell<u64>,
    closed: Cell<bool>,
    changed: Waiters,
}

/// The end that sets the value.
pub struct Sender<T>(Rc<Shared<T>>);

/// The end that watches.
#[derive(Clone)]
pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
    seen: u64,
}

impl<T> Sender<T> {
    /// Sets the value.
    pub fn send(&self, value: T) {
        let old = self.0.value.replace(value);
        drop(old);
        self.0.version.set(self.0.version.get() + 1);
        self.0.changed.wake_all();
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.set(true);
        self.0.changed.wake_all();
    }
}

impl<T: Clone> Receiver<T> {
    /// Returns the current value.
    pub fn get(&self) -> T {
        self.shared.value.borrow().clone()
    }

    /// Waits until the value is set again, and returns it. Returns `None` if the
    /// sender is gone. If it was set several times, the last value counts.
    pub async fn changed(&mut self) -> Option<T> {
        let shared = self.shared.clone();
        let mut registration = shared.changed.registration();
        std::future::poll_fn(|cx| {
            if self.seen != shared.version.get() {
                self.seen = shared.version.get();
                return Poll::Ready(Some(self.get()));
            }
            if shared.closed.get() {
                return Poll::Ready(None);
            }
            registration.register(cx);
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::channel;
    use crate::testing::block_on;
    use crate::{spawn, yield_now};

    #[test]
    fn the_last_value_counts() {
        block_on(async {
            let (sender, mut receiver) = channel(1);
            assert_eq!(receiver.get(), 1);
            let task = spawn({
                let mut receiver = receiver.clone();
                async move { receiver.changed().await }
            });
            yield_now().await;
            sender.send(2);
            assert_eq!(task.await, Some(Some(2)));
            sender.send(3);
            drop(sender);
            assert_eq!(receiver.changed().await, Some(3));
            assert_eq!(receiver.changed().await, None);
        });
    }
}
