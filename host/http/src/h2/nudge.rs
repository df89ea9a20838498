//! Waking of a connection's task.
//!
//! Progress of a stream is work for the connection, and vice versa. While the
//! task runs, a wake-up only makes it loop once more. A real one would poll the
//! task again before sockets are looked at, and so serve it before all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// Waker of a connection's task. See the module.
#[derive(Debug, Default)]
pub(super) struct Nudge(Option<(Arc<Task>, Waker)>);

#[derive(Debug)]
struct Task {
    waker: Waker,
    running: AtomicBool,
    /// True if it was woken while it ran.
    again: AtomicBool,
}

impl Nudge {
    /// Marks the task as running. Returns the waker for this poll.
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

    /// True if the task was woken since the last call.
    pub(super) fn again(&self) -> bool {
        let task = self.0.as_ref();
        task.is_some_and(|(task, _)| task.again.swap(false, Ordering::AcqRel))
    }

    /// Marks the task as not running. Returns true if it must be woken at once.
    pub(super) fn end(&self) -> bool {
        if let Some((task, _)) = &self.0 {
            task.running.store(false, Ordering::Release);
        }
        self.again()
    }

    /// Makes the task loop once more.
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
