//! Native copying of one connection's stream to another, unseen by the guest.
//!
//! Between plain sockets, splice(2) moves large pieces through a pipe, so that
//! no byte is copied to user space. Small pieces, and everything if TLS is on
//! either side, are copied through the worker's scratch buffer. That takes two
//! system calls rather than four for a small message, and an idle connection
//! needs no pipe.

use std::io;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;

use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;

use crate::pipe::{Pipe, splice};
use crate::thread::Scratch;
use crate::transport::Transport;

/// Pieces below this size, in bytes, are cheaper to copy than to splice.
const SMALL: usize = 16 << 10;

/// Number of consecutive small pieces after which splicing stops.
const SMALL_IN_A_ROW: u8 = 8;

/// Target and progress of native copying.
#[derive(Debug)]
pub(crate) struct Relay {
    target: Rc<Transport>,
    pipe: Option<Pipe>,
    /// Bytes in the pipe.
    held: usize,
    /// Consecutive small pieces.
    small: u8,
    /// True if splice(2) was refused.
    refused: bool,
    /// True if the stream has ended.
    ended: bool,
}

/// Outcome of a step.
enum RelayStep {
    Moved(usize),
    /// The target has no room, and will wake the source when it has.
    Blocked,
    Ended,
}

impl Relay {
    pub(crate) fn new(target: Rc<Transport>) -> Self {
        Self {
            target,
            pipe: None,
            held: 0,
            small: 0,
            refused: false,
            ended: false,
        }
    }

    pub(crate) fn target(&self) -> &Rc<Transport> {
        &self.target
    }

    fn step(
        &mut self,
        source: &Rc<Transport>,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<Result<RelayStep, ConnectionError>> {
        if self.target.has_failed() {
            return Poll::Ready(Err(ConnectionError::Aborted));
        }
        if self.target.is_closing() {
            // The target accepts no more. Once its queue is sent it ends, and
            // closes the source.
            return Poll::Pending;
        }
        if self.target.queued() > 0 {
            self.target.core.borrow_mut().feeder_waits = true;
            return Poll::Ready(Ok(RelayStep::Blocked));
        }
        if self.held > 0 {
            return Poll::Ready(self.drain_pipe());
        }
        if self.ended {
            return Poll::Ready(Ok(RelayStep::Ended));
        }
        if self.pipe.is_some() {
            return self.poll_fill_pipe(source, cx);
        }
        let received = ready!(source.poll_receive(cx, scratch))?;
        let data = scratch.get(received);
        if data.is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(RelayStep::Moved(0)));
        }
        self.target.write(data);
        // A full buffer means that more is waiting: worth a pipe.
        if received.filled()
            && !self.refused
            && source.core.borrow().is_plain()
            && self.target.core.borrow().is_plain()
        {
            self.pipe = Pipe::take(&source.thread().pipes);
            self.small = 0;
        }
        Poll::Ready(Ok(RelayStep::Moved(data.len())))
    }

    fn poll_fill_pipe(
        &mut self,
        source: &Rc<Transport>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RelayStep, ConnectionError>> {
        let Some(pipe) = &self.pipe else {
            return Poll::Ready(Ok(RelayStep::Moved(0)));
        };
        match ready!(source.poll_splice(cx, &pipe.write, pipe.capacity)) {
            Ok(0) => self.ended = true,
            Ok(count) => {
                self.held = count;
                self.small = if count < SMALL {
                    self.small.saturating_add(1)
                } else {
                    0
                };
                return Poll::Ready(self.drain_pipe());
            }
            Err(errno) if refuses(errno) => {
                self.refused = true;
                self.pipe = None;
            }
            Err(errno) => return Poll::Ready(Err(errno.into())),
        }
        Poll::Ready(Ok(RelayStep::Moved(0)))
    }

    fn drain_pipe(&mut self) -> Result<RelayStep, ConnectionError> {
        let Some(pipe) = &self.pipe else {
            return Ok(RelayStep::Moved(0));
        };
        let held = self.held;
        let result = self
            .target
            .try_write(|socket| splice(&pipe.read, socket, held));
        match result {
            Ok(count) => {
                let meter = &self.target.thread().meter;
                meter.add_bytes(Measure::Sent, count);
                self.held -= count.min(held);
                if self.held == 0 && self.small >= SMALL_IN_A_ROW {
                    self.give_pipe_back();
                }
                Ok(RelayStep::Moved(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut target = self.target.core.borrow_mut();
                target.wants_room = true;
                target.feeder_waits = true;
                Ok(RelayStep::Blocked)
            }
            Err(error) if is_refusal(&error) => self.copy_pipe(),
            Err(error) => {
                self.target.fail(error.into());
                Err(ConnectionError::Aborted)
            }
        }
    }

    /// Copies what the pipe holds, if the target's socket refuses splice(2).
    /// Splices no more after that.
    fn copy_pipe(&mut self) -> Result<RelayStep, ConnectionError> {
        self.refused = true;
        let Some(pipe) = &self.pipe else {
            return Ok(RelayStep::Moved(0));
        };
        let mut data = vec![0; self.held];
        let count = rustix::io::retry_on_intr(|| rustix::io::read(&pipe.read, &mut *data))?;
        self.target.write(data.get(..count).unwrap_or_default());
        self.held -= count.min(self.held);
        if self.held == 0 {
            self.pipe = None;
        }
        Ok(RelayStep::Moved(count))
    }

    fn give_pipe_back(&mut self) {
        // A pipe that still holds bytes must not be reused for another stream.
        if let Some(pipe) = self.pipe.take()
            && self.held == 0
        {
            self.target.thread().pipes.borrow_mut().push(pipe);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.give_pipe_back();
    }
}

/// Copies until nothing is left to copy, or the target has no room. Becomes
/// ready once the stream has ended and all of it is with the target. Returns
/// the target, so that the caller can shut its sending side.
///
/// # Errors
/// Fails if either connection failed.
pub(crate) fn poll(
    source: &Rc<Transport>,
    cx: &mut Context<'_>,
    scratch: &mut Scratch,
) -> Poll<Result<Option<Rc<Transport>>, ConnectionError>> {
    // Taken out of the cell, since source and target may be the same transport.
    let Some(mut relay) = source.core.borrow_mut().relay.take() else {
        return Poll::Ready(Ok(None));
    };
    let result = loop {
        match relay.step(source, cx, scratch) {
            Poll::Pending => break Poll::Pending,
            Poll::Ready(Ok(RelayStep::Moved(count))) => {
                if source.pauses(cx, count) {
                    break Poll::Pending;
                }
            }
            Poll::Ready(Ok(RelayStep::Blocked)) => {
                relay.target.nudge();
                break Poll::Pending;
            }
            Poll::Ready(Ok(RelayStep::Ended)) => {
                let target = Rc::clone(&relay.target);
                drop(relay);
                target.core.borrow_mut().fed_by = Weak::new();
                source.core.borrow_mut().flow.peer_ended();
                return Poll::Ready(Ok(Some(target)));
            }
            Poll::Ready(Err(reason)) => break Poll::Ready(Err(reason)),
        }
    };
    source.core.borrow_mut().relay = Some(relay);
    result
}

/// True if splice(2) is unavailable: the socket or file system does not support
/// it, or a seccomp filter blocks it.
fn refuses(errno: Errno) -> bool {
    matches!(errno, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

fn is_refusal(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(refuses)
}
