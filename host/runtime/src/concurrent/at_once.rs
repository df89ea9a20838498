//! Instances that wake themselves.
//!
//! wasmtime's loop often does: for each guest that yields, as those of Rust do that
//! can spawn, and when all its futures have been polled. Tokio would then queue the
//! task, and poll what the poll before has woken, such as a connection whose
//! response has not got its body yet. So the task is polled again at once, for a
//! moment, unless the guest was interrupted or the round of the worker is over.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use netwasm_net::health::Health;
use netwasm_net::turns::Turns;

/// Time for which a task is polled again, from the first such poll: enough for the
/// yields of several requests, and too short for other tasks to suffer.
const MOMENT: Duration = Duration::from_micros(25);

const IDLE: u8 = 0;
const POLLED: u8 = 1;
const WOKEN: u8 = 2;

/// Polls the task of an instance again at once when it has woken itself, unless it
/// takes long.
pub(super) async fn at_once<R>(turns: &Turns, health: &Health, task: impl Future<Output = R>) -> R {
    let mut task = pin!(task);
    let mut kept: Option<Arc<SelfWaker>> = None;
    let mut waker = Waker::noop().clone();
    poll_fn(|cx| {
        let own = match &kept {
            Some(own) if own.outer.will_wake(cx.waker()) => own,
            _ => {
                let own = kept.insert(SelfWaker::new(cx.waker()));
                waker = Waker::from(Arc::clone(own));
                &*own
            }
        };
        let mut begun = None;
        loop {
            own.begin_poll();
            let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_ready() || !own.end_poll() {
                return polled;
            }
            let begun = *begun.get_or_insert_with(Instant::now);
            if health.has_yielded() || !turns.goes_on() || begun.elapsed() >= MOMENT {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Waker of a task that notes whether the task is woken while it is polled.
struct SelfWaker {
    outer: Waker,
    /// `IDLE`, `POLLED`, or `WOKEN` since the last poll began.
    state: AtomicU8,
}

impl SelfWaker {
    fn new(outer: &Waker) -> Arc<Self> {
        Arc::new(Self {
            outer: outer.clone(),
            state: AtomicU8::new(IDLE),
        })
    }

    fn begin_poll(&self) {
        self.state.swap(POLLED, Ordering::AcqRel);
    }

    /// Ends a poll that is pending. Returns true if the task was woken meanwhile.
    fn end_poll(&self) -> bool {
        self.state
            .compare_exchange(POLLED, IDLE, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
    }
}

impl Wake for SelfWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == IDLE {
            self.outer.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::atomic::AtomicUsize;

    use netwasm_net::turns::Steps;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Yields this many times.
    async fn yielding(mut times: usize) {
        poll_fn(|cx| {
            if times == 0 {
                return Poll::Ready(());
            }
            times -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    #[test]
    fn a_task_that_yields_is_polled_again_at_once() {
        let (turns, health) = (Turns::new(Steps::default()), Health::default());
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut task = pin!(at_once(&turns, &health, yielding(3)));
        let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_ready());
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_task_that_always_yields_lets_others_go_on() {
        let (turns, health) = (Turns::new(Steps::default()), Health::default());
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut task = pin!(at_once(&turns, &health, yielding(usize::MAX)));
        for polls in 1..3 {
            let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            assert_eq!(count.0.load(Ordering::Relaxed), polls);
        }
    }

    #[test]
    fn a_task_is_not_polled_again_in_an_overdue_round() {
        let steps = Steps::default();
        let (turns, health) = (Turns::new(steps.clone()), Health::default());
        steps.advance();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut task = pin!(at_once(&turns, &health, yielding(1)));
        let mut cx = Context::from_waker(&waker);
        assert!(task.as_mut().poll(&mut cx).is_pending());
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(task.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn a_guest_that_was_interrupted_lets_others_go_on() {
        let (turns, health) = (Turns::new(Steps::default()), Health::default());
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let computing = async {
            health.yields();
            yielding(1).await;
        };
        let mut task = pin!(at_once(&turns, &health, computing));
        let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_wakes_a_task_between_its_polls_wakes_it_once() {
        let (turns, health) = (Turns::new(Steps::default()), Health::default());
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let noted = RefCell::new(None::<Waker>);
        let waiting = poll_fn(|cx| {
            *noted.borrow_mut() = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        let mut task = pin!(at_once(&turns, &health, waiting));
        for polls in 1..3 {
            let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            let noted = noted.borrow().clone().expect("a waker");
            noted.wake_by_ref();
            noted.wake();
            assert_eq!(count.0.load(Ordering::Relaxed), polls);
        }
    }
}
