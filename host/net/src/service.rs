//! Services: the protocols on a worker's listeners.

use std::fmt;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::rc::Rc;

use netwasm_base::config::ListenerKind;

use crate::places::PresentPlaces;
use crate::thread::Thread;
use crate::transport::Transport;
use crate::turns::Turn;
use crate::worker::Worker;

/// Serves byte-stream connections. The worker calls it once per connection; the
/// service then starts the connection's task by [`Worker::drive`].
pub trait Service {
    /// Takes an accepted connection. On a TLS listener, its session has begun.
    fn accept(&self, worker: &Rc<Worker>, transport: Rc<Transport>);

    /// Runs periodic work. Called on each tick of the clock, and once at the
    /// end of the run.
    fn tick(&self) {}
}

/// Serves a datagram socket until the run drains.
pub trait DatagramService {
    /// Returns the socket's task, which fails if the runtime cannot watch the
    /// socket.
    fn serve(&self, thread: &Rc<Thread>, socket: UdpSocket, turn: &Rc<Turn>) -> Serving;
}

/// The task of a datagram socket.
pub(crate) type Serving = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// A program: one call, whose result is the exit code.
pub type Program = Pin<Box<dyn Future<Output = u8>>>;

/// The services of a worker, by kind of listener.
#[derive(Default)]
pub struct Services {
    /// `--tcp` and `--tls`.
    pub streams: Option<Rc<dyn Service>>,
    /// Listeners of HTTP, by their numbers. Each has a service of its own, as others
    /// may share it.
    pub sites: Vec<SharedService>,
    /// `--udp`.
    pub datagrams: Option<Rc<dyn DatagramService>>,
    /// The program to run instead of waiting for connections.
    pub program: Option<Program>,
}

/// The service of a listener that several may share.
pub struct SharedService {
    /// The service.
    pub service: Rc<dyn Service>,
    /// Places for its connections.
    pub places: Rc<PresentPlaces>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

impl Services {
    /// Returns the service for a byte-stream listener.
    pub(crate) fn of(&self, kind: ListenerKind, site: Option<usize>) -> Option<&dyn Service> {
        match kind {
            ListenerKind::Tcp | ListenerKind::Tls => self.streams.as_deref(),
            ListenerKind::Udp => None,
            ListenerKind::Http | ListenerKind::Https | ListenerKind::Redirect => {
                self.sites.get(site?).map(|it| &*it.service)
            }
        }
    }

    /// Returns the places for the connections of a listener; `None` if they are
    /// those of the whole service.
    pub(crate) fn places(&self, site: Option<usize>) -> Option<&Rc<PresentPlaces>> {
        self.sites.get(site?).map(|it| &it.places)
    }

    /// Passes a tick of the clock to the services.
    pub(crate) fn tick(&self) {
        let of_http = self.sites.iter().map(|it| &it.service);
        for service in self.streams.iter().chain(of_http) {
            service.tick();
        }
    }
}
