//! The tasks of an instance.
//!
//! An event wakes tasks, and the event itself runs all tasks that were woken
//! before it returns to the host. So a task that waits for an event runs within
//! that event, and nothing runs in between.

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt::{Display, Write};
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use crate::cell::with;
use crate::channel::oneshot;
use crate::slab::Slab;
use crate::{Error, log, timers};

/// Polls within one event.
const MAX_POLLS: usize = 256;

/// The tasks, and those that are ready.
struct Executor {
    /// `None` for a task that is being polled.
    tasks: Cell<Slab<Option<Job>>>,
    ready: Cell<VecDeque<usize>>,
}

thread_local! {
    // Never dropped: an instance ends with its memory, and a destructor would
    // have to be registered.
    static EXECUTOR: ManuallyDrop<Executor> = const {
        ManuallyDrop::new(Executor {
            tasks: Cell::new(Slab::new()),
            ready: Cell::new(VecDeque::new()),
        })
    };
}

/// A task that waits.
struct Job {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
    state: Arc<State>,
}

/// State that a task shares with its wakers.
struct State {
    key: usize,
    /// True if the task is in the list of those that are ready.
    queued: AtomicBool,
    /// True if the task was aborted while it ran.
    aborted: AtomicBool,
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Relaxed) {
            EXECUTOR.with(|executor| with(&executor.ready, |ready| ready.push_back(self.key)));
        }
    }
}

impl Executor {
    fn start(&self, future: Pin<Box<dyn Future<Output = ()>>>) -> Arc<State> {
        let state = with(&self.tasks, |tasks| {
            let state = Arc::new(State {
                key: tasks.next_key(),
                queued: AtomicBool::new(true),
                aborted: AtomicBool::new(false),
            });
            tasks.insert(Some(Job {
                future,
                waker: Waker::from(state.clone()),
                state: state.clone(),
            }));
            state
        });
        with(&self.ready, |ready| ready.push_back(state.key));
        state
    }

    fn poll(&self, key: usize) {
        let take = |tasks: &mut Slab<Option<Job>>| tasks.get_mut(key).and_then(Option::take);
        let Some(mut job) = with(&self.tasks, take) else {
            return; // a waker of a task that has ended
        };
        job.state.queued.store(false, Relaxed);
        let polled = job
            .future
            .as_mut()
            .poll(&mut Context::from_waker(&job.waker));
        if polled.is_pending() && !job.state.aborted.load(Relaxed) {
            with(&self.tasks, |tasks| {
                if let Some(place) = tasks.get_mut(key) {
                    *place = Some(job);
                }
            });
        } else {
            drop(job);
            with(&self.tasks, |tasks| tasks.remove(key));
        }
    }

    fn abort(&self, state: &Arc<State>) {
        state.aborted.store(true, Relaxed);
        let job = with(&self.tasks, |tasks| {
            // The key may be another task's by now.
            match tasks.get_mut(state.key) {
                Some(Some(job)) if Arc::ptr_eq(&job.state, state) => tasks.remove(state.key),
                _ => None,
            }
        });
        drop(job);
    }
}

/// Starts a task whose result nobody waits for.
pub(crate) fn start(future: impl Future<Output = ()> + 'static) {
    EXECUTOR.with(|executor| executor.start(Box::pin(future)));
}

/// Runs the tasks that were woken, and those that these wake. If they do not
/// come to rest, the host has its turn and then wakes the instance again.
pub(crate) fn run() {
    if !run_ready() {
        timers::wake_soon();
    }
}

/// Runs the tasks that were woken. Returns false if some are still ready after
/// a number of polls.
pub(crate) fn run_ready() -> bool {
    EXECUTOR.with(|executor| {
        for _ in 0..MAX_POLLS {
            let Some(key) = with(&executor.ready, VecDeque::pop_front) else {
                return true;
            };
            executor.poll(key);
        }
        with(&executor.ready, |ready| ready.is_empty())
    })
}

/// True if a task is ready to run.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn has_work() -> bool {
    EXECUTOR.with(|executor| with(&executor.ready, |ready| !ready.is_empty()))
}

/// Drops all tasks.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn clear() {
    EXECUTOR.with(|executor| {
        drop(executor.tasks.take());
        executor.ready.take();
    });
}

/// Starts a task: runs a future beside all others of this instance.
///
/// The task begins to run before the current event ends. It ends with its
/// instance: under `--isolation connection`, when the last connection is lost.
///
/// ```
/// # netwasm_guest::testing::block_on(async {
/// let task = netwasm_guest::spawn(async { 6 * 7 });
/// assert_eq!(task.await, Some(42));
/// # });
/// ```
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    let (sender, result) = oneshot::channel();
    let work = async move {
        // Nobody receives if the handle was dropped.
        let _ = sender.send(future.await);
    };
    let state = EXECUTOR.with(|executor| executor.start(Box::pin(work)));
    Task { state, result }
}

