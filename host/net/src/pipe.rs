//! Pipes, which splice(2) needs between two sockets.

use std::cell::RefCell;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};

/// Pipe capacity to request, in bytes. Larger pipes (any process may have 1
/// MiB) were not measurably faster.
const PIPE: usize = 256 << 10;

/// A pipe for splicing, kept by its thread between uses.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) read: OwnedFd,
    pub(crate) write: OwnedFd,
    /// Capacity in bytes.
    pub(crate) capacity: usize,
}

impl Pipe {
    /// Takes a kept pipe, or makes a new one. Returns `None` if no descriptor
    /// is left.
    pub(crate) fn take(kept: &RefCell<Vec<Self>>) -> Option<Self> {
        kept.borrow_mut().pop().or_else(|| {
            let (read, write) =
                rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            // If the request is refused, the pipe keeps its default capacity.
            let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE);
            let capacity = rustix::pipe::fcntl_getpipe_size(&write).ok()?;
            Some(Self {
                read,
                write,
                capacity,
            })
        })
    }
}

/// Calls splice(2) between a pipe and a socket.
pub(crate) fn splice(from: &OwnedFd, to: &OwnedFd, most: usize) -> Result<usize, Errno> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        match rustix::pipe::splice(from, None, to, None, most, flags) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
