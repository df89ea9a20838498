//! Bodies on their way to the client, as fast as its windows allow.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::pin;

use bytes::Bytes;
use h2::SendStream;

use netwasm_net::files::File;

use crate::exchange;
use crate::file_body::Part;
use crate::h2::line::LogLine;
use crate::h2::link::Link;

/// Maximum handed to `h2` at once for a stream, and of one read from a file, in
/// bytes.
pub(super) const PIECE: usize = 64 << 10;

/// Why a response cannot be sent to its end.
pub(super) enum Stopped {
    /// The client reset the stream, or is gone.
    Left,
    /// The client takes nothing (`--write-timeout`).
    Slow,
    /// The file cannot be read, or has become shorter.
    File(io::Error),
}

impl Link {
    /// Waits for room on a stream, as long as the client takes some of what was
    /// sent. It may have to take megabytes before it makes room.
    async fn while_taken(
        &self,
        grown: impl Future<Output = Result<usize, Stopped>>,
    ) -> Result<usize, Stopped> {
        let thread = self.thread();
        let limit = thread.env.limits.write_timeout;
        let mut grown = pin!(grown);
        let mut before = self.transport.took();
        loop {
            if let Ok(room) = tokio::time::timeout(limit, grown.as_mut()).await {
                return room;
            }
            let now = self.transport.took();
            if now == before {
                return Err(Stopped::Slow);
            }
            before = now;
        }
    }
}

/// Sends bytes as fast as the client takes them.
pub(super) async fn send_bytes(
    stream: &mut SendStream<Bytes>,
    mut bytes: Bytes,
    ends: bool,
    line: &mut LogLine,
) -> Result<(), Stopped> {
    while !bytes.is_empty() {
        let count = capacity(stream, bytes.len().min(PIECE), &line.link).await?;
        let piece = bytes.split_to(count);
        line.sent += count as u64;
        let last = ends && bytes.is_empty();
        stream.send_data(piece, last).map_err(|_| Stopped::Left)?;
    }
    Ok(())
}

pub(super) async fn send_parts(
    stream: &mut SendStream<Bytes>,
    parts: Vec<Part>,
    ends: bool,
    line: &mut LogLine,
) -> Result<(), Stopped> {
    let count = parts.len();
    for (number, part) in parts.into_iter().enumerate() {
        let ends = ends && number + 1 == count;
        match part {
            Part::Bytes(bytes) => send_bytes(stream, bytes.into(), ends, line).await?,
            Part::File {
                file,
                offset,
                length,
            } => send_file(stream, &file, offset..offset + length, ends, line).await?,
        }
    }
    Ok(())
}

async fn send_file(
    stream: &mut SendStream<Bytes>,
    file: &File,
    mut range: Range<u64>,
    ends: bool,
    line: &mut LogLine,
) -> Result<(), Stopped> {
    while !range.is_empty() {
        let left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let room = capacity(stream, left.min(PIECE), &line.link).await?;
        let mut piece = vec![0; room];
        file.read_exact_at(&mut piece, range.start)
            .map_err(Stopped::File)?;
        range.start += room as u64;
        line.sent += room as u64;
        let last = ends && range.is_empty();
        stream
            .send_data(piece.into(), last)
            .map_err(|_| Stopped::Left)?;
    }
    Ok(())
}

/// Waits for room on a stream, and returns the bytes that can be sent, up to
/// `wanted`.
pub(super) async fn capacity(
    stream: &mut SendStream<Bytes>,
    wanted: usize,
    link: &Link,
) -> Result<usize, Stopped> {
    stream.reserve_capacity(wanted);
    let mut room = stream.capacity();
    if room == 0 {
        let grown = async {
            loop {
                match poll_fn(|cx| stream.poll_capacity(cx)).await {
                    Some(Ok(0)) => {}
                    Some(Ok(room)) => return Ok(room),
                    Some(Err(_)) | None => return Err(Stopped::Left),
                }
            }
        };
        room = link.while_taken(grown).await?;
    }
    Ok(room.min(wanted))
}

/// Reads all of a few small parts.
pub(super) fn read_all(parts: &[Part]) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    for part in parts {
        match part {
            Part::Bytes(bytes) => all.extend_from_slice(bytes),
            Part::File {
                file,
                offset,
                length,
            } => exchange::read(file, *offset, *length, &mut all)?,
        }
    }
    Ok(all)
}
