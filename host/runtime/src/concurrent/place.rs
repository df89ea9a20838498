//! Places of instances that answer requests, of which there are no more than
//! `--max-connections`.
//!
//! A connection has a place for one instance. Another one at the same time, as
//! for the second stream of HTTP/2, counts as a connection does, and waits where
//! there are as many as are allowed.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit};

use netwasm_net::places::Places;

use crate::concurrent::http::Requests;

/// What a connection keeps of the instances that answer its requests.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// The instance for the next request, if it is not one of the worker's.
    pub(super) requests: Option<Rc<Requests>>,
    /// Made for the first request.
    seat: Option<Rc<Seat>>,
}

impl Own {
    /// The connection is at its end.
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
    /// Takes the place of the connection, or else one of another connection
    /// that is not there, whichever is free first.
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

/// The place of an instance, until that ends.
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
