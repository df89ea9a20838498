//! Frames that `h2` writes to a transport, for servers and clients. Nothing here
//! registers a waker: a driver flushes the transport, and then polls `h2` again.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::task::{Poll, ready};

use netwasm_net::transport::Transport;

/// Ready once all that was written is sent. Otherwise, `blocked` is set.
///
/// # Errors
/// Fails if the connection failed.
pub(crate) fn poll_flush(transport: &Transport, blocked: &Cell<bool>) -> Poll<io::Result<()>> {
    if let Some(reason) = transport.failure() {
        return Poll::Ready(Err(io::Error::other(reason)));
    }
    if transport.queued() > 0 {
        blocked.set(true);
        return Poll::Pending;
    }
    Poll::Ready(Ok(()))
}

/// Writes all of the slices once nothing is queued. Ready with the number of
/// bytes.
///
/// # Errors
/// Fails if the connection failed.
pub(crate) fn poll_write(
    transport: &Transport,
    blocked: &Cell<bool>,
    slices: &[&[u8]],
) -> Poll<io::Result<usize>> {
    ready!(poll_flush(transport, blocked))?;
    let count = slices.iter().map(|slice| slice.len()).sum();
    transport.turn.note(count);
    match slices {
        [slice] => transport.write(slice),
        slices => transport.write_vectored(slices),
    }
    Poll::Ready(Ok(count))
}

/// Calls `write` with the slices, of which there are usually two: a frame's
/// header and its payload.
pub(crate) fn with_slices(
    slices: &[IoSlice<'_>],
    write: impl FnOnce(&[&[u8]]) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    match slices {
        [] => Poll::Ready(Ok(0)),
        [one] => write(&[one]),
        [one, two] => write(&[one, two]),
        more => {
            let slices: Vec<&[u8]> = more.iter().map(|slice| &**slice).collect();
            write(&slices)
        }
    }
}
