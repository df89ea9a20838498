//! What is spoken on a listener, as a worker that accepts there sees it.

use std::fmt;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::rc::Rc;

use netwasm_base::config::ListenerKind;

use crate::thread::Thread;
use crate::transport::Transport;
use crate::turns::Turn;
use crate::worker::Worker;

/// Serves connections of byte streams. One call for each of them; what follows
/// is the task that it begins by [`Worker::drive`].
pub trait Service {
    /// Takes a connection that was accepted; where it is of TLS, the session has
    /// begun.
    fn accept(&self, worker: &Rc<Worker>, transport: Rc<Transport>);

    /// Some time has passed: called with each tick of the clock, and once at the
    /// end of the run.
    fn tick(&self) {}
}

/// Serves a datagram socket until the run drains.
pub trait DatagramService {
    /// The future fails where the runtime cannot watch the socket.
    fn serve(&self, thread: &Rc<Thread>, socket: UdpSocket, turn: &Rc<Turn>) -> Serving;
}

/// The task of a datagram socket.
pub(crate) type Serving = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// A program: one call, whose result is the exit code.
pub type Program = Pin<Box<dyn Future<Output = u8>>>;

/// What a worker speaks on its listeners.
#[derive(Default)]
pub struct Services {
    /// `--tcp` and `--tls`.
    pub streams: Option<Rc<dyn Service>>,
    /// `--http` and `--https`.
    pub http: Option<Rc<dyn Service>>,
    /// `--udp`.
    pub datagrams: Option<Rc<dyn DatagramService>>,
    /// What is run in place of waiting for connections.
    pub program: Option<Program>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

impl Services {
    /// What is spoken on a listener of byte streams.
    pub(crate) fn of(&self, kind: ListenerKind) -> Option<&dyn Service> {
        match kind {
            ListenerKind::Tcp | ListenerKind::Tls => self.streams.as_deref(),
            ListenerKind::Http | ListenerKind::Https => self.http.as_deref(),
            ListenerKind::Udp => None,
        }
    }

    /// Some time has passed.
    pub(crate) fn tick(&self) {
        for service in [&self.streams, &self.http].into_iter().flatten() {
            service.tick();
        }
    }
}
