//! Bodies of requests to guests that take requests whole.

use std::time::Duration;

use h2::RecvStream;
use http::HeaderMap;

use netwasm_exchange::answer::Fields;
use netwasm_exchange::chunked::is_dropped;
use netwasm_exchange::head::Refusal;

use crate::exchange::{MALFORMED, SLOW_BODY, TOO_LARGE};
use crate::h2::held::Held;

/// Why a body does not arrive whole.
pub(super) enum UploadBroken {
    Refused(Refusal),
    /// The client has left.
    Left,
}

/// Receives a body of up to `most` bytes, of which no piece takes longer than
/// `limit`. Returns its trailers.
///
/// # Errors
/// Fails with the reason why it does not arrive whole.
pub(super) async fn receive(
    limit: Duration,
    incoming: &mut RecvStream,
    held: &mut Held,
    most: usize,
) -> Result<Fields, UploadBroken> {
    while let Some(piece) = in_time(limit, incoming.data()).await? {
        let piece = piece.map_err(|error| broken(&error))?;
        if held.len() + piece.len() > most {
            return Err(UploadBroken::Refused(TOO_LARGE));
        }
        held.add(&piece);
        held.room().await;
        incoming
            .flow_control()
            .release_capacity(piece.len())
            .map_err(|_| UploadBroken::Left)?;
    }
    let trailers = in_time(limit, incoming.trailers()).await?;
    let trailers = trailers.map_err(|error| broken(&error))?;
    Ok(trailers.as_ref().map(fields).unwrap_or_default())
}

/// Classifies an error. `h2` resets the stream if the client breaks a rule.
fn broken(error: &h2::Error) -> UploadBroken {
    match error.is_reset() && error.is_library() {
        true => UploadBroken::Refused(MALFORMED),
        false => UploadBroken::Left,
    }
}

async fn in_time<T>(limit: Duration, coming: impl Future<Output = T>) -> Result<T, UploadBroken> {
    let coming = tokio::time::timeout(limit, coming).await;
    coming.map_err(|_elapsed| UploadBroken::Refused(SLOW_BODY))
}

/// Converts trailers for a guest.
fn fields(trailers: &HeaderMap) -> Fields {
    trailers
        .iter()
        .filter(|(name, _)| !is_dropped(name.as_str()))
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}
