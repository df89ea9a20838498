//! A connection as its exchanges see it, and how many are kept that have none.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};

use netwasm_net::io::unacknowledged;

/// How many idle ones a worker keeps, of all hosts, and for a while up to twice
/// as many: each counts against `--max-outgoing`.
const MOST_IDLE: usize = 128;

/// One connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Arc<LineState>);

#[derive(Debug, Default)]
struct LineState {
    /// How often it was taken for an exchange.
    uses: AtomicUsize,
    /// How many are under way.
    exchanges: AtomicUsize,
    cut: AtomicBool,
    /// True if an exchange wants to know `held`.
    asked: AtomicBool,
    /// Bytes that the socket held for the peer when that was asked last.
    held: AtomicU64,
    /// Who reads and writes it.
    waker: Mutex<Option<Waker>>,
}

impl Line {
    /// Begins an exchange, and tells whether there were others before.
    pub(super) fn begin(&self) -> bool {
        self.0.exchanges.fetch_add(1, Ordering::Relaxed);
        self.0.uses.fetch_add(1, Ordering::Relaxed) > 0
    }

    /// Ends the connection: hyper alone would wait for a peer that takes nothing
    /// of a request, though nobody waits for the response any more.
    pub(super) fn cut(&self) {
        self.0.cut();
    }

    /// # Errors
    /// It was cut.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.0.cut.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }

    /// Bytes that the socket held for the peer when this was last called. Who
    /// has the socket looks again.
    pub(super) fn held(&self) -> u64 {
        self.0.asked.store(true, Ordering::Relaxed);
        if let Some(waker) = self.0.waker().take() {
            waker.wake();
        }
        self.0.held.load(Ordering::Relaxed)
    }

    /// Answers that, if it was asked.
    pub(super) fn tell_held(&self, socket: impl AsFd) {
        if self.0.asked.load(Ordering::Relaxed) && self.0.asked.swap(false, Ordering::Relaxed) {
            let held = unacknowledged(socket).unwrap_or(0);
            self.0.held.store(held, Ordering::Relaxed);
        }
    }

    /// Keeps who is to be woken when it is cut, or asked.
    pub(super) fn keep(&self, cx: &Context<'_>) {
        let mut waker = self.0.waker();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }
}

impl LineState {
    fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
        if let Some(waker) = self.waker().take() {
            waker.wake();
        }
    }

    /// Whether nothing has been under way on it since so many uses.
    fn idles_since(&self, uses: usize) -> bool {
        self.exchanges.load(Ordering::Relaxed) == 0 && self.uses.load(Ordering::Relaxed) == uses
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections of a worker that may be idle, the longest idle first.
#[derive(Clone, Debug, Default)]
pub(super) struct Idle(Arc<Mutex<VecDeque<Idling>>>);

#[derive(Debug)]
struct Idling {
    state: Weak<LineState>,
    /// How often it had been used when it became so.
    uses: usize,
}

impl Idle {
    /// Ends an exchange. Where too many are idle then, the first goes.
    pub(super) fn end(&self, line: &Line) {
        let state = &line.0;
        if state.exchanges.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back(Idling {
            state: Arc::downgrade(state),
            uses: state.uses.load(Ordering::Relaxed),
        });
        if all.len() <= 2 * MOST_IDLE {
            return;
        }
        all.retain(|it| {
            let state = it.state.upgrade();
            state.is_some_and(|state| state.idles_since(it.uses))
        });
        while all.len() > MOST_IDLE {
            let first = all.pop_front().and_then(|it| it.state.upgrade());
            if let Some(state) = first {
                state.cut();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_go_where_there_are_too_many() {
        let idle = Idle::default();
        let lines: Vec<Line> = (0..2 * MOST_IDLE).map(|_| Line::default()).collect();
        let used = |line: &Line| {
            line.begin();
            idle.end(line);
        };
        lines.iter().for_each(used);
        assert!(lines.iter().all(|line| line.check().is_ok()));
        // The second is busy, the first is used again.
        lines[1].begin();
        used(&lines[0]);
        let cut = lines.iter().filter(|line| line.check().is_err()).count();
        assert!(cut >= MOST_IDLE - 2, "{cut}");
        assert!(lines[0].check().is_ok() && lines[1].check().is_ok());
        assert!(lines[2].check().is_err());
        assert!(lines[2 * MOST_IDLE - 1].check().is_ok());
    }
}
