//! Relays of a connection, as its task sees them.

use std::rc::Rc;
use std::task::{Context, Poll};

use netwasm_base::error::ConnectionError;

use super::{Driver, Next};
use crate::guest::EventGuest;
use crate::protocol::Lost;
use crate::relay;

impl<G: EventGuest> Driver<G> {
    pub(super) fn attend_relay(&self, cx: &mut Context<'_>) -> Next {
        let transport = &self.transport;
        let relayed = relay::poll(transport, cx, &mut transport.thread().scratch.borrow_mut());
        match relayed {
            Poll::Ready(Ok(Some(target))) => {
                if target.write_eof().is_err() {
                    target.close();
                }
            }
            Poll::Ready(Ok(None)) => {}
            Poll::Ready(Err(reason)) => transport.fail(reason),
            // A connection relayed to itself may have just queued something, or
            // may wait for room in its own socket. See to that before sleeping.
            Poll::Pending if self.goes_on(cx) => {}
            Poll::Pending => return Next::Sleep,
        }
        Next::Again
    }

    /// True if a connection relayed to itself has room at once, and its turn is
    /// not over.
    pub(super) fn goes_on(&self, cx: &mut Context<'_>) -> bool {
        !self.transport.turn.waits() && self.feeds_itself() && self.poll_own_room(cx).is_ready()
    }

    fn feeds_itself(&self) -> bool {
        let core = self.transport.core.borrow();
        std::ptr::eq(core.fed_by.as_ptr(), Rc::as_ptr(&self.transport))
    }

    /// Waits until a connection relayed to itself has room.
    fn poll_own_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let core = self.transport.core.borrow();
        let (wants_room, queued) = (core.wants_room, core.queued() > 0);
        drop(core);
        if wants_room {
            self.transport.poll_room(cx)
        } else if queued {
            self.transport.poll_flush(cx).map(|_| ())
        } else {
            Poll::Pending
        }
    }

    /// Wakes the connection relayed to this one, if it waits for room and there
    /// is some.
    pub(super) fn tell_feeder(&self) {
        let mut core = self.transport.core.borrow_mut();
        if core.feeder_waits && core.queued() == 0 && !core.wants_room {
            core.feeder_waits = false;
            let feeder = core.fed_by.upgrade();
            drop(core);
            if let Some(feeder) = feeder {
                feeder.nudge();
            }
        }
    }

    pub(super) fn end_relays(&self, lost: &Lost) {
        let core = self.transport.core.borrow();
        let target = core.relay.as_ref().map(|relay| Rc::clone(relay.target()));
        let feeder = core.fed_by.upgrade();
        drop(core);
        for other in target.into_iter().chain(feeder) {
            if Rc::ptr_eq(&other, &self.transport) {
                continue;
            }
            match lost {
                None => other.close(),
                Some(_) => other.fail(ConnectionError::Aborted),
            }
        }
    }
}
