//! Forwarding: a request that a handler has decided on goes to a server of an
//! upstream group, and its response to the client, unseen by the handler.
//!
//! ```text
//!   client --> Upload ------------------> Line --> server
//!               ^  (head by `compose`)     |
//!   h1, h2: Forwarding::poll --> response --+  (head by `reading`)
//!               |                          v
//!   client <----+------ ForwardedBody <-- Line <-- server
//! ```
//!
//! The client's task polls both directions: a request costs no task and no
//! channel. A piece goes from the thread's receive buffer to the other side's
//! socket, and nothing is received that the other side has no room for.
//!
//! A request is sent again, to another server, if nothing of it was sent, or if
//! its method is idempotent, its body is at hand and nothing of a response has
//! arrived.

mod attempt;
mod body;
mod compose;
mod line;
mod reading;
mod upload;

use std::rc::Rc;

use netwasm_exchange::handler::Awaiting;
use netwasm_exchange::reply::Reply;

pub(crate) use self::attempt::{Forwarding, Passed, Upgrade};

/// The handler of a forwarded request: none is to be told of its end.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Awaiting for Nobody {
    fn abandon(self: Rc<Self>, _reply: &Rc<Reply>) {}
}

#[cfg(test)]
mod tests;
