//! A response's body that an event guest sends piece by piece, between its
//! instance and the connection.
//!
//! The connection takes pieces as fast as the client does. It calls the guest
//! for more when the queue is low, so a guest that obeys makes only what the
//! client takes.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use netwasm_net::turns::{REQUEST, Turn};

use crate::content::{Content, FileContent};
use crate::failure::Failure;

/// Maximum of a piece that the connection takes, in bytes.
const PIECE: usize = 64 << 10;

/// The guest that sends a body.
pub trait OutletGuest {
    /// Tells the guest that there is room for more.
    fn writable(&self);

    /// Tells the guest that nobody wants the rest.
    fn abandoned(&self);
}

/// Limits of a body's queue, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct OutletLimits {
    /// High watermark: there is no room beyond it.
    pub high: usize,
    /// Low watermark, at which the guest is called for more.
    pub low: usize,
    /// Maximum. A body that exceeds it is cut.
    pub most: usize,
}

/// The queue of a body exceeded its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

/// The guest's end of a body.
pub struct Outlet {
    state: RefCell<OutletState>,
    limits: OutletLimits,
    /// Bytes queued by all bodies of the instance.
    held: Rc<Cell<usize>>,
}

struct OutletState {
    queue: BytesMut,
    /// True if the guest is to be called once the queue is low.
    owed: bool,
    end: Option<OutletEnd>,
    /// The connection's waker.
    waker: Option<Waker>,
}

/// End of a body, which follows what is queued.
enum OutletEnd {
    /// The guest has finished it.
    Finished(Option<HeaderMap>),
    /// The guest has cut it.
    Failed,
    /// The host has cut it.
    Cut,
    /// The connection takes no more.
    Closed,
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

impl Outlet {
    /// Returns both ends of a body. `held` counts the bytes queued by all bodies
    /// of the guest, which shares `turn` with the connection.
    pub fn new(
        guest: impl OutletGuest + 'static,
        limits: OutletLimits,
        held: &Rc<Cell<usize>>,
        turn: &Rc<Turn>,
    ) -> (Rc<Self>, OutletBody) {
        let outlet = Rc::new(Self {
            state: RefCell::new(OutletState {
                queue: BytesMut::new(),
                // Once the head is sent.
                owed: true,
                end: None,
                waker: None,
            }),
            limits,
            held: Rc::clone(held),
        });
        let body = OutletBody {
            outlet: Rc::clone(&outlet),
            guest: Box::new(guest),
            turn: Rc::clone(turn),
        };
        (outlet, body)
    }

    /// Queues a piece. Returns the room that is left. `bodies` is the number of
    /// bodies that the guest may be sending, each of which may fill its queue.
    ///
    /// # Errors
    /// Fails if the queue exceeds its limit. The body is cut then.
    pub fn send(&self, data: &[u8], bodies: usize) -> Result<u64, Overflow> {
        let mut state = self.state.borrow_mut();
        if state.end.is_some() {
            return Ok(u64::MAX);
        }
        let OutletLimits { high, most, .. } = self.limits;
        let queued = state.queue.len().saturating_add(data.len());
        let held = self.held.get().saturating_add(data.len());
        // Other bodies may fill the queues. One that is within its own is no less
        // sent.
        let fills = held > most.saturating_add(high.saturating_mul(bodies)) && queued > high;
        if queued > most || fills {
            self.clear(&mut state);
            state.end = Some(OutletEnd::Cut);
            wake(state.waker.take());
            return Err(Overflow);
        }
        self.held.set(held);
        state.queue.extend_from_slice(data);
        let room = high.saturating_sub(queued);
        state.owed |= room == 0;
        if !data.is_empty() {
            wake(state.waker.take());
        }
        Ok(room as u64)
    }

    /// Ends the body after what is queued. Returns false if it was cut.
    pub fn finish(&self, trailers: Option<HeaderMap>) -> bool {
        self.end(OutletEnd::Finished(trailers))
    }

    /// Cuts the body off after what is queued, as the guest wants it. Returns
    /// false if it was cut before.
    pub fn fail(&self) -> bool {
        self.end(OutletEnd::Failed)
    }

    /// Cuts the body off after what is queued, as its guest is gone.
    pub fn cut(&self) {
        self.end(OutletEnd::Cut);
    }

    fn end(&self, end: OutletEnd) -> bool {
        let mut state = self.state.borrow_mut();
        if state.end.is_some() {
            return false;
        }
        state.end = Some(end);
        wake(state.waker.take());
        true
    }

