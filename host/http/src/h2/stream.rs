//! Streams of a connection, as its task and their futures see them.

use std::pin::Pin;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::request::Parts;
use netwasm_exchange::answer::Fields;

use crate::h2::held::Held;

/// Preface of a client (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Maximum of streams that a client may have open.
pub(super) const MOST_STREAMS: u32 = 100;

/// A stream that waits for something.
pub(super) type Stream = Pin<Box<dyn Future<Output = Outcome>>>;

/// Result of a stream's future.
pub(super) enum Outcome {
    /// The request has arrived whole, and its guest waits for that.
    Ready(Box<ReadyRequest>),
    Over,
}

/// A request for an event guest. All of it has arrived, or its head and the guest
/// gets it at its head.
pub(super) struct ReadyRequest {
    pub(super) head: Parts,
    pub(super) incoming: RecvStream,
    pub(super) outgoing: SendResponse<Bytes>,
    /// The body, once it was collected.
    pub(super) body: Option<Held>,
    pub(super) trailers: Fields,
}
