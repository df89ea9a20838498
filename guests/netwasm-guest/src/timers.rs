//! The timers of an instance.
//!
//! Most timers are time-outs that are cancelled again, one after the other: one
//! around each read of a connection. So a cancelled timer stays where it is,
//! and the next one takes its place. This one is due later, and so the place is
//! too early, which does no harm: when its turn comes, it moves to where it
//! belongs. A time-out around a read then costs a few stores, and nothing is
//! sorted.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::task::{Context, Waker};

use crate::slab::Slab;
use crate::{executor, host};

/// A time that never comes.
const NEVER: u64 = u64::MAX;

/// Waiting tasks by their times, and the time at which the host will wake the
/// instance.
struct Timers {
    queue: RefCell<Queue>,
    /// The time that the host was asked for, no later than any in the queue;
    /// `NEVER` if for none.
    armed: Cell<u64>,
}

thread_local! {
    static TIMERS: ManuallyDrop<Timers> = const {
        ManuallyDrop::new(Timers {
            queue: RefCell::new(Queue::new()),
            armed: Cell::new(NEVER),
        })
    };
}

impl Timers {
    /// Works on the queue where it is, because to take it out of a cell and put
    /// it back costs more than the work. `work` must not come back here: it may
    /// neither wake a task, nor drop what others gave.
    fn with<R>(&self, work: impl FnOnce(&mut Queue) -> Option<R>) -> Option<R> {
        // It is never borrowed already. A panic's text would cost memory.
        work(&mut *self.queue.try_borrow_mut().ok()?)
    }
}

/// Sets a timer, and returns its key. The task is woken when the time has come.
pub(crate) fn set(due: u64, cx: &Context<'_>) -> Option<usize> {
    TIMERS.with(|timers| {
        if let Some((key, old)) = timers.with(|queue| queue.take_spare(due, cx.waker())) {
            drop(old);
            return Some(key);
        }
        let waker = cx.waker().clone();
        let key = timers.with(|queue| Some(queue.insert(due, waker)));
        arm(timers, due);
        key
    })
}

/// Lets a timer wake the current task. Returns false if its time has come.
pub(crate) fn renew(key: usize, cx: &Context<'_>) -> bool {
    TIMERS.with(|timers| {
        let waits = timers.with(|queue| queue.renew(key, cx.waker()));
        // Dropped here: the old waker, if there is one.
        waits.is_some()
    })
}

/// Ends the use of a timer, whether or not its time has come.
pub(crate) fn cancel(key: usize) {
    drop(TIMERS.with(|timers| timers.with(|queue| queue.cancel(key))));
}

/// Asks the host to wake the instance as soon as others had their turn.
pub(crate) fn wake_soon() {
    TIMERS.with(|timers| arm(timers, 0));
}

/// Handles the event of the timer.
pub(crate) fn woken() {
    TIMERS.with(|timers| {
        timers.armed.set(NEVER);
        let now = host::now();
        drop(timers.with(Queue::drop_spare));
        while let Some(waker) = timers.with(|queue| queue.pop_due(now)) {
            waker.wake();
        }
        executor::run();
        // Not before: most of what runs sets its timers again.
        drop(timers.with(Queue::drop_spare));
        if let Some(first) = timers.with(|queue| queue.first()) {
            arm(timers, first);
        }
    });
}

/// Forgets all timers.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn clear() {
    TIMERS.with(|timers| {
        timers.armed.set(NEVER);
        drop(timers.with(|queue| Some(std::mem::take(queue))));
    });
}

/// Asks the host to wake the instance at a time, unless it does so before.
fn arm(timers: &Timers, when: u64) {
    if when < timers.armed.get() {
        timers.armed.set(when);
        host::wake_at(Some(when));
    }
}

/// A binary heap of timers, from which any may be removed.
#[derive(Default)]
struct Queue {
    places: Vec<Place>,
    timers: Slab<Timer>,
    /// A timer that was cancelled but still has its place.
    spare: Option<usize>,
}

/// A place in the heap.
struct Place {
    /// No later than the timer is due.
    when: u64,
    key: usize,
}

