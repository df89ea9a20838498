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
//! A server that speaks HTTP/2 has streams of many requests on a connection: see
//! `http2`.
//!
//! A request is sent again, to another server, if nothing of it was sent, or if
//! its method is idempotent, its body is at hand and nothing of a response has
//! arrived.

mod affinity;
mod attempt;
mod body;
mod compose;
mod edits;
pub(crate) mod hops;
mod http2;
mod line;
mod outcome;
pub(crate) mod reading;
mod relay;
mod told;
mod upload;
mod websocket;

pub(crate) use self::attempt::Forwarding;
pub(crate) use self::outcome::{Passed, Upgrade};
pub(crate) use self::relay::{ClientTunnel, Relaying};

#[cfg(test)]
mod tests;
