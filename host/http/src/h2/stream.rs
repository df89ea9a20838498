//! Streams of a connection, as its task and whoever serves them see them.

use std::pin::Pin;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::request::Parts;
use netwasm_exchange::answer::Fields;

use crate::h2::held::Held;

/// What a client begins with (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How many streams a client may have open at once.
pub(super) const MOST_STREAMS: u32 = 100;

/// A stream that waits for something.
pub(super) type Stream = Pin<Box<dyn Future<Output = Outcome>>>;

/// What came of one.
pub(super) enum Outcome {
    /// The request has come whole.
    Ready(Box<WholeRequest>),
    Over,
}

/// A request that has come whole.
pub(super) struct WholeRequest {
    pub(super) head: Parts,
    pub(super) incoming: RecvStream,
    pub(super) outgoing: SendResponse<Bytes>,
    pub(super) body: Option<Held>,
    pub(super) trailers: Fields,
}