/// A task that was started by [`spawn`].
///
/// Awaiting it returns what the task returns, or `None` if the task was
/// aborted. Dropping it lets the task go on.
pub struct Task<T> {
    state: Arc<State>,
    result: oneshot::Receiver<T>,
}

impl<T> Task<T> {
    /// Ends the task: its future is dropped. Does nothing if it has ended. A
    /// task that aborts itself ends where it next waits.
    pub fn abort(&self) {
        EXECUTOR.with(|executor| executor.abort(&self.state));
    }

    /// Returns true if the task has ended.
    pub fn is_finished(&self) -> bool {
        self.result.is_closed()
    }
}

impl<T> Future for Task<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.result).poll(cx).map(Result::ok)
    }
}

/// Lets all other tasks that are ready run first; asyncio's `sleep(0)`.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Return value of a handler: nothing, or a result whose error is logged.
pub trait Outcome {
    #[doc(hidden)]
    fn report(self, peer: impl FnOnce() -> String);
}

impl Outcome for () {
    fn report(self, _peer: impl FnOnce() -> String) {}
}

impl<E: Display + 'static> Outcome for Result<(), E> {
    fn report(self, peer: impl FnOnce() -> String) {
        if let Err(error) = self {
            let mut message = peer();
            // Writing to a string cannot fail.
            let _ = write!(message, ": {error}");
            let known: Option<&Error> = (&error as &dyn Any).downcast_ref();
            let level = match known.is_some_and(Error::is_of_peer) {
                true => log::Level::Debug,
                false => log::Level::Warn,
            };
            log::write(level, &message);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::testing::{block_on, run};

    #[test]
    fn tasks_run_in_the_order_in_which_they_were_woken() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        block_on({
            let seen = seen.clone();
            async move {
                for number in 0..3 {
                    let seen = seen.clone();
                    spawn(async move {
                        seen.borrow_mut().push(number);
                        yield_now().await;
                        seen.borrow_mut().push(number + 10);
                    });
                }
                yield_now().await;
                yield_now().await;
            }
        });
        assert_eq!(*seen.borrow(), [0, 1, 2, 10, 11, 12]);
    }

    #[test]
    fn a_task_gives_its_result_and_goes_on_without_its_handle() {
        let done = Rc::new(Cell::new(false));
        block_on({
            let done = done.clone();
            async move {
                assert_eq!(spawn(async { 5 }).await, Some(5));
                spawn(async move {
                    yield_now().await;
                    done.set(true);
                });
            }
        });
        run();
        assert!(done.get());
    }

    #[test]
    fn aborting_drops_the_future_and_leaves_the_slot_to_others() {
        block_on(async {
            let held = Rc::new(());
            let task = spawn({
                let held = held.clone();
                async move {
                    std::future::pending::<()>().await;
                    drop(held);
                }
            });
            yield_now().await;
            assert!(!task.is_finished());
            task.abort();
            assert_eq!(Rc::strong_count(&held), 1);
            assert!(task.is_finished());
            let next = spawn(async { 1 });
            // The slot is another's by now.
            task.abort();
            assert_eq!(task.await, None);
            assert_eq!(next.await, Some(1));
        });
    }

    #[test]
    fn a_task_may_abort_itself() {
        block_on(async {
            let own: Rc<RefCell<Option<Task<()>>>> = Rc::default();
            let reached = Rc::new(Cell::new(0));
            let task = spawn({
                let (own, reached) = (own.clone(), reached.clone());
                async move {
                    if let Some(task) = &*own.borrow() {
                        task.abort();
                    }
                    reached.set(1);
                    yield_now().await;
                    reached.set(2);
                }
            });
            *own.borrow_mut() = Some(task);
            yield_now().await;
            yield_now().await;
            yield_now().await;
            assert_eq!(reached.get(), 1);
        });
    }

    #[test]
    fn a_task_that_spins_gives_the_host_its_turn() {
        let polls = Rc::new(Cell::new(0));
        start({
            let polls = polls.clone();
            async move {
                loop {
                    polls.set(polls.get() + 1);
                    yield_now().await;
                }
            }
        });
        super::run();
        assert_eq!(polls.get(), MAX_POLLS);
        // The host was asked to come back at once, and does.
        timers::woken();
        assert_eq!(polls.get(), 2 * MAX_POLLS);
        clear();
    }
}
