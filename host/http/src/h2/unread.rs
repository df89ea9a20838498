//! Rest of a request that nobody reads any more. It is received and dropped for
//! a while, as in the lingering close of a connection.
//!
//! A server may answer and reset such a stream at once, without an error, and
//! the client must not discard the response for that (RFC 9113, section 8.1).
//! But many clients do, such as httpx, got, and curl before version 8.

use std::time::Duration;

use h2::RecvStream;
use tokio::time::timeout;

use netwasm_net::transport::{LINGER, LINGER_MOST};

use crate::h2::stream::{Outcome, Stream};

/// Time in which the rest of a request is received, if the client never stops for
/// [`LINGER`]; that of nginx's `lingering_time`.
const LONGEST: Duration = Duration::from_secs(30);

/// Sends the rest of a response, then drops what the client still sends. After
/// that the stream is reset, so that the client stops.
pub(super) async fn forget_after(answer: Option<Stream>, body: Option<RecvStream>) -> Outcome {
    let outcome = match answer {
        Some(answer) => answer.await,
        None => Outcome::Over,
    };
    if let Some(body) = body {
        forget(body).await;
    }
    outcome
}

/// Drops the rest of a body.
pub(super) async fn forget(mut body: RecvStream) {
    let forgotten = async {
        let mut count = 0;
        while let Ok(Some(Ok(piece))) = timeout(LINGER, body.data()).await {
            count += piece.len();
            let released = body.flow_control().release_capacity(piece.len());
            if released.is_err() || count > LINGER_MOST {
                return;
            }
        }
    };
    // Some clients never end.
    let _ = timeout(LONGEST, forgotten).await;
}
