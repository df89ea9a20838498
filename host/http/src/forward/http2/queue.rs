//! Requests that wait for room on a server's connections, first come, first
//! served.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::time::Sleep;

use netwasm_net::upstream::NoPlace;

use super::line::MOST_STREAMS;

/// The requests of a worker that wait for room at a server, and the number of
/// streams that the server takes on a connection.
#[derive(Debug)]
pub(super) struct StreamQueue {
    waiting: RefCell<VecDeque<(u64, Option<Waker>)>>,
    /// Number of the next request. All queues of a worker count together: a
    /// server's queue may be another when a request comes back with its turn.
    next: Rc<Cell<u64>>,
    streams: Cell<usize>,
}

impl StreamQueue {
    /// Returns an empty queue, whose requests have their numbers from this counter.
    pub(super) fn new(next: &Rc<Cell<u64>>) -> Self {
        Self {
            waiting: RefCell::default(),
            next: Rc::clone(next),
            streams: Cell::new(MOST_STREAMS),
        }
    }

    /// Notes how many streams the server takes on a connection.
    pub(super) fn learn(&self, streams: usize) {
        self.streams.set(streams);
    }

    /// Returns the number of streams that the server takes on a connection, as
    /// far as it is known.
    pub(super) fn streams(&self) -> usize {
        self.streams.get()
    }

    /// True if no request waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Returns the number of a request that comes now: its turn is before those of
    /// later ones.
    pub(super) fn turn(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    /// Lets a request wait, for at most this time, unless so many do. One that has
    /// come before keeps its turn.
    ///
    /// # Errors
    /// Fails if too many wait.
    pub(super) fn enter(
        self: &Rc<Self>,
        most: u32,
        limit: Duration,
        turn: Option<u64>,
    ) -> Result<Queued, NoPlace> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= most as usize {
            return Err(NoPlace::QueueFull);
        }
        let number = turn.unwrap_or_else(|| self.turn());
        let place = waiting.partition_point(|(it, _)| *it < number);
        waiting.insert(place, (number, None));
        Ok(Queued {
            queue: Rc::clone(self),
            number,
            late: Box::pin(tokio::time::sleep(limit)),
        })
    }

    /// Wakes the request whose turn it is: there may be room for it.
    pub(super) fn wake_first(&self) {
        let waiting = self.waiting.borrow();
        if let Some((_, Some(waker))) = waiting.front() {
            waker.wake_by_ref();
        }
    }
}

/// A request that waits. Dropping it leaves the queue.
#[derive(Debug)]
pub(in crate::forward) struct Queued {
    queue: Rc<StreamQueue>,
    number: u64,
    late: Pin<Box<Sleep>>,
}

impl Queued {
    /// Returns the request's turn.
    pub(in crate::forward) fn turn(&self) -> u64 {
        self.number
    }

    /// Polls `take` while it is the request's turn, whenever there may be room.
    /// Ready with what it has got.
    ///
    /// # Errors
    /// Fails if there was no room in time.
    pub(in crate::forward) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce() -> Option<T>,
    ) -> Poll<Result<T, NoPlace>> {
        let mut waiting = self.queue.waiting.borrow_mut();
        let is_first = waiting.front().is_some_and(|(it, _)| *it == self.number);
        let own = waiting.iter_mut().find(|(it, _)| *it == self.number);
        if let Some((_, waker)) = own
            && !waker.as_ref().is_some_and(|it| it.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        drop(waiting);
        if is_first && let Some(taken) = take() {
            return Poll::Ready(Ok(taken));
        }
        ready!(self.late.as_mut().poll(cx));
        Poll::Ready(Err(NoPlace::Timeout))
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let mut waiting = self.queue.waiting.borrow_mut();
        let place = waiting.iter().position(|(it, _)| *it == self.number);
        if let Some(place) = place {
            waiting.remove(place);
        }
        drop(waiting);
        // There may be room for the next one, too.
        self.queue.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(queued: &mut Queued, room: bool) -> Poll<Result<(), NoPlace>> {
        let mut cx = Context::from_waker(Waker::noop());
        queued.poll(&mut cx, || room.then_some(()))
    }

    #[tokio::test]
    async fn requests_have_their_turns_in_the_order_of_their_coming() {
        let queue = Rc::new(StreamQueue::new(&Rc::default()));
        let hour = Duration::from_secs(3600);
        let enter = |turn| queue.enter(3, hour, turn);
        let dialled = queue.turn();
        let mut one = enter(None).expect("room");
        let mut two = enter(None).expect("room");
        // One that came before, and waited for a connection, keeps its turn.
        let mut before = enter(Some(dialled)).expect("room");
        assert_eq!(enter(None).err(), Some(NoPlace::QueueFull));
        assert_eq!(enter(Some(dialled)).err(), Some(NoPlace::QueueFull));
        assert!(poll(&mut one, true).is_pending());
        assert_eq!(poll(&mut before, true), Poll::Ready(Ok(())));
        drop(before);
        assert!(poll(&mut two, true).is_pending());
        assert!(poll(&mut one, false).is_pending());
        assert_eq!(poll(&mut one, true), Poll::Ready(Ok(())));
        drop(one);
        let mut three = enter(None).expect("room");
        assert!(poll(&mut three, true).is_pending());
        // One that leaves gives its turn on.
        drop(two);
        assert_eq!(poll(&mut three, true), Poll::Ready(Ok(())));
        drop(three);
        assert!(queue.is_empty());
        let mut late = queue.enter(2, Duration::ZERO, None).expect("room");
        let none = std::future::poll_fn(|cx| late.poll(cx, || None::<()>));
        assert_eq!(none.await, Err(NoPlace::Timeout));
    }

    #[tokio::test]
    async fn a_turn_holds_in_a_later_queue() {
        let (counter, hour) = (Rc::default(), Duration::from_secs(3600));
        // The queue is dropped with the server's last connection.
        let dialled = [(); 2].map(|()| StreamQueue::new(&counter).turn());
        let queue = Rc::new(StreamQueue::new(&counter));
        let enter = |turn| queue.enter(4, hour, turn).expect("room");
        let mut fresh = enter(None);
        let mut back = dialled.map(|turn| enter(Some(turn)));
        assert!(poll(&mut fresh, true).is_pending());
        assert!(poll(&mut back[1], true).is_pending());
        assert_eq!(poll(&mut back[0], true), Poll::Ready(Ok(())));
    }
}
