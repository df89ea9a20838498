//! Who wakes a connection's task.
//!
//! What one stream does is something to do for the connection, and the other way
//! round. While the task runs, it need not be woken for that: it goes round once
//! more. It would be woken before the sockets are looked at, and so be served
//! before all the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Nudge(Option<(Arc<Task>, Waker)>);

#[derive(Debug)]
struct Task {
    waker: Waker,
    running: AtomicBool,
    /// Whether it was to be woken while it ran.
    again: AtomicBool,
}

impl Nudge {
    /// The task begins to run. Returns what wakes it from now on.
    pub(super) fn begin(&mut self, cx: &Context<'_>) -> Waker {
        match &self.0 {
            Some((task, waker)) if task.waker.will_wake(cx.waker()) => {
                task.running.store(true, Ordering::Release);
                waker.clone()
            }
            _ => {
                let task = Arc::new(Task {
                    waker: cx.waker().clone(),
                    running: AtomicBool::new(true),
                    again: AtomicBool::new(false),
                });
                let waker = Waker::from(Arc::clone(&task));
                self.0 = Some((task, waker.clone()));
                waker
            }
        }
    }

    /// Whether the task was to be woken since this was last asked.
    pub(super) fn again(&self) -> bool {
        let task = self.0.as_ref();
        task.is_some_and(|(task, _)| task.again.swap(false, Ordering::AcqRel))
    }

    /// The task runs no more. Returns whether it is to be woken at once.
    pub(super) fn end(&self) -> bool {
        if let Some((task, _)) = &self.0 {
            task.running.store(false, Ordering::Release);
        }
        self.again()
    }

    /// Has it go round once more.
    pub(super) fn wake(&self) {
        if let Some((_, waker)) = &self.0 {
            waker.wake_by_ref();
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.running.load(Ordering::Acquire) {
            self.again.store(true, Ordering::Release);
        } else {
            self.waker.wake_by_ref();
        }
    }
}
