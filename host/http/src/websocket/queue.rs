//! Bytes of WebSocket connections that wait for their streams of HTTP/2. All
//! streams of a connection are one client's, and bounded together.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use netwasm_base::error::ConnectionError;
use netwasm_net::thread::Tick;

use crate::websocket::sender::Outlet;

/// More is queued than may be.
const FULL: ConnectionError = ConnectionError::LimitExceeded(
    "more is queued for the peer than --max-write-buffer allows for a connection, all its \
     streams together",
);

/// Bytes queued for the streams of a connection.
#[derive(Debug)]
pub(crate) struct TunnelQueues {
    /// Maximum of bytes.
    most: usize,
    bytes: Cell<usize>,
    all: RefCell<Vec<Weak<TunnelQueue>>>,
}

/// Bytes queued for a stream.
#[derive(Debug)]
pub(super) struct TunnelQueue {
    queues: Rc<TunnelQueues>,
    bytes: RefCell<BytesMut>,
    failed: RefCell<Option<ConnectionError>>,
    waker: RefCell<Option<Waker>>,
    /// Tick at which the client last took something, or nothing was queued.
    progressed: Cell<Tick>,
    /// True while the stream's future runs, and so need not be woken.
    driven: Cell<bool>,
}

/// The way to the client of a stream.
#[derive(Debug)]
pub(super) struct TunnelOutlet(pub(super) Rc<TunnelQueue>);

impl TunnelQueues {
    /// Returns the queues of a connection for which `most` bytes may be queued.
    pub(crate) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self {
            most,
            bytes: Cell::new(0),
            all: RefCell::default(),
        })
    }

    /// Returns the queue of a new stream.
    pub(super) fn queue(self: &Rc<Self>) -> Rc<TunnelQueue> {
        let queue = Rc::new(TunnelQueue {
            queues: Rc::clone(self),
            bytes: RefCell::default(),
            failed: RefCell::default(),
            waker: RefCell::default(),
            progressed: Cell::default(),
            driven: Cell::new(false),
        });
        let mut all = self.all.borrow_mut();
        all.retain(|queue| queue.strong_count() > 0);
        all.push(Rc::downgrade(&queue));
        queue
    }

    /// Ends streams, the longest queue first, until what is queued is within the
    /// limit.
    fn keep_within(&self) {
        while self.bytes.get() > self.most {
            let all = self.all.borrow();
            let queues = all.iter().filter_map(Weak::upgrade);
            match queues.max_by_key(|queue| queue.len()) {
                Some(longest) if !longest.is_empty() => longest.fail(FULL),
                _ => return,
            }
        }
    }
}

impl TunnelQueue {
    pub(super) fn len(&self) -> usize {
        self.bytes.borrow().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes that the client has taken something, or that nothing is queued.
    pub(super) fn note_progress(&self, now: Tick) {
        self.progressed.set(now);
    }

    /// Returns the tick of the last progress.
    pub(super) fn progressed(&self) -> Tick {
        self.progressed.get()
    }

    /// Takes the first bytes, `count` of them.
    pub(super) fn take(&self, count: usize) -> Bytes {
        let mut bytes = self.bytes.borrow_mut();
        let piece = bytes.split_to(count).freeze();
        if bytes.is_empty() {
            // An idle connection keeps no buffer.
            *bytes = BytesMut::new();
        }
        self.free(count);
        piece
    }

    /// Runs the stream's future, which is not woken meanwhile.
    pub(super) fn drive<T>(&self, waker: &Waker, poll: impl FnOnce() -> T) -> T {
        *self.waker.borrow_mut() = Some(waker.clone());
        self.driven.set(true);
        let polled = poll();
        self.driven.set(false);
        polled
    }

    /// Returns the reason to end the stream, once.
    pub(super) fn take_failure(&self) -> Option<ConnectionError> {
        self.failed.borrow_mut().take()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.borrow().is_some()
    }

    fn fail(&self, reason: ConnectionError) {
        self.failed.borrow_mut().get_or_insert(reason);
        let left = self.bytes.take();
        self.free(left.len());
        self.wake();
    }

    fn free(&self, count: usize) {
        let bytes = &self.queues.bytes;
        bytes.set(bytes.get() - count);
    }

    fn wake(&self) {
        if !self.driven.get()
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }
}

impl Drop for TunnelQueue {
    fn drop(&mut self) {
        self.free(self.len());
    }
}

impl Outlet for TunnelOutlet {
    fn write(&self, parts: &[&[u8]]) {
        let Self(queue) = self;
        if queue.has_failed() {
            return;
        }
        let more: usize = parts.iter().map(|part| part.len()).sum();
        let mut bytes = queue.bytes.borrow_mut();
        bytes.reserve(more);
        for part in parts {
            bytes.extend_from_slice(part);
        }
        drop(bytes);
        let all = &queue.queues.bytes;
        all.set(all.get() + more);
        queue.queues.keep_within();
        queue.wake();
    }

    fn queued(&self) -> u64 {
        self.0.len() as u64
    }

    fn progressed(&self) -> Tick {
        self.0.progressed()
    }

    fn has_room(&self, more: usize) -> bool {
        let queues = &self.0.queues;
        queues.bytes.get().saturating_add(more) <= queues.most
    }

    fn wake(&self) {
        self.0.wake();
    }

    /// Does nothing: the stream's window holds the client back.
    fn pause(&self, _: bool) {}

    fn fail(&self, reason: ConnectionError) {
        self.0.fail(reason);
    }

    fn is_closing(&self) -> bool {
        self.0.has_failed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_queued_for_a_connection_is_bounded_over_all_its_streams() {
        let queues = TunnelQueues::new(1000);
        let [first, second, third] = [(); 3].map(|()| TunnelOutlet(queues.queue()));
        first.write(&[&[0; 300], &[0; 200]]);
        second.write(&[&[0; 400]]);
        assert!(third.has_room(100) && !third.has_room(101));
        third.write(&[&[0; 101]]);
        let failed = |it: &TunnelOutlet| it.is_closing();
        assert!(failed(&first) && !failed(&second) && !failed(&third));
        assert_eq!(
            (first.queued(), second.queued(), third.queued()),
            (0, 400, 101)
        );
        // Bytes that are sent, or gone with their stream, make room.
        assert_eq!(second.0.take(400).len(), 400);
        assert!(third.has_room(899) && !third.has_room(900));
        drop(third);
        assert!(second.has_room(1000));
        // A message beyond the limit ends its own stream.
        second.write(&[&[0; 1001]]);
        assert!(failed(&second) && queues.bytes.get() == 0);
    }
}
