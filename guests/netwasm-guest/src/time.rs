//! The clock and timers.
//!
//! The host has one timer for an instance. This library keeps the times of all
//! who wait, and asks the host for the first of them: only when that is earlier
//! than what it asked for before. So a timeout that is cancelled again costs no
//! call into the host but one for the time.

use std::ops::{Add, AddAssign, Sub};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::{Error, Result, host, timers};

/// A time of the host's monotonic clock.
///
/// It stands for `std::time::Instant`, which brings the texts of all errors of
/// WASI into a component: memory that each instance pays for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// Returns the current time.
    pub fn now() -> Self {
        Self(host::now())
    }

    /// Returns the time since then.
    pub fn elapsed(self) -> Duration {
        Self::now() - self
    }

    /// Returns the time from another instant to this one; zero if the other one
    /// is later.
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanoseconds(duration)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.duration_since(earlier)
    }
}

/// Returns a duration in nanoseconds; the greatest number for one that is
/// longer than five centuries.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(duration.subsec_nanos()))
}

/// Waits. The resolution is a millisecond.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now() + duration)
}

/// Waits until a time has come.
pub const fn sleep_until(time: Instant) -> Sleep {
    Sleep {
        when: time.0,
        timer: None,
    }
}

/// Waits for a future, but no longer than a duration. After that, the future is
/// dropped. The clock starts when the future first has to wait: one that is
/// ready at once costs nothing.
///
/// # Errors
/// `Timeout`: the future took longer.
///
/// ```
/// use std::time::Duration;
///
/// use netwasm_guest::{Connection, Result, timeout};
///
/// const PATIENCE: Duration = Duration::from_secs(30);
///
/// async fn echo(mut conn: Connection) -> Result<()> {
///     // One `?` for the time-out, and one for what reading says.
///     while let Some(line) = timeout(PATIENCE, conn.read_line()).await?? {
///         conn.write_all(line + "\n").await?;
///     }
///     Ok(())
/// }
/// # let mut client = netwasm_guest::testing::serve(echo);
/// # client.send("hello\n");
/// # client.expect("hello\n");
/// # netwasm_guest::testing::advance(PATIENCE * 2);
/// # client.expect_end();
/// ```
///
/// Or with an answer of one's own:
///
/// ```
/// # use std::time::Duration;
/// # use netwasm_guest::{Connection, Result, timeout};
/// async fn greet(mut conn: Connection) -> Result<()> {
///     match timeout(Duration::from_secs(10), conn.read_line()).await {
///         Ok(name) => {
///             let name = name?.unwrap_or_default();
///             conn.write_all(format!("Hello, {name}!\n")).await
///         }
///         Err(_) => conn.write_all("You are too slow.\n").await,
///     }
/// }
/// # let mut client = netwasm_guest::testing::serve(greet);
/// # netwasm_guest::testing::advance(Duration::from_secs(20));
/// # client.expect("You are too slow.\n");
/// # client.expect_end();
/// ```
pub async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T> {
    let mut future = pin!(future);
    let mut limiter = None;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        let sleep = limiter.get_or_insert_with(|| sleep(limit));
        Pin::new(sleep).poll(cx).map(|()| Err(Error::timed_out()))
    })
    .await
}

/// Returns an [`Interval`], whose first tick is one period from now.
pub fn interval(period: Duration) -> Interval {
    Interval {
        next: Instant::now() + period,
        period,
    }
}

/// Ticks at equal distances.
pub struct Interval {
    next: Instant,
    period: Duration,
}

impl Interval {
    /// Waits for the next tick, and returns when it was due. Ticks that were
    /// missed are skipped.
    pub async fn tick(&mut self) -> Instant {
        sleep_until(self.next).await;
        let due = self.next;
        let now = Instant::now();
        self.next += self.period;
        if self.next <= now {
            self.next = now + self.period;
        }
        due
    }
}

/// Waits for a time; made by [`sleep`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Sleep {
    when: u64,
    timer: Option<usize>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.timer {
            None => self.timer = timers::set(self.when, cx),
            Some(timer) if timers::renew(timer, cx) => {}
            Some(_) => return Poll::Ready(()),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            timers::cancel(timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::testing::block_on;
    use crate::{ErrorKind, join_all, spawn};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn sleeping_takes_as_long_as_asked_for() {
        block_on(async {
            let start = Instant::now();
            sleep(3 * SECOND).await;
            assert_eq!(start.elapsed(), 3 * SECOND);
            sleep(Duration::ZERO).await;
            assert_eq!(start.elapsed(), 3 * SECOND);
        });
    }

    #[test]
    fn sleepers_wake_in_the_order_of_their_times() {
        block_on(async {
            let order = Rc::new(RefCell::new(Vec::new()));
            let sleeps = [5, 1, 4, 2, 3, 9, 7, 8, 6].map(|seconds| {
                let order = order.clone();
                async move {
                    sleep(SECOND * seconds).await;
                    order.borrow_mut().push(seconds);
                }
            });
            join_all(sleeps).await;
            assert_eq!(*order.borrow(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        });
    }

    #[test]
    fn a_timeout_drops_what_takes_too_long() {
        block_on(async {
            let held = Rc::new(());
            let kept = held.clone();
            let slow = async move {
                sleep(2 * SECOND).await;
                drop(kept);
            };
            let error = timeout(SECOND, slow).await.expect_err("it is too slow");
            assert_eq!(error.kind(), ErrorKind::Timeout);
            assert_eq!(error.to_string(), "timed out");
            assert_eq!(Rc::strong_count(&held), 1);
            assert_eq!(timeout(SECOND, async { 1 }).await.ok(), Some(1));
        });
    }

    #[test]
    fn any_timer_may_be_removed() {
        block_on(async {
            // Numbers that look random, and always the same.
            let mut state = 1_u32;
            let mut random = move || {
                state = state.wrapping_mul(1_103_515_245).wrapping_add(12345);
                state >> 16
            };
            let order = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = (0..500)
                .map(|_| {
                    let time = 1 + random() % 1000;
                    let order = order.clone();
                    let task = spawn(async move {
                        sleep(SECOND * time).await;
                        order.borrow_mut().push(time);
                    });
                    (time, task)
                })
                .collect();
            crate::yield_now().await;
            let mut expected = Vec::new();
            for (time, task) in tasks {
                if random() % 2 == 0 {
                    task.abort();
                } else {
                    expected.push(time);
                }
            }
            sleep(2000 * SECOND).await;
            expected.sort_unstable();
            assert_eq!(*order.borrow(), expected);
        });
    }

    #[test]
    fn an_interval_ticks_and_skips_what_was_missed() {
        block_on(async {
            let start = Instant::now();
            let mut ticks = interval(SECOND);
            assert_eq!(ticks.tick().await - start, SECOND);
            assert_eq!(ticks.tick().await - start, 2 * SECOND);
            sleep(5 * SECOND).await;
            assert_eq!(ticks.tick().await - start, 3 * SECOND);
            assert_eq!(ticks.tick().await - start, 8 * SECOND);
        });
    }

    #[test]
    fn a_sleep_may_be_polled_by_another_task() {
        block_on(async {
            let mut nap = sleep(SECOND);
            let polled = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut nap).poll(cx))).await;
            assert!(polled.is_pending());
            let start = Instant::now();
            assert_eq!(spawn(nap).await, Some(()));
            assert_eq!(start.elapsed(), SECOND);
        });
    }
}
