//! Periodic work, all on one thread of the process.
//!
//! Workers have no timers for periodic work. A timer would make every
//! epoll_wait(2) set and cancel a timer of the kernel, which costs a good part
//! of what a small message costs in all. One thread for all, so that services
//! and their generations come and go without threads of their own.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Periodic work, which must not wait. It ends when this is dropped.
pub struct Ticker(Arc<Mutex<Work>>);

/// `None` once it has ended.
type Work = Option<Box<dyn FnMut() -> bool + Send>>;

/// Work that the thread does.
struct Scheduled {
    period: Duration,
    due: Instant,
    work: Arc<Mutex<Work>>,
}

/// The thread's end of the channel for new work; `None` until the first.
static THREAD: Mutex<Option<mpsc::Sender<Scheduled>>> = Mutex::new(None);

impl fmt::Debug for Ticker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticker").finish_non_exhaustive()
    }
}

impl Ticker {
    /// Calls `tick` every `period` from now on.
    ///
    /// # Errors
    /// Fails if the system gives no thread.
    pub fn start(period: Duration, mut tick: impl FnMut() + Send + 'static) -> io::Result<Self> {
        let work = move || {
            tick();
            true
        };
        add(period, Box::new(work)).map(Self)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // It may run at present. Dropped after the lock, since it may own much.
        let work = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(work);
    }
}

/// Calls `tick` every `period` from now on, until it returns false.
///
/// # Errors
/// Fails if the system gives no thread.
pub fn while_it_lasts(
    period: Duration,
    tick: impl FnMut() -> bool + Send + 'static,
) -> io::Result<()> {
    add(period, Box::new(tick)).map(drop)
}

fn add(period: Duration, work: Box<dyn FnMut() -> bool + Send>) -> io::Result<Arc<Mutex<Work>>> {
    let work = Arc::new(Mutex::new(Some(work)));
    let entry = Scheduled {
        period,
        due: Instant::now() + period,
        work: Arc::clone(&work),
    };
    let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = match &*thread {
        Some(sender) => match sender.send(entry) {
            Ok(()) => return Ok(work),
            // The thread has ended, which it does not do by itself.
            Err(mpsc::SendError(entry)) => entry,
        },
        None => entry,
    };
    let (sender, coming) = mpsc::channel();
    thread::Builder::new()
        .name("ticker".into())
        .spawn(move || run(entry, &coming))?;
    *thread = Some(sender);
    Ok(work)
}

/// Does all work when it is due.
fn run(first: Scheduled, coming: &mpsc::Receiver<Scheduled>) {
    let mut entries = vec![first];
    loop {
        let due = entries.iter().map(|entry| entry.due).min();
        let next = match due {
            Some(due) => coming.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => coming.recv().map_err(RecvTimeoutError::from),
        };
        match next {
            Ok(entry) => {
                entries.push(entry);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        entries.retain_mut(|entry| entry.due > Instant::now() || entry.tick());
    }
}

impl Scheduled {
    /// Does the work once. Returns false if it has ended.
    fn tick(&mut self) -> bool {
        // Not several times in a row after a delay.
        self.due = (self.due + self.period).max(Instant::now() + self.period / 2);
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        // A panic, which is logged, ends this work and no other.
        let goes_on = work
            .as_mut()
            .is_some_and(|work| catch_unwind(AssertUnwindSafe(work)).unwrap_or(false));
        let ended = match goes_on {
            true => None,
            false => work.take(),
        };
        drop(work);
        drop(ended);
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const PERIOD: Duration = Duration::from_millis(1);

    #[test]
    fn work_goes_on_until_it_is_dropped_and_owns_nothing_then() {
        let (ticks, ticked) = mpsc::channel();
        let ticker = Ticker::start(PERIOD, move || {
            let _ = ticks.send(());
        })
        .expect("a thread");
        for _ in 0..3 {
            ticked.recv().expect("a tick");
        }
        drop(ticker);
        while ticked.try_recv().is_ok() {}
        assert_eq!(ticked.recv(), Err(mpsc::RecvError), "the sender is gone");
    }

    #[test]
    fn work_ends_by_itself_and_a_panic_ends_no_other() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        while_it_lasts(PERIOD, move || counted.fetch_add(1, Ordering::Relaxed) < 2)
            .expect("a thread");
        while_it_lasts(PERIOD, || panic!("as it was told")).expect("a thread");
        while Arc::strong_count(&count) > 1 {
            thread::yield_now();
        }
        assert_eq!(count.load(Ordering::Relaxed), 3);
        let (ticks, ticked) = mpsc::channel();
        let _ticker = Ticker::start(PERIOD, move || {
            let _ = ticks.send(());
        })
        .expect("a thread");
        ticked.recv().expect("a tick");
    }
}
