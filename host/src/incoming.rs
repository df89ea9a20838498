//! The connections of a listening socket that a guest has, for its stream of
//! them: like `listener`'s `accept` it cannot fail, and it ends when the run
//! drains.
//!
//! Those of WASI 0.2, and so of `std::net`, are wasmtime-wasi's and not these,
//! and do not end. There `accept` knows connections and errors but no end, and
//! most programs try again after an error, which would spin. When the run
//! drains, such a program ends by itself or is aborted by
//! `--shutdown-timeout`.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::{AcquireError, OwnedSemaphorePermit};

use crate::listener::{PAUSE, accept_one, has_come, is_about_one_client};
use crate::thread::Thread;
use crate::transport::Transport;

type Waiting<T> = Pin<Box<dyn Future<Output = T>>>;

/// What arrives at a listening socket.
pub(crate) struct Incoming {
    thread: Rc<Thread>,
    listener: Rc<AsyncFd<OwnedFd>>,
    /// The next connection's place among `--max-connections`.
    permit: Option<OwnedSemaphorePermit>,
    permitting: Option<Waiting<Result<OwnedSemaphorePermit, AcquireError>>>,
    /// A rest after an error that is the system's.
    pause: Option<Waiting<()>>,
    reported: bool,
    drained: Waiting<()>,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl Incoming {
    /// Those of a listening socket.
    pub(crate) fn new(thread: Rc<Thread>, listener: Rc<AsyncFd<OwnedFd>>) -> Self {
        Self {
            drained: Box::pin(Rc::clone(&thread).drained()),
            thread,
            listener,
            permit: None,
            permitting: None,
            pause: None,
            reported: false,
        }
    }

    /// Waits until there is one, or may be, or there will be none.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.drained.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        self.listener.poll_read_ready(cx).map(|_| ())
    }

    /// Nobody waits for the next connection any more: its place is for others.
    pub(crate) fn cancel(&mut self) {
        self.permitting = None;
    }

    /// The next connection; `None` when there will be none.
    pub(crate) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Rc<Transport>>> {
        loop {
            if self.drained.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let Ok(mut ready) = ready!(self.listener.poll_read_ready(cx)) else {
                return Poll::Ready(None);
            };
            if self.permit.is_none() && self.permitting.is_none() {
                self.permit = self.thread.env.places.free();
                if self.permit.is_none() && !has_come(&self.listener) {
                    ready.clear_ready();
                    continue;
                }
            }
            if self.permit.is_none() {
                let places = &self.thread.env.places;
                let permitting = self
                    .permitting
                    .get_or_insert_with(|| Box::pin(Arc::clone(places).take()));
                let permit = ready!(permitting.as_mut().poll(cx));
                self.permitting = None;
                self.permit = permit.ok();
            }
            let accepted =
                ready.try_io(|socket| accept_one(socket.as_fd()).map_err(io::Error::from));
            let error = match accepted {
                Err(_would_block) => {
                    // Others may have more use for it meanwhile.
                    self.permit = None;
                    continue;
                }
                Ok(Ok((socket, peer))) => {
                    self.reported = false;
                    let permit = self.permit.take();
                    match Transport::new(&self.thread, socket, peer, permit) {
                        Ok(transport) => {
                            self.thread.env.counters.connections_accepted.add();
                            return Poll::Ready(Some(transport));
                        }
                        Err(error) => error,
                    }
                }
                Ok(Err(error)) => error,
            };
            if Errno::from_io_error(&error).is_some_and(is_about_one_client) {
                continue;
            }
            if !self.reported {
                tracing::warn!(%error, "cannot accept connections; trying again");
                self.reported = true;
            }
            self.permit = None;
            self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
        }
    }
}