    fn clear(&self, state: &mut OutletState) {
        self.held.set(self.held.get() - state.queue.len());
        state.queue = BytesMut::new();
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The connection's end of a body. Dropping it tells the guest that nobody wants
/// the rest, unless the guest has ended the body.
pub struct OutletBody {
    outlet: Rc<Outlet>,
    guest: Box<dyn OutletGuest>,
    turn: Rc<Turn>,
}

impl OutletBody {
    /// Calls the guest for more, if that is due. Returns false if other tasks
    /// come first; the present one is then woken.
    fn call_for_more(&self, cx: &Context<'_>) -> bool {
        let mut state = self.outlet.state.borrow_mut();
        let due = state.owed && state.end.is_none() && state.queue.len() <= self.outlet.limits.low;
        if !due {
            return true;
        }
        if self.turn.waits() {
            self.turn.give_way(cx);
            return false;
        }
        state.owed = false;
        drop(state);
        self.guest.writable();
        if self.turn.is_over(REQUEST) {
            self.turn.give_way(cx);
        }
        true
    }
}

impl Body for OutletBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if !self.call_for_more(cx) && self.outlet.state.borrow().queue.is_empty() {
            return Poll::Pending;
        }
        let mut state = self.outlet.state.borrow_mut();
        if !state.queue.is_empty() {
            let length = state.queue.len().min(PIECE);
            let piece = state.queue.split_to(length).freeze();
            self.outlet.held.set(self.outlet.held.get() - length);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &mut state.end {
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(OutletEnd::Finished(trailers)) => {
                Poll::Ready(trailers.take().map(|it| Ok(Frame::trailers(it))))
            }
            Some(OutletEnd::Failed | OutletEnd::Cut | OutletEnd::Closed) => {
                Poll::Ready(Some(Err(Failure::HttpResponseIncomplete)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.outlet.state.borrow();
        state.queue.is_empty() && matches!(state.end, Some(OutletEnd::Finished(None)))
    }
}

impl Content for OutletBody {
    fn take_file(&mut self) -> Option<FileContent> {
        None
    }
}

impl Drop for OutletBody {
    fn drop(&mut self) {
        let mut state = self.outlet.state.borrow_mut();
        self.outlet.clear(&mut state);
        let end = state.end.replace(OutletEnd::Closed);
        drop(state);
        if matches!(end, None | Some(OutletEnd::Cut)) {
            self.guest.abandoned();
        }
    }
}

#[cfg(test)]
mod tests {
    use netwasm_net::turns::{Steps, Turns};

    use super::*;

    const LIMITS: OutletLimits = OutletLimits {
        high: 10,
        low: 4,
        most: 30,
    };

    /// Counts its calls.
    #[derive(Clone, Default)]
    struct Guest {
        writable: Rc<Cell<u32>>,
        abandoned: Rc<Cell<u32>>,
    }

    impl OutletGuest for Guest {
        fn writable(&self) {
            self.writable.set(self.writable.get() + 1);
        }

        fn abandoned(&self) {
            self.abandoned.set(self.abandoned.get() + 1);
        }
    }

    struct Sending {
        guest: Guest,
        held: Rc<Cell<usize>>,
        outlet: Rc<Outlet>,
        body: OutletBody,
    }

    fn begin() -> Sending {
        let (guest, held) = (Guest::default(), Rc::new(Cell::new(0)));
        let turn = Turns::new(Steps::default()).turn();
        let (outlet, body) = Outlet::new(guest.clone(), LIMITS, &held, &turn);
        Sending {
            guest,
            held,
            outlet,
            body,
        }
    }

    impl Sending {
        /// Takes a piece; `None` if there is none yet, or after the end.
        fn take(&mut self) -> Option<Result<Bytes, Failure>> {
            let mut cx = Context::from_waker(Waker::noop());
            match Pin::new(&mut self.body).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => frame.into_data().ok().map(Ok),
                Poll::Ready(Some(Err(failure))) => Some(Err(failure)),
                Poll::Ready(None) | Poll::Pending => None,
            }
        }
    }

    #[test]
    fn the_guest_is_called_once_the_queue_is_low_and_only_if_that_was_promised() {
        let mut it = begin();
        assert!(it.take().is_none());
        assert_eq!(it.guest.writable.get(), 1, "the head is sent");
        assert_eq!(it.outlet.send(b"0123456", 1), Ok(3));
        assert_eq!(it.take().expect("a piece").expect("whole"), "0123456");
        assert!(it.take().is_none());
        assert_eq!(it.guest.writable.get(), 1, "there was room");
        assert_eq!(it.outlet.send(b"0123456789ab", 1), Ok(0));
        assert_eq!(it.take().expect("a piece").expect("whole").len(), 12);
        assert!(it.take().is_none());
        assert_eq!(it.guest.writable.get(), 2);
        assert_eq!(it.held.get(), 0);
    }

    #[test]
    fn a_queue_that_exceeds_its_limit_is_cut_at_once() {
        let mut it = begin();
        assert_eq!(it.outlet.send(&[0; 30], 1), Ok(0));
        assert_eq!(it.outlet.send(&[0; 1], 1), Err(Overflow));
        assert_eq!(it.held.get(), 0);
        assert!(matches!(it.take(), Some(Err(_))));
        assert_eq!(it.outlet.send(&[0; 9], 1), Ok(u64::MAX));
        assert!(!it.outlet.finish(None) && !it.outlet.fail());
        let guest = it.guest.clone();
        drop(it);
        assert_eq!(guest.abandoned.get(), 1);
    }

    #[test]
    fn all_bodies_of_a_guest_share_a_limit() {
        let it = begin();
        it.held.set(40);
        assert_eq!(it.outlet.send(&[0; 10], 2), Ok(0));
        assert_eq!(it.outlet.send(&[0; 1], 2), Err(Overflow));
        assert_eq!(it.held.get(), 40);
    }

    #[test]
    fn the_end_follows_what_is_queued_and_is_not_abandoned() {
        let mut it = begin();
        assert_eq!(it.outlet.send(b"last", 1), Ok(6));
        assert!(it.outlet.finish(None));
        it.outlet.cut();
        assert!(!it.body.is_end_stream());
        assert_eq!(it.take().expect("a piece").expect("whole"), "last");
        assert!(it.body.is_end_stream());
        assert_eq!(it.guest.writable.get(), 0);
        let guest = it.guest.clone();
        drop(it);
        assert_eq!(guest.abandoned.get(), 0);
    }

    #[test]
    fn the_guest_is_told_of_a_connection_that_takes_no_more() {
        let it = begin();
        assert_eq!(it.outlet.send(b"more", 1), Ok(6));
        let Sending {
            guest,
            held,
            outlet,
            body,
        } = it;
        drop(body);
        assert_eq!((guest.abandoned.get(), held.get()), (1, 0));
        assert_eq!(outlet.send(b"still more", 1), Ok(u64::MAX));
        assert_eq!(held.get(), 0);
    }
}
