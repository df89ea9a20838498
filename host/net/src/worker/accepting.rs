//! Accepting the connections of a listener.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use netwasm_base::config::ListenerKind;

use crate::accept::{Accepted, Acceptor};
use crate::listener::{Parts, Share, StreamListener};
use crate::of_listener::{ListenerCounts, OfListener};
use crate::service::Services;
use crate::turns::Turn;
use crate::worker::{ACCEPT, Worker};

/// A listener whose connections are accepted.
pub(super) struct Accepting {
    worker: Rc<Worker>,
    services: Rc<Services>,
    /// Borrowed only during polls.
    acceptor: RefCell<Acceptor>,
    kind: ListenerKind,
    site: Option<usize>,
    share: Share,
    counts: Arc<ListenerCounts>,
    removed: Arc<AtomicBool>,
    turn: Rc<Turn>,
    /// Place in the share of the worker that took a connection last.
    last: Cell<usize>,
    /// Number of the poll in which a connection was taken last.
    poll: Cell<Option<u32>>,
}

impl Accepting {
    /// Watches a listener.
    ///
    /// # Errors
    /// Fails if the runtime cannot watch the socket.
    pub(super) fn new(
        worker: &Rc<Worker>,
        services: &Rc<Services>,
        listener: StreamListener,
    ) -> io::Result<Self> {
        let Parts {
            acceptor,
            kind,
            site,
            share,
            counts,
            removed,
        } = listener.into_parts()?;
        Ok(Self {
            worker: Rc::clone(worker),
            services: Rc::clone(services),
            acceptor: RefCell::new(acceptor),
            kind,
            site,
            share,
            counts,
            removed,
            turn: worker.thread.turns.turn(),
            last: Cell::new(0),
            poll: Cell::new(None),
        })
    }

    /// True if nobody accepts the listener's connections any more.
    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Accepts connections for ever. It may be aborted: it holds no connection
    /// while it waits.
    ///
    /// # Errors
    /// Fails if the runtime cannot watch the socket.
    pub(super) async fn accept_all(self: Rc<Self>) -> io::Result<()> {
        loop {
            self.accept().await?;
        }
    }

    /// Accepts those connections that clients have made already, and closes the
    /// socket.
    ///
    /// # Errors
    /// Fails as [`Self::accept_all`] does.
    pub(super) async fn accept_rest(self: Rc<Self>) -> io::Result<()> {
        // Others are to find it closed, and not to keep it open for ever.
        self.acceptor.borrow().take_no_more();
        let most = self.worker.env().limits.backlog;
        for _ in 0..=most {
            if !self.acceptor.borrow().has_come() {
                break;
            }
            self.accept().await?;
        }
        Ok(())
    }

    /// Accepts a connection, and gives it to a worker.
    async fn accept(&self) -> io::Result<()> {
        let accept = poll_fn(|cx| {
            let of_listener = self.services.places(self.site).map(|it| it.get());
            let places = of_listener.as_ref().unwrap_or(&self.worker.env().places);
            self.acceptor.borrow_mut().poll_accept(places, cx)
        });
        let accepted = accept.await;
        let Some((socket, peer, permit)) = accepted else {
            return Err(io::Error::other("a listening socket cannot be watched"));
        };
        self.acceptor.borrow_mut().works();
        let accepted = Accepted {
            socket,
            peer,
            kind: self.kind,
            site: self.site,
            permit,
            of_listener: OfListener::accepted(&self.counts),
        };
        match self.share.as_slice() {
            [] => self.worker.accept(&self.services, accepted),
            others => {
                let next = (self.last.get() + 1) % others.len();
                self.last.set(next);
                if let Some(other) = others.get(next) {
                    // If the worker has exited, drop the connection.
                    let _ = other.send(accepted);
                }
            }
        }
        // Not before the connection has its place: this task may be aborted
        // meanwhile, and the client must not lose it to a reload.
        let poll = self.turn.number();
        if self.poll.replace(Some(poll)) == Some(poll) {
            // A second accept in one poll: there may be more.
            self.turn.pause(ACCEPT).await;
        }
        Ok(())
    }
}
