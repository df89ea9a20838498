//! A connection as its exchanges see it, and the list of idle connections.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};

use netwasm_net::io::unacknowledged;

/// Maximum of idle connections of a worker, to all hosts. For a while there may
/// be up to twice as many. Each counts against `--max-outgoing`.
const MOST_IDLE: usize = 128;

/// Handle of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientLine(Arc<ClientLineState>);

#[derive(Debug, Default)]
struct ClientLineState {
    /// Number of exchanges begun so far.
    uses: AtomicUsize,
    /// Number of exchanges under way.
    exchanges: AtomicUsize,
    /// Streams that the server takes on it, and one; 0 until it has told.
    streams: AtomicUsize,
    cut: AtomicBool,
    /// True if an exchange has asked for `held`.
    asked: AtomicBool,
    /// Bytes that the socket held for the peer when last asked.
    held: AtomicU64,
    /// Waker of the task that reads and writes.
    waker: Mutex<Option<Waker>>,
}

impl ClientLine {
    /// Begins an exchange. Returns true if there were others before.
    pub(super) fn begin(&self) -> bool {
        self.0.exchanges.fetch_add(1, Ordering::Relaxed);
        self.0.uses.fetch_add(1, Ordering::Relaxed) > 0
    }

    /// Notes how many streams the server takes on the connection.
    pub(super) fn note_streams(&self, streams: usize) {
        let noted = streams.saturating_add(1);
        self.0.streams.store(noted, Ordering::Relaxed);
    }

    /// Returns how many streams the server takes on the connection, if it has told.
    pub(super) fn streams(&self) -> Option<usize> {
        self.0.streams.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Ends the connection. Hyper alone would wait for a peer that takes
    /// nothing of a request, though nobody waits for the response any more.
    pub(super) fn cut(&self) {
        self.0.cut();
    }

    /// Checks that the connection was not cut.
    ///
    /// # Errors
    /// Fails with `ConnectionAborted` if the connection was cut.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.0.cut.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }

    /// Returns the bytes that the socket held for the peer at the last call.
    /// The socket's owner then measures again.
    pub(super) fn held(&self) -> u64 {
        self.0.asked.store(true, Ordering::Relaxed);
        if let Some(waker) = self.0.waker().take() {
            waker.wake();
        }
        self.0.held.load(Ordering::Relaxed)
    }

    /// Measures the held bytes, if asked.
    pub(super) fn tell_held(&self, socket: impl AsFd) {
        if self.0.asked.load(Ordering::Relaxed) && self.0.asked.swap(false, Ordering::Relaxed) {
            let held = unacknowledged(socket).unwrap_or(0);
            self.0.held.store(held, Ordering::Relaxed);
        }
    }

    /// Stores the waker of the task that is woken by `cut` and `held`.
    pub(super) fn keep(&self, cx: &Context<'_>) {
        let mut waker = self.0.waker();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }
}

impl ClientLineState {
    fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
        if let Some(waker) = self.waker().take() {
            waker.wake();
        }
    }

    /// True if the connection is idle and was not used since.
    fn idles_since(&self, uses: usize) -> bool {
        self.exchanges.load(Ordering::Relaxed) == 0 && self.uses.load(Ordering::Relaxed) == uses
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections of a worker that may be idle, the longest idle first.
#[derive(Clone, Debug, Default)]
pub(super) struct Idle(Arc<Mutex<VecDeque<Idling>>>);

#[derive(Debug)]
struct Idling {
    state: Weak<ClientLineState>,
    /// Number of its uses when it became idle.
    uses: usize,
}

impl Idle {
    /// Ends an exchange. If too many connections are idle, ends the longest
    /// idle ones.
    pub(super) fn end(&self, line: &ClientLine) {
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
        let lines: Vec<ClientLine> = (0..2 * MOST_IDLE).map(|_| ClientLine::default()).collect();
        let used = |line: &ClientLine| {
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
