//! Places of instances that answer requests, at most `--max-connections`.
//!
//! A connection has a place for one instance. Another instance at the same
//! time, as for the second stream of HTTP/2, counts as a connection does, and
//! waits if no place is free.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit};

use netwasm_net::places::Places;

use crate::concurrent::http::Requests;

/// A connection's state about the instances that answer its requests.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Instance for the next request, unless it is one of the worker's.
    pub(super) requests: Option<Rc<Requests>>,
    /// Made for the first request.
    seat: Option<Rc<Seat>>,
}

impl Own {
    /// Closes the instance at the end of the connection.
    pub(crate) fn close(&mut self) {
        if let Some(requests) = self.requests.take() {
            requests.close();
        }
    }

    pub(super) fn seat(&mut self) -> Rc<Seat> {
        let make = || {
            Rc::new(Seat {
                taken: Cell::new(false),
                freed: Notify::new(),
            })
        };
        Rc::clone(self.seat.get_or_insert_with(make))
    }
}

/// The place that a connection has for an instance.
#[derive(Debug)]
pub(super) struct Seat {
    taken: Cell<bool>,
    freed: Notify,
}

impl Seat {
    /// Takes the connection's own place, or an unused place of
    /// `--max-connections`, whichever is free first.
    pub(super) async fn take(self: &Rc<Self>, places: &Arc<Places>) -> Place {
        let mut permit = pin!(Arc::clone(places).take());
        loop {
            if !self.taken.replace(true) {
                return Place {
                    seat: Some(Rc::clone(self)),
                    _permit: None,
                };
            }
            tokio::select! {
                permit = &mut permit => return Place {
                    seat: None,
                    _permit: permit.ok(),
                },
                () = self.freed.notified() => {}
            }
        }
    }
}

/// The place of an instance, held until the instance ends.
#[derive(Debug)]
pub(super) struct Place {
    seat: Option<Rc<Seat>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(seat) = &self.seat {
            seat.taken.set(false);
            seat.freed.notify_one();
        }
    }
}
