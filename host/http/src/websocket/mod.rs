//! WebSocket (RFC 6455) for handlers of messages, over HTTP/1.1 and, as RFC 8441
//! has it, over HTTP/2; and, over HTTP/1.1, to servers that a guest connects to
//! (`client::websocket` opens these).
//!
//! ```text
//!   request --> opening --> 101
//!   bytes --> connection, stream --> reader (frame, mask, utf8, deflate)
//!                                      |
//!                                   session --> guest
//!   bytes <-- sender (frame, deflate) <-------- its socket
//! ```
//!
//! No codec of the public crates fits. tungstenite and fastwebsockets own the
//! stream that they read, and have no permessage-deflate; those that do no I/O
//! leave messages, texts and compression to the caller, which is all but a
//! frame's head. Here, a message that arrives in one piece is unmasked into a
//! buffer of the thread and given to the guest from there.

pub(crate) mod codec;
mod connection;
mod opening;
mod queue;
mod sender;
mod session;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use self::connection::WebSocketConnection;
pub(crate) use self::opening::{accept, base64, fields};
pub(crate) use self::queue::TunnelQueues;
pub(crate) use self::stream::Tunnel;