struct Timer {
    due: u64,
    /// Index of its place; `None` once the time has come.
    place: Option<usize>,
    waker: Waker,
}

impl Queue {
    const fn new() -> Self {
        Self {
            places: Vec::new(),
            timers: Slab::new(),
            spare: None,
        }
    }

    fn first(&self) -> Option<u64> {
        self.places.first().map(|place| place.when)
    }

    fn insert(&mut self, due: u64, waker: Waker) -> usize {
        let at = self.places.len();
        let key = self.timers.insert(Timer {
            due,
            place: Some(at),
            waker,
        });
        self.places.push(Place { when: due, key });
        self.rise(at);
        key
    }

    /// Uses the place of the spare timer, unless that is too late. Returns its
    /// key, and a waker to drop.
    fn take_spare(&mut self, due: u64, waker: &Waker) -> Option<(usize, Option<Waker>)> {
        let key = self.spare?;
        let timer = self.timers.get_mut(key)?;
        if self.places.get(timer.place?)?.when > due {
            return None;
        }
        self.spare = None;
        timer.due = due;
        Some((key, replace(&mut timer.waker, waker)))
    }

    /// Gives a timer another waker, and returns the old one, to be dropped, if
    /// it was another task's. Returns `None` if the time has come.
    fn renew(&mut self, key: usize, waker: &Waker) -> Option<Option<Waker>> {
        let timer = self.timers.get_mut(key)?;
        timer.place?;
        Some(replace(&mut timer.waker, waker))
    }

    fn cancel(&mut self, key: usize) -> Option<Timer> {
        if self.spare.is_none() && self.timers.get_mut(key)?.place.is_some() {
            self.spare = Some(key);
            return None;
        }
        self.remove(key)
    }

    fn drop_spare(&mut self) -> Option<Timer> {
        let spare = self.spare.take()?;
        self.remove(spare)
    }

    fn remove(&mut self, key: usize) -> Option<Timer> {
        let timer = self.timers.remove(key)?;
        if let Some(at) = timer.place {
            self.vacate(at);
        }
        Some(timer)
    }

    /// Returns the task of a timer whose time has come.
    fn pop_due(&mut self, now: u64) -> Option<Waker> {
        loop {
            let first = self.places.first_mut().filter(|first| first.when <= now)?;
            let timer = self.timers.get_mut(first.key)?;
            if timer.due <= now {
                timer.place = None;
                let waker = timer.waker.clone();
                self.vacate(0);
                return Some(waker);
            }
            first.when = timer.due;
            self.sink(0);
        }
    }

    /// Removes a place.
    fn vacate(&mut self, at: usize) {
        let Some(last) = self.places.pop() else {
            return;
        };
        if let Some(place) = self.places.get_mut(at) {
            let key = last.key;
            *place = last;
            self.settle(key, at);
            self.rise(at);
            self.sink(at);
        }
    }

    /// Notes where a timer's place is.
    fn settle(&mut self, key: usize, at: usize) {
        if let Some(timer) = self.timers.get_mut(key) {
            timer.place = Some(at);
        }
    }

    fn when(&self, at: usize) -> u64 {
        self.places.get(at).map_or(NEVER, |place| place.when)
    }

    fn swap(&mut self, a: usize, b: usize) {
        if let Ok([a, b]) = self.places.get_disjoint_mut([a, b]) {
            std::mem::swap(a, b);
        }
        for at in [a, b] {
            if let Some(place) = self.places.get(at) {
                self.settle(place.key, at);
            }
        }
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.when(parent) <= self.when(at) {
                return;
            }
            self.swap(parent, at);
            at = parent;
        }
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let child = if self.when(right) < self.when(left) {
                right
            } else {
                left
            };
            if child >= self.places.len() || self.when(at) <= self.when(child) {
                return;
            }
            self.swap(at, child);
            at = child;
        }
    }
}

