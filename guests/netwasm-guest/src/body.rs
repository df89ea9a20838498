//! Bodies of responses that tasks send to the host.

use std::cell::Cell;
use std::future::poll_fn;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::task::Poll;

use crate::bindings::netwasm::net::http::{self, OutgoingBody};
use crate::cell::with;
use crate::executor::{self, Task};
use crate::http::{BodyMaker, BodyWriter};
use crate::slab::Slab;
use crate::wait::Waiter;

/// Bit of the tokens of bodies. Those of deferred requests lack it.
const BODY: u64 = 1 << 32;

thread_local! {
    // Never dropped: an instance ends with its memory.
    static BODIES: ManuallyDrop<Cell<Slab<Option<Sending>>>> =
        const { ManuallyDrop::new(Cell::new(Slab::new())) };
}

struct Sending {
    outlet: Rc<Outlet>,
    task: Task<()>,
}

/// The host's end of a body.
pub(crate) struct Outlet {
    token: u64,
    /// True if the host promised to call `writable`.
    full: Cell<bool>,
    waiter: Waiter,
}

impl Outlet {
    /// Waits for room.
    pub(crate) async fn room(&self) {
        poll_fn(|cx| {
            if !self.full.get() {
                return Poll::Ready(());
            }
            self.waiter.register(cx);
            Poll::Pending
        })
        .await;
    }

    pub(crate) fn send(&self, piece: &[u8]) {
        self.full.set(http::send(self.token, piece) == 0);
    }
}

/// Begins a body. Its task runs once the host has the head.
pub(crate) fn start(maker: BodyMaker) -> OutgoingBody {
    let key = BODIES.with(|all| with(all, |all| all.insert(None)));
    let token = BODY | key as u64;
    let outlet = Rc::new(Outlet {
        token,
        full: Cell::new(false),
        waiter: Waiter::default(),
    });
    let writer = BodyWriter(outlet.clone());
    let task = executor::spawn(async move {
        let whole = maker(writer).await;
        drop(take(token));
        if whole {
            // Fails if the client has left.
            let _ = http::finish(token, &[]);
        } else {
            http::fail(token);
        }
    });
    BODIES.with(|all| {
        with(all, |all| {
            if let Some(place) = all.get_mut(key) {
                *place = Some(Sending { outlet, task });
            }
        });
    });
    OutgoingBody {
        token,
        length: None,
    }
}

/// Takes a body, if the token is one's.
fn take(token: u64) -> Option<Sending> {
    let key = usize::try_from(token ^ BODY).ok()?;
    BODIES.with(|all| with(all, |all| all.remove(key)))?
}

/// Goes on with a body.
pub(crate) fn writable(token: u64) {
    let Ok(key) = usize::try_from(token ^ BODY) else {
        return;
    };
    let outlet = BODIES.with(|all| {
        with(all, |all| match all.get_mut(key) {
            Some(Some(sending)) => Some(sending.outlet.clone()),
            _ => None,
        })
    });
    if let Some(outlet) = outlet {
        outlet.full.set(false);
        outlet.waiter.wake();
    }
}

/// Drops a body that nobody wants. Returns false if the token is none's.
pub(crate) fn abandoned(token: u64) -> bool {
    if token & BODY == 0 {
        return false;
    }
    if let Some(sending) = take(token) {
        sending.task.abort();
    }
    true
}
