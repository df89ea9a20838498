//! Places of instances that answer requests, at most `--max-connections`.
//!
//! A connection has a place for one instance. Another instance at the same
//! time, as for the second stream of HTTP/2, counts as a connection does. It
//! waits if no place is free in the process (`--max-connections`) or for its
//! connection (`--max-connection-instances`), so that one client of HTTP/2
//! cannot take the places of all others.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use netwasm_net::permits::Permit;
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

    /// The place of the connection, which may have `most` instances at once.
    pub(super) fn seat(&mut self, most: usize) -> Rc<Seat> {
        let make = || {
            Rc::new(Seat {
                taken: Cell::new(false),
                freed: Notify::new(),
                others: Arc::new(Semaphore::new(
                    most.saturating_sub(1).min(Semaphore::MAX_PERMITS),
                )),
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
    /// Permits for instances besides the one in this place.
    others: Arc<Semaphore>,
}

impl Seat {
    /// Takes the connection's own place, or an unused place of
    /// `--max-connections`, whichever is free first.
    pub(super) async fn take(self: &Rc<Self>, places: &Arc<Places>) -> Place {
        let mut permits = pin!(async {
            let other = Arc::clone(&self.others).acquire_owned().await.ok()?;
            Some((other, Arc::clone(places).take().await))
        });
        loop {
            if !self.taken.replace(true) {
                return Place {
                    seat: Some(Rc::clone(self)),
                    _permits: None,
                };
            }
            tokio::select! {
                permits = &mut permits => return Place {
                    seat: None,
                    _permits: permits,
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
    /// Its connection's permit for another instance, and the process's place.
    _permits: Option<(OwnedSemaphorePermit, Permit)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(seat) = &self.seat {
            seat.taken.set(false);
            seat.freed.notify_one();
        }
    }
}