/// Stores a waker. Returns the old one if it wakes another task.
fn replace(place: &mut Waker, waker: &Waker) -> Option<Waker> {
    if place.will_wake(waker) {
        return None;
    }
    Some(std::mem::replace(place, waker.clone()))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::pending;
    use std::rc::Rc;
    use std::time::Duration;

    use crate::host::memory::wakes_requested;
    use crate::testing::{self, block_on};
    use crate::{Connection, Instant, Result, sleep, spawn, timeout, yield_now};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn cancelled_timeouts_ask_the_host_once() {
        block_on(async {
            for _ in 0..1000 {
                timeout(10 * SECOND, yield_now()).await.expect("in time");
            }
            assert_eq!(wakes_requested(), 1);
            // The requested wake-up comes to nothing, and later timers
            // are still due in time.
            let start = Instant::now();
            sleep(20 * SECOND).await;
            assert_eq!(start.elapsed(), 20 * SECOND);
            assert_eq!(wakes_requested(), 2);
        });
    }

    #[test]
    fn a_timeout_that_takes_the_place_of_another_is_in_time() {
        block_on(async {
            for limit in [10, 3, 30, 1] {
                timeout(9 * SECOND, yield_now()).await.expect("in time");
                let start = Instant::now();
                let late = timeout(limit * SECOND, pending::<()>()).await;
                assert!(late.is_err());
                assert_eq!(start.elapsed(), limit * SECOND);
            }
        });
    }

    #[test]
    fn reads_with_timeouts_ask_the_host_once_per_limit() {
        let start = Instant::now();
        let ended = Rc::new(Cell::new(None));
        let mut client = testing::serve({
            let ended = ended.clone();
            async move |mut conn: Connection| {
                while let Ok(data) = timeout(60 * SECOND, conn.read()).await {
                    assert!(data?.is_some());
                }
                ended.set(Some(start.elapsed()));
                Result::<()>::Ok(())
            }
        });
        for _ in 0..100 {
            testing::advance(SECOND);
            client.send("x");
        }
        // For the times 60 and 119, where the time-out of the time 59 ends.
        assert_eq!(wakes_requested(), 2);
        client.expect_end();
        assert_eq!(ended.get(), Some(160 * SECOND));
    }

    #[test]
    fn a_cancelled_timer_wakes_nobody() {
        block_on(async {
            let polls = Rc::new(RefCell::new(0));
            let task = spawn({
                let polls = polls.clone();
                async move {
                    let _ = timeout(SECOND, yield_now()).await;
                    std::future::poll_fn(|_| {
                        *polls.borrow_mut() += 1;
                        std::task::Poll::<()>::Pending
                    })
                    .await;
                }
            });
            sleep(5 * SECOND).await;
            assert_eq!(*polls.borrow(), 1);
            task.abort();
        });
    }

    #[test]
    fn nothing_is_left_when_all_is_forgotten() {
        let started = spawn(async { sleep(10 * SECOND).await });
        testing::run();
        testing::reset();
        assert!(started.is_finished());
        block_on(async {
            let start = Instant::now();
            sleep(20 * SECOND).await;
            assert_eq!(start.elapsed(), 20 * SECOND);
        });
    }

    #[test]
    fn many_tasks_with_timeouts_wake_in_order() {
        block_on(async {
            // Numbers that look random, and always the same.
            let mut state = 1_u32;
            let mut random = move || {
                state = state.wrapping_mul(1_103_515_245).wrapping_add(12345);
                state >> 16
            };
            let tasks: Vec<_> = (0..200)
                .map(|_| {
                    let limits = [(); 20].map(|()| 1 + random() % 50);
                    let pauses = [(); 20].map(|()| 1 + random() % 50);
                    spawn(async move {
                        for (limit, pause) in limits.into_iter().zip(pauses) {
                            let start = Instant::now();
                            let outcome = timeout(SECOND * limit, sleep(SECOND * pause)).await;
                            assert_eq!(outcome.is_ok(), pause <= limit);
                            assert_eq!(start.elapsed(), SECOND * pause.min(limit));
                        }
                    })
                })
                .collect();
            for task in tasks {
                assert_eq!(task.await, Some(()));
            }
        });
    }
}
