//! Connections of a listener that a guest opened, as the source of the guest's
//! stream of them. Accepting cannot fail. The stream ends when the run drains.
//!
//! Listeners of WASI 0.2, and so of `std::net`, are in wasmtime-wasi rather
//! than here, and do not end. Their `accept` knows connections and errors but
//! no end, and most programs retry after an error, which would spin. When the
//! run drains, such a program ends by itself or is aborted by
//! `--shutdown-timeout`.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::accept::Acceptor;
use crate::io::Watched;
use crate::thread::Thread;
use crate::transport::Transport;

/// The connections that arrive at a listener.
pub struct Incoming {
    thread: Rc<Thread>,
    acceptor: Acceptor,
    /// Waits for the run to drain; `None` once it does.
    drained: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("acceptor", &self.acceptor)
            .finish_non_exhaustive()
    }
}

impl Incoming {
    /// Returns the connections of a listener.
    pub fn new(thread: Rc<Thread>, listener: Rc<Watched>) -> Self {
        Self {
            drained: Some(Box::pin(Rc::clone(&thread).drained())),
            acceptor: Acceptor::looking(listener),
            thread,
        }
    }

    /// Waits until there is, or may be, a connection, or there will be none.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.is_drained(cx) {
            true => Poll::Ready(()),
            false => self.acceptor.poll_ready(cx),
        }
    }

    fn is_drained(&mut self, cx: &mut Context<'_>) -> bool {
        let waiting = self.drained.as_mut();
        if waiting.is_some_and(|it| it.as_mut().poll(cx).is_ready()) {
            self.drained = None;
        }
        self.drained.is_none()
    }

    /// Releases the place requested for the next connection, as nobody waits
    /// for it.
    pub fn cancel(&mut self) {
        self.acceptor.cancel();
    }

    /// Accepts the next connection. Returns `None` if there will be none.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Rc<Transport>>> {
        loop {
            if self.is_drained(cx) {
                return Poll::Ready(None);
            }
            let env = &self.thread.env;
            let accepted = ready!(self.acceptor.poll_accept(&env.places, cx));
            let Some((socket, peer, permit)) = accepted else {
                return Poll::Ready(None);
            };
            let Ok(place) = env.admit(&socket, &peer) else {
                continue;
            };
            match Transport::new(&self.thread, socket, peer, Some(permit)) {
                Ok(transport) => {
                    self.acceptor.works();
                    let mut core = transport.core.borrow_mut();
                    core.client = place.map(Box::new);
                    if let Some(socket) = &core.socket {
                        socket.try_first();
                    }
                    drop(core);
                    return Poll::Ready(Some(transport));
                }
                Err(error) => {
                    env.counters.connections_lost.add();
                    self.acceptor.fail(&error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use netwasm_base::config::Limits;
    use tokio::io::Interest;

    use super::*;
    use crate::testing::in_worker;

    #[test]
    fn that_there_will_be_none_may_be_asked_again() {
        in_worker(Limits::default(), async |worker| {
            let scratch = tempfile::tempdir().expect("a directory");
            let listener = UnixListener::bind(scratch.path().join("s")).expect("a socket");
            listener.set_nonblocking(true).expect("O_NONBLOCK");
            let listener = Watched::new(listener.into(), Interest::READABLE).expect("watched");
            let mut incoming = Incoming::new(Rc::clone(&worker.thread), Rc::new(listener));
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(incoming.poll_accept(&mut cx).is_pending());
            worker.thread.drain(false);
            for _ in 0..2 {
                assert!(incoming.poll_ready(&mut cx).is_ready());
                assert!(matches!(incoming.poll_accept(&mut cx), Poll::Ready(None)));
            }
        });
    }
}
