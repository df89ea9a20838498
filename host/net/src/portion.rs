//! A part of one connection's stream that goes to another natively, by
//! splice(2), such as a body of known length. Both have other work before and
//! after it, unlike a [`relay`](crate::relay).

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;

use netwasm_base::error::ConnectionError;

use crate::pipe::{Pipe, splice};
use crate::thread::Thread;
use crate::transport::Transport;

/// Pieces below this size, in bytes, are cheaper to copy than to splice.
const SMALL: usize = 16 << 10;

/// Number of consecutive small pieces after which the caller is to copy.
const SMALL_IN_A_ROW: u8 = 8;

/// A part that is on its way.
#[derive(Debug)]
pub struct Portion {
    thread: Rc<Thread>,
    /// `None` once it was given back.
    pipe: Option<Pipe>,
    /// Bytes in the pipe.
    held: usize,
    /// Bytes that have yet to arrive.
    left: u64,
    /// Consecutive small pieces.
    small: u8,
}

/// Outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes are with the target.
    Moved(usize),
    /// The caller is to copy the rest. Nothing is in the pipe.
    Copy,
}

impl Portion {
    /// Begins to move so many bytes. Returns `None` if they have to be copied:
    /// a connection speaks TLS, or no descriptor is left for a pipe.
    pub fn begin(source: &Transport, target: &Transport, length: u64) -> Option<Self> {
        if !source.is_plain() || !target.is_plain() {
            return None;
        }
        let thread = Rc::clone(source.thread());
        let pipe = Pipe::take(&thread.pipes)?;
        Some(Self {
            thread,
            pipe: Some(pipe),
            held: 0,
            left: length,
            small: 0,
        })
    }

    /// Returns the bytes that have yet to arrive from the source.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// True if bytes that have arrived are not with the target yet.
    pub fn holds(&self) -> bool {
        self.held > 0
    }

    /// Moves some of the part. The target's queue must be empty.
    ///
    /// # Errors
    /// Fails if the source fails or ends early. If the target fails, its own
    /// task has to see to it, and is woken.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &Transport,
        target: &Transport,
    ) -> Poll<Result<Step, ConnectionError>> {
        let Some(pipe) = &self.pipe else {
            return Poll::Ready(Ok(Step::Copy));
        };
        if self.held == 0 {
            if self.left == 0 || self.small >= SMALL_IN_A_ROW {
                return Poll::Ready(Ok(Step::Copy));
            }
            let most = usize::try_from(self.left).unwrap_or(usize::MAX);
            let most = most.min(pipe.capacity);
            match ready!(source.poll_splice(cx, &pipe.write, most)) {
                Ok(0) => return Poll::Ready(Err(ConnectionError::Reset)),
                Ok(count) => {
                    self.held = count;
                    self.left = self.left.saturating_sub(count as u64);
                    self.small = if count < SMALL { self.small + 1 } else { 0 };
                }
                Err(errno) if refuses(Some(errno)) => {
                    self.give_pipe_back();
                    return Poll::Ready(Ok(Step::Copy));
                }
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
        self.poll_drain(cx, target)
    }

    /// Moves what the pipe holds, once the target has room.
    fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        target: &Transport,
    ) -> Poll<Result<Step, ConnectionError>> {
        loop {
            let Some(pipe) = &self.pipe else {
                return Poll::Ready(Ok(Step::Copy));
            };
            let held = self.held;
            let moved = target.try_write(|socket| splice(&pipe.read, socket, held));
            match moved {
                Ok(count) => {
                    // Otherwise, a target that rests later on would seem to take
                    // nothing.
                    target.core.borrow_mut().wants_room = false;
                    self.held -= count.min(held);
                    return Poll::Ready(Ok(Step::Moved(count)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The time-out of a peer that takes nothing runs meanwhile.
                    target.core.borrow_mut().wants_room = true;
                    ready!(target.poll_room(cx));
                }
                Err(error) if refuses(Errno::from_io_error(&error)) => {
                    return Poll::Ready(self.copy(target));
                }
                Err(error) => {
                    // Its task sees to its failure.
                    target.fail(error.into());
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Copies what the pipe holds, as the target's socket refuses splice(2).
    fn copy(&mut self, target: &Transport) -> Result<Step, ConnectionError> {
        let Some(pipe) = &self.pipe else {
            return Ok(Step::Copy);
        };
        let mut data = vec![0; self.held];
        let count = rustix::io::retry_on_intr(|| rustix::io::read(&pipe.read, &mut *data))?;
        target.write(data.get(..count).unwrap_or_default());
        self.held -= count.min(self.held);
        // The next step gives the pipe up.
        self.small = SMALL_IN_A_ROW;
        Ok(Step::Moved(count))
    }

    fn give_pipe_back(&mut self) {
        // A pipe that still holds bytes must not be reused for another stream.
        if let Some(pipe) = self.pipe.take()
            && self.held == 0
        {
            self.thread.pipes.borrow_mut().push(pipe);
        }
    }
}

/// True if splice(2) is unavailable: the socket does not support it, or a
/// seccomp filter blocks it.
fn refuses(errno: Option<Errno>) -> bool {
    matches!(errno, Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}

impl Drop for Portion {
    fn drop(&mut self) {
        self.give_pipe_back();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::task::Waker;

    use netwasm_base::config::Limits;

    use super::*;
    use crate::testing::{connection, in_worker, until};

    #[test]
    fn a_target_that_has_taken_all_does_not_wait_for_room() {
        in_worker(Limits::default(), async |worker| {
            let (source, mut feed) = connection(&worker);
            let (target, mut sink) = connection(&worker);
            feed.set_nonblocking(true).expect("O_NONBLOCK");
            sink.set_nonblocking(true).expect("O_NONBLOCK");
            let mut portion = Portion::begin(&source, &target, 1 << 30).expect("a pipe");
            let mut step = || {
                let mut cx = Context::from_waker(Waker::noop());
                portion.poll(&mut cx, &source, &target)
            };
            let piece = vec![7; 64 << 10];
            until("the target is full", || {
                // It fails once all buffers are full.
                let _ = feed.write(&piece);
                let _ = step();
                target.waits_for_room()
            })
            .await;
            let mut taken = vec![0; 64 << 10];
            until("it has room", || {
                while sink.read(&mut taken).is_ok() {}
                matches!(step(), Poll::Ready(Ok(Step::Moved(1..))))
            })
            .await;
            assert!(!target.waits_for_room());
        });
    }
}
