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
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::io::Watched;
use crate::listener::Acceptor;
use crate::thread::Thread;
use crate::transport::Transport;

/// What arrives at a listening socket.
pub struct Incoming {
    thread: Rc<Thread>,
    acceptor: Acceptor,
    drained: Pin<Box<dyn Future<Output = ()>>>,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("acceptor", &self.acceptor)
            .finish_non_exhaustive()
    }
}

impl Incoming {
    /// Those of a listening socket.
    pub fn new(thread: Rc<Thread>, listener: Rc<Watched>) -> Self {
        Self {
            drained: Box::pin(Rc::clone(&thread).drained()),
            acceptor: Acceptor::new(listener),
            thread,
        }
    }

    /// Waits until there is one, or may be, or there will be none.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.drained.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        self.acceptor.poll_ready(cx)
    }

    /// Nobody waits for the next connection any more: its place is for others.
    pub fn cancel(&mut self) {
        self.acceptor.cancel();
    }

    /// The next connection; `None` when there will be none.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Rc<Transport>>> {
        loop {
            if self.drained.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            let env = &self.thread.env;
            let accepted = ready!(self.acceptor.poll_accept(&env.places, cx));
            let Some((socket, peer, permit)) = accepted else {
                return Poll::Ready(None);
            };
            match Transport::new(&self.thread, socket, peer, Some(permit)) {
                Ok(transport) => {
                    env.counters.connections_accepted.add();
                    return Poll::Ready(Some(transport));
                }
                Err(error) => self.acceptor.fail(&error),
            }
        }
    }
}
