//! Sends parts of files to sockets by sendfile(2), or by a copy if the kernel
//! refuses.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::queue::{self, FilePart, Sent};

/// Maximum that one call sends where others wait for the worker, in bytes. Half of
/// it costs a fifth more CPU time per byte. Twice as much makes others wait longer
/// and is hardly cheaper.
pub(crate) const SLICE: u64 = 1 << 20;

/// Read size of the copy path, in bytes.
const COPY: usize = 64 << 10;

/// Sends some of a file part, at most `slice` bytes, and returns how much the socket
/// took.
///
/// # Errors
/// `UnexpectedEof`: the file ends before the part does. The connection can then
/// be closed rather than padded. Otherwise fails as the system calls do.
pub(crate) fn send(socket: BorrowedFd<'_>, part: &mut FilePart, slice: u64) -> io::Result<Sent> {
    let wanted = usize::try_from(part.remaining.min(slice)).unwrap_or(usize::MAX);
    let mut offset = part.offset;
    let sent = if part.file.refuses_sendfile() {
        copy(socket, part, wanted)?
    } else {
        let mut sendfile = || loop {
            match rustix::fs::sendfile(socket, part.file.as_fd(), Some(&mut offset), wanted) {
                Err(Errno::INTR) => {}
                result => return result,
            }
        };
        match sendfile() {
            // The file system does not support it, or a seccomp filter blocks
            // it.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                part.file.note_sendfile_refused();
                copy(socket, part, wanted)?
            }
            result => {
                let count = result?;
                let short = count < wanted;
                Sent { count, short }
            }
        }
    };
    if sent.count == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            part.file.shortened(),
        ));
    }
    part.offset += sent.count as u64;
    part.remaining = part.remaining.saturating_sub(sent.count as u64);
    Ok(sent)
}

/// Reads and sends a piece. What the socket does not take is read again next
/// time, from the page cache.
fn copy(socket: BorrowedFd<'_>, part: &FilePart, wanted: usize) -> io::Result<Sent> {
    let mut buffer = vec![0; wanted.min(COPY)];
    let read = part.file.read_at(&mut buffer, part.offset)?;
    if read == 0 {
        return Ok(Sent::default());
    }
    let count = queue::send(socket, buffer.get(..read).unwrap_or_default(), false)?;
    Ok(Sent {
        count,
        short: count < read,
    })
}
