//! The one timer of an event instance.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::instance::Instance;

/// Start of the guests' clock. A minute before the first look at it, so that no
/// time is 0.
static START: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    now.checked_sub(Duration::from_mins(1)).unwrap_or(now)
});

/// Returns the time of the guests' clock, in nanoseconds.
pub(crate) fn now() -> u64 {
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the instant of a time of the guests' clock; `None` if it never
/// comes.
fn instant(time: u64) -> Option<Instant> {
    START.checked_add(Duration::from_nanos(time))
}

/// The timer of an instance. Its task starts when it is first used, and ends
/// with the instance.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    alarm: Rc<Alarm>,
    task: Option<AbortHandle>,
}

#[derive(Debug, Default)]
struct Alarm {
    at: Cell<Option<Instant>>,
    /// Tells the task that its time has come nearer.
    nearer: Notify,
}

impl Timer {
    /// Moves the timer to a time of the guests' clock; `None` stops it. Calls
    /// `start` with its task if that does not run yet.
    pub(crate) fn set(
        &mut self,
        time: Option<u64>,
        instance: &Weak<Instance>,
        start: impl FnOnce(TimerTask) -> AbortHandle,
    ) {
        let at = time.and_then(instant);
        let before = self.alarm.at.replace(at);
        match (&self.task, at) {
            (None, None) => {}
            (None, Some(_)) => {
                self.task = Some(start(TimerTask {
                    alarm: Rc::clone(&self.alarm),
                    instance: Weak::clone(instance),
                }));
            }
            // A task that wakes too early sleeps again.
            (Some(_), Some(at)) if before.is_none_or(|before| at < before) => {
                self.alarm.nearer.notify_one();
            }
            (Some(_), _) => {}
        }
    }

    /// Stops the timer for good.
    pub(crate) fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The task of a timer.
#[derive(Debug)]
pub(crate) struct TimerTask {
    alarm: Rc<Alarm>,
    instance: Weak<Instance>,
}

impl TimerTask {
    /// Calls the guest at its times, until the instance is gone.
    pub(crate) async fn run(self) {
        loop {
            let alarm = &self.alarm;
            match alarm.at.get() {
                None => alarm.nearer.notified().await,
                Some(at) if at <= Instant::now() => {
                    alarm.at.set(None);
                    let Some(instance) = self.instance.upgrade() else {
                        return;
                    };
                    // A trap is already logged.
                    if instance.woken().is_err() {
                        return;
                    }
                    // A guest may ask to be woken at once, again and again.
                    tokio::task::yield_now().await;
                }
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at.into()) => {}
                        () = alarm.nearer.notified() => {}
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_advances_and_every_time_has_an_instant_or_never_comes() {
        let before = now();
        assert!(before >= Duration::from_mins(1).as_nanos() as u64);
        assert!(now() >= before);
        assert!(instant(0).is_some_and(|at| at <= Instant::now()));
        let far = instant(u64::MAX);
        assert!(far.is_none_or(|at| at > Instant::now()));
    }
}
