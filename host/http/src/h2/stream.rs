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
    /// The request has arrived whole.
    Ready(Box<WholeRequest>),
    Over,
}

/// A request that has arrived whole.
pub(super) struct WholeRequest {
    pub(super) head: Parts,
    pub(super) incoming: RecvStream,
    pub(super) outgoing: SendResponse<Bytes>,
    pub(super) body: Option<Held>,
    pub(super) trailers: Fields,
}
