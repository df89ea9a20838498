//! Accepting the connections of a listener, of the command line or of a guest:
//! the one place between the kernel's backlog and a transport.

pub(crate) mod preamble;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use tokio::task::coop::{has_budget_remaining, poll_proceed};

use netwasm_base::address::Address;
use netwasm_base::config::ListenerKind;

use crate::io::Watched;
use crate::of_listener::OfListener;
use crate::permits::Permit;
use crate::places::Places;

/// Pause of an acceptor when the system has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

type Waiting<T> = Pin<Box<dyn Future<Output = T>>>;

/// Accepts the connections of a listener, of the command line or of a guest.
///
/// An error is logged and never ends the server. A client that left is skipped.
/// If the system has no descriptor or memory left, the backlog waits for a
/// moment. A place is requested only when there is something to accept, so that
/// an idle worker keeps none from the others.
pub(crate) struct Acceptor {
    socket: Rc<Watched>,
    /// Place of the next connection among `--max-connections`.
    permit: Option<Permit>,
    /// Wait for a place, and the places that it is for.
    permitting: Option<(Arc<Places>, Waiting<Permit>)>,
    /// Pause after an error of the system.
    pause: Option<Waiting<()>>,
    reported: bool,
    /// True if it looks for connections of which the runtime has not told yet.
    looks: bool,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl Acceptor {
    pub(crate) fn new(socket: Rc<Watched>) -> Self {
        Self {
            socket,
            permit: None,
            permitting: None,
            pause: None,
            reported: false,
            looks: false,
        }
    }

    /// Like [`Self::new`], for a listener that a guest opened, and may have
    /// connected to since the runtime looked last.
    pub(crate) fn looking(socket: Rc<Watched>) -> Self {
        Self {
            looks: true,
            ..Self::new(socket)
        }
    }

    /// Waits until there is, or may be, a connection.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.socket.poll_read_ready(cx) {
            Poll::Pending if self.looks && has_budget_remaining() && self.has_come() => {
                Poll::Ready(())
            }
            polled => polled.map(|_| ()),
        }
    }

    /// Releases the place requested for the next connection, as nobody waits
    /// for it.
    pub(crate) fn cancel(&mut self) {
        self.permitting = None;
    }

    /// Accepts the next connection, together with its place. Returns `None` if
    /// the socket can no longer be watched.
    pub(crate) fn poll_accept(
        &mut self,
        places: &Arc<Places>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(OwnedFd, Address, Permit)>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let ready = match self.socket.poll_read_ready(cx) {
                Poll::Ready(Ok(ready)) => Some(ready),
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                // The runtime may not have looked yet, unless others are to have a
                // turn.
                Poll::Pending if self.looks && has_budget_remaining() && has_come(&self.socket) => {
                    None
                }
                Poll::Pending => return Poll::Pending,
            };
            if self.permit.is_none() && self.permitting.is_none() {
                self.permit = places.free();
                // No connection is closed to make room for a client that is not
                // there.
                if self.permit.is_none() && !has_come(&self.socket) {
                    if let Some(mut ready) = ready {
                        ready.clear();
                    }
                    continue;
                }
            }
            let mut permit = match self.permit.take() {
                Some(permit) => permit,
                None => {
                    // A reload may have replaced them meanwhile.
                    let stale = |(of, _): &mut (Arc<Places>, _)| !Arc::ptr_eq(of, places);
                    drop(self.permitting.take_if(stale));
                    let take = || {
                        let taking = Box::pin(Arc::clone(places).take()) as Waiting<_>;
                        (Arc::clone(places), taking)
                    };
                    let (_, permitting) = self.permitting.get_or_insert_with(take);
                    let taken = ready!(permitting.as_mut().poll(cx));
                    self.permitting = None;
                    taken
                }
            };
            if !permit.move_to(places.permits()) {
                drop(permit);
                continue;
            }
            let accepted = match ready {
                None => {
                    ready!(poll_proceed(cx)).made_progress();
                    accept_one(self.socket.as_fd()).map_err(io::Error::from)
                }
                Some(mut ready) => {
                    let accept = |socket: &OwnedFd| Ok(accept_one(socket.as_fd())?);
                    let tried = ready.try_io(accept);
                    tried.unwrap_or_else(|_| Err(Errno::AGAIN.into()))
                }
            };
            let error = match accepted {
                Ok((socket, peer)) => return Poll::Ready(Some((socket, peer, permit))),
                // The place is released: others may have more use for it
                // meanwhile.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => error,
            };
            if Errno::from_io_error(&error).is_some_and(is_about_one_client) {
                self.permit = Some(permit);
            } else {
                self.fail(&error);
            }
        }
    }

    /// True if there is a connection to accept.
    pub(crate) fn has_come(&self) -> bool {
        has_come(&self.socket)
    }

    /// Lets the kernel take no more connections than wait already.
    pub(crate) fn take_no_more(&self) {
        // On error they are accepted for a little longer.
        let _ = rustix::net::listen(self.socket.as_fd(), 0);
    }

    /// Notes that a connection was taken.
    pub(crate) fn works(&mut self) {
        if std::mem::take(&mut self.reported) {
            tracing::info!("accepting connections again");
        }
    }

    /// Pauses for a moment, as the system gives no connection at present.
    pub(crate) fn fail(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.reported, true) {
            tracing::warn!(%error, "cannot accept connections; trying again");
        }
        self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
    }
}

/// True if a listener has a connection to accept.
fn has_come(socket: &Watched) -> bool {
    socket.is_ready_now(PollFlags::IN)
}

/// An accepted connection, for this worker or another.
#[derive(Debug)]
pub struct Accepted {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Address,
    /// Kind of the listener.
    pub(crate) kind: ListenerKind,
    /// Number of the listener among the shared ones.
    pub(crate) site: Option<usize>,
    /// Counts the connection against `--max-connections`.
    pub(crate) permit: Permit,
    /// Counts the connection among those of its listener.
    pub(crate) of_listener: OfListener,
}

fn accept_one(socket: impl AsFd) -> Result<(OwnedFd, Address), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (accepted, peer) = rustix::net::acceptfrom_with(socket, flags)?;
    Ok((accepted, peer.map_or(Address::Unix(None), Address::from)))
}

/// True if an error concerns the new connection, not the listener (accept(2)).
pub(crate) fn is_about_one_client(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::CONNABORTED
            | Errno::INTR
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::PERM
    )
}
