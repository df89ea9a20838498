//! Write queue of a connection: bytes and file parts, in order.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::files::File;
use crate::sendfile;

/// Size up to which small writes are joined, in bytes.
const CHUNK: usize = 64 << 10;

/// Maximum that one call sends, in bytes: other connections of the worker wait
/// meanwhile.
const SLICE: usize = 256 << 10;

/// The write queue of a connection. An idle connection has but the place of a pointer
/// for it.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue(Option<Box<QueuedChunks>>);

#[derive(Debug, Default)]
struct QueuedChunks {
    chunks: VecDeque<Chunk>,
    /// Bytes in memory.
    bytes: u64,
    /// Bytes in files.
    file_bytes: u64,
}

/// One entry of the queue.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// Bytes in memory, of which the first `sent` have been sent.
    Bytes { data: Vec<u8>, sent: usize },
    /// A part of a file.
    File(FilePart),
}

/// A part of a file to be sent.
#[derive(Debug)]
pub struct FilePart {
    /// The file.
    pub file: Rc<File>,
    /// Start of the remaining part, in bytes.
    pub offset: u64,
    /// Length of the remaining part, in bytes.
    pub remaining: u64,
}

/// Result of a send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Bytes that the socket took.
    pub(crate) count: usize,
    /// True if the socket took less than it was given.
    pub(crate) short: bool,
}

impl WriteQueue {
    /// Returns the bytes queued, in all.
    pub(crate) fn len(&self) -> u64 {
        let queued = self.0.as_ref();
        queued.map_or(0, |queued| queued.bytes + queued.file_bytes)
    }

    /// Returns the bytes queued in memory.
    pub(crate) fn in_memory(&self) -> u64 {
        self.0.as_ref().map_or(0, |queued| queued.bytes)
    }

    /// Returns the number of file parts queued.
    pub(crate) fn file_parts(&self) -> usize {
        let chunks = self.0.iter().flat_map(|queued| &queued.chunks);
        chunks
            .filter(|chunk| matches!(chunk, Chunk::File(_)))
            .count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        let queued = self.0.as_ref();
        queued.is_none_or(|queued| queued.chunks.is_empty())
    }

    pub(crate) fn push_bytes(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let queued = self.0.get_or_insert_default();
        queued.bytes += data.len() as u64;
        match queued.chunks.back_mut() {
            Some(Chunk::Bytes { data: last, .. }) if last.len() + data.len() <= CHUNK => {
                last.extend_from_slice(data);
            }
            _ => queued.chunks.push_back(Chunk::Bytes {
                data: data.to_vec(),
                sent: 0,
            }),
        }
    }

    pub(crate) fn push_file(&mut self, part: FilePart) {
        if part.remaining > 0 {
            let queued = self.0.get_or_insert_default();
            queued.file_bytes += part.remaining;
            queued.chunks.push_back(Chunk::File(part));
        }
    }

    /// Takes out the front, for the TLS layer to encrypt. If that is a file not
    /// at its end, the caller puts it back by [`Self::unshift_file`].
    pub(crate) fn shift(&mut self) -> Option<Chunk> {
        let queued = self.0.as_mut()?;
        let chunk = queued.chunks.pop_front()?;
        match &chunk {
            Chunk::Bytes { data, sent } => queued.bytes -= (data.len() - sent) as u64,
            Chunk::File(part) => queued.file_bytes -= part.remaining,
        }
        if queued.chunks.is_empty() {
            // An idle connection keeps no buffer.
            self.0 = None;
        }
        Some(chunk)
    }

    /// Puts the rest of a file back to the front.
    pub(crate) fn unshift_file(&mut self, part: FilePart) {
        if part.remaining > 0 {
            let queued = self.0.get_or_insert_default();
            queued.file_bytes += part.remaining;
            queued.chunks.push_front(Chunk::File(part));
        }
    }

    /// Sends some of the front to the socket. The queue must not be empty.
    ///
    /// # Errors
    /// Fails as send(2) and sendfile(2) do. `WouldBlock`: the socket is full.
    /// `UnexpectedEof`: a file is shorter than promised.
    pub(crate) fn send_front(&mut self, socket: BorrowedFd<'_>) -> io::Result<Sent> {
        let Some(queued) = &mut self.0 else {
            return Ok(Sent::default());
        };
        let more = queued.chunks.len() > 1;
        let Some(front) = queued.chunks.front_mut() else {
            return Ok(Sent::default());
        };
        let (sent, done) = match front {
            Chunk::Bytes { data, sent } => {
                let rest = data.get(*sent..).unwrap_or_default();
                let part = rest.get(..SLICE).unwrap_or(rest);
                let count = send(socket, part, more || part.len() < rest.len())?;
                *sent += count;
                queued.bytes -= count as u64;
                let whole = *sent == data.len();
                let short = count < part.len();
                (Sent { count, short }, whole)
            }
            Chunk::File(part) => {
                let sent = sendfile::send(socket, part, sendfile::SLICE)?;
                queued.file_bytes -= sent.count as u64;
                (sent, part.remaining == 0)
            }
        };
        if done {
            queued.chunks.pop_front();
            if queued.chunks.is_empty() {
                // An idle connection keeps no buffer.
                self.0 = None;
            }
        }
        Ok(sent)
    }
}

/// Calls send(2), without SIGPIPE. If `more` follows at once, a segment that is
/// not full waits for it.
pub(crate) fn send(socket: impl AsFd, data: &[u8], more: bool) -> Result<usize, Errno> {
    let mut flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    flags.set(SendFlags::MORE, more);
    loop {
        match rustix::net::send(&socket, data, flags) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_whose_chunks_were_taken_out_keeps_no_room() {
        let mut queue = WriteQueue::default();
        let long = vec![0_u8; CHUNK];
        queue.push_bytes(b"first");
        queue.push_bytes(&long);
        assert!(matches!(queue.shift(), Some(Chunk::Bytes { sent: 0, .. })));
        assert_eq!((queue.len(), queue.is_empty()), (CHUNK as u64, false));
        assert!(queue.shift().is_some());
        assert!(queue.0.is_none() && queue.is_empty());
        assert!(queue.shift().is_none());
    }
}
