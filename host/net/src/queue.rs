//! What a connection has yet to send: bytes and parts of files, in order.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::files::File;
use crate::sendfile;

/// Small writes are joined up to this size, in bytes.
const CHUNK: usize = 64 << 10;

/// How much one call sends at most, bytes: other connections of the worker
/// wait meanwhile.
const SLICE: usize = 256 << 10;

/// The queue of one connection.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    chunks: VecDeque<Chunk>,
    /// Bytes in memory.
    bytes: u64,
    /// Bytes in files.
    file_bytes: u64,
}

/// One entry of the queue.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// Bytes in memory, of which the first `sent` are gone.
    Bytes { data: Vec<u8>, sent: usize },
    /// A part of a file.
    File(FilePart),
}

/// A part of a file that is to be sent.
#[derive(Debug)]
pub struct FilePart {
    /// The file.
    pub file: Rc<File>,
    /// Where what is left begins, bytes.
    pub offset: u64,
    /// How much is left, bytes.
    pub remaining: u64,
}

/// What a socket took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Bytes.
    pub(crate) count: usize,
    /// Whether it was given more.
    pub(crate) short: bool,
}

impl WriteQueue {
    /// All that is queued, bytes.
    pub(crate) fn len(&self) -> u64 {
        self.bytes + self.file_bytes
    }

    /// What is queued in memory, bytes.
    pub(crate) fn in_memory(&self) -> u64 {
        self.bytes
    }

    /// How many parts of files are queued.
    pub(crate) fn file_parts(&self) -> usize {
        self.chunks
            .iter()
            .filter(|chunk| matches!(chunk, Chunk::File(_)))
            .count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(crate) fn push_bytes(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.bytes += data.len() as u64;
        match self.chunks.back_mut() {
            Some(Chunk::Bytes { data: last, .. }) if last.len() + data.len() <= CHUNK => {
                last.extend_from_slice(data);
            }
            _ => self.chunks.push_back(Chunk::Bytes {
                data: data.to_vec(),
                sent: 0,
            }),
        }
    }

    pub(crate) fn push_file(&mut self, part: FilePart) {
        if part.remaining > 0 {
            self.file_bytes += part.remaining;
            self.chunks.push_back(Chunk::File(part));
        }
    }

    /// Takes the front out, as the TLS layer does to encrypt it. The caller
    /// puts a file that is not at its end back by [`Self::unshift_file`].
    pub(crate) fn shift(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        match &chunk {
            Chunk::Bytes { data, sent } => self.bytes -= (data.len() - sent) as u64,
            Chunk::File(part) => self.file_bytes -= part.remaining,
        }
        Some(chunk)
    }

    /// Puts the rest of a file back to the front.
    pub(crate) fn unshift_file(&mut self, part: FilePart) {
        if part.remaining > 0 {
            self.file_bytes += part.remaining;
            self.chunks.push_front(Chunk::File(part));
        }
    }

    /// Hands some of the front to the socket, and returns how much it took of
    /// how much. The queue must not be empty.
    ///
    /// # Errors
    /// What send(2) and sendfile(2) say; `WouldBlock` where the socket is
    /// full; `UnexpectedEof` where a file is shorter than was promised.
    pub(crate) fn send_front(&mut self, socket: BorrowedFd<'_>) -> io::Result<Sent> {
        let more = self.chunks.len() > 1;
        let Some(front) = self.chunks.front_mut() else {
            return Ok(Sent::default());
        };
        let (sent, done) = match front {
            Chunk::Bytes { data, sent } => {
                let rest = data.get(*sent..).unwrap_or_default();
                let part = rest.get(..SLICE).unwrap_or(rest);
                let count = send(socket, part, more || part.len() < rest.len())?;
                *sent += count;
                self.bytes -= count as u64;
                let whole = *sent == data.len();
                let short = count < part.len();
                (Sent { count, short }, whole)
            }
            Chunk::File(part) => {
                let sent = sendfile::send(socket, part)?;
                self.file_bytes -= sent.count as u64;
                (sent, part.remaining == 0)
            }
        };
        if done {
            self.chunks.pop_front();
            if self.chunks.is_empty() {
                // An idle connection keeps no buffer.
                self.chunks = VecDeque::new();
            }
        }
        Ok(sent)
    }
}

/// send(2), never SIGPIPE. Where `more` follows at once, a segment that is not
/// full waits for that.
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
