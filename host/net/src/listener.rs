//! Listeners. They are bound before the first worker runs, so that a bad
//! address is reported at start.

mod binding;

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::Socket;
use tokio::io::Interest;
use tokio::sync::mpsc;

use netwasm_base::config::{Limits, ListenerKind};
use netwasm_base::error::Error;
use netwasm_base::unix::UnixRights;

use crate::accept::{Accepted, Acceptor};
use crate::io::Watched;
use crate::of_listener::ListenerCounts;
use crate::tcp;
use crate::unix::SocketFile;

pub(crate) use self::binding::datagram_socket;
pub use self::binding::{bind, bind_private, close_unused};

/// A listener or datagram socket of one worker.
#[derive(Debug)]
pub enum Listener {
    /// Byte streams.
    Stream(StreamListener),
    /// Datagrams.
    Datagram(UdpSocket),
}

/// A byte-stream listener.
#[derive(Debug)]
pub struct StreamListener {
    socket: OwnedFd,
    kind: ListenerKind,
    site: Option<usize>,
    share: Share,
    counts: Arc<ListenerCounts>,
    removed: Arc<AtomicBool>,
}

/// A listener whose socket is watched.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) acceptor: Acceptor,
    pub(crate) kind: ListenerKind,
    /// Number of the listener among the shared ones.
    pub(crate) site: Option<usize>,
    /// Workers that take connections in turn.
    pub(crate) share: Share,
    /// Numbers of its connections.
    pub(crate) counts: Arc<ListenerCounts>,
    /// True once the listener is no longer one of the run.
    pub(crate) removed: Arc<AtomicBool>,
}

/// Workers that take connections in turn; empty if the accepting worker keeps
/// them.
pub(crate) type Share = Vec<mpsc::UnboundedSender<Accepted>>;

/// The sockets of one address of a listener. Workers get duplicates, so that the
/// sockets stay open while one generation of a service replaces another.
#[derive(Debug)]
pub struct Bound {
    /// URL for the `listening` line.
    pub url: String,
    kind: ListenerKind,
    /// Numbers of its connections.
    pub counts: Arc<ListenerCounts>,
    /// One socket for each worker, or one in all.
    sockets: Vec<Socket>,
    is_unix: bool,
    /// True if one worker accepts for all: a Unix socket, or one that was
    /// passed to this process.
    is_single: bool,
    /// True once it is no longer one of the run. Workers then accept what is in
    /// the backlog before they close their duplicates.
    removed: Arc<AtomicBool>,
    /// File of a Unix socket, removed when this is dropped.
    pub file: Option<SocketFile>,
    /// Like `file`, while it is another process's.
    others_file: Option<PathBuf>,
}

/// All that a process needs to go on with the sockets of another one.
#[derive(Clone, Debug)]
pub struct Described {
    /// URL for the log.
    pub url: String,
    /// Scheme of the protocol, also for a Unix socket.
    pub scheme: String,
    /// True for a Unix socket.
    pub is_unix: bool,
    /// True if one worker accepts for all.
    pub is_single: bool,
    /// File of a Unix socket.
    pub file: Option<PathBuf>,
    /// Number of the sockets.
    pub sockets: usize,
}

impl Bound {
    /// Closes the sockets, but not their duplicates. The file stays.
    pub fn close(&mut self) {
        self.sockets.clear();
    }

    /// Returns what another process needs besides the sockets.
    #[must_use]
    pub fn described(&self) -> Described {
        let file = self.file.as_ref();
        Described {
            url: self.url.clone(),
            scheme: scheme(self.kind).to_owned(),
            is_unix: self.is_unix,
            is_single: self.is_single,
            file: file.map(|file| file.path().to_owned()),
            sockets: self.sockets.len(),
        }
    }

    /// Returns the sockets.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd)
    }

    /// Takes sockets of another process.
    #[must_use]
    pub fn adopt(described: Described, sockets: Vec<OwnedFd>) -> Self {
        let kinds = [
            ListenerKind::Tcp,
            ListenerKind::Tls,
            ListenerKind::Udp,
            ListenerKind::Http,
            ListenerKind::Https,
        ];
        let kind = kinds
            .into_iter()
            .find(|kind| scheme(*kind) == described.scheme);
        Self {
            url: described.url,
            kind: kind.unwrap_or(ListenerKind::Tcp),
            counts: Arc::default(),
            sockets: sockets.into_iter().map(Socket::from).collect(),
            is_unix: described.is_unix,
            is_single: described.is_single,
            removed: Arc::default(),
            file: None,
            others_file: described.file,
        }
    }

    /// Notes that the process that owned the sockets has left them to this one,
    /// which is to remove the file of a Unix socket in the end.
    pub fn own(&mut self) {
        if let Some(path) = self.others_file.take() {
            self.file = SocketFile::of(&path);
        }
    }

    /// Leaves the sockets, and the file of a Unix socket, to another process.
    pub fn leave(mut self) {
        if let Some(file) = self.file.take() {
            // It is removed by the other process.
            std::mem::forget(file);
        }
    }

    /// Notes that it is no longer one of the run. Returns its URL.
    pub fn remove(self) -> String {
        self.removed.store(true, Ordering::Release);
        self.url.clone()
    }

    /// Applies the settings of a listener, which a reload may change: the
    /// backlog, options of TCP, the rights of a Unix socket's file, and the protocol
    /// in the URL. The sockets go on listening.
    ///
    /// # Errors
    /// Fails if the system refuses. Then some may have changed.
    pub fn adjust(
        &mut self,
        kind: ListenerKind,
        limits: &Limits,
        rights: &UnixRights,
    ) -> io::Result<()> {
        let adjusted = self.sockets.iter().try_for_each(|socket| {
            if kind == ListenerKind::Udp {
                return Ok(());
            }
            if !self.is_unix {
                tcp::set_listening(socket, &limits.tcp)?;
            }
            // A socket that listens gets another backlog (listen(2)).
            socket.listen(limits.backlog)
        });
        let prefix = match self.is_unix {
            true => unix_scheme(self.kind).to_owned(),
            false => format!("{}://", scheme(self.kind)),
        };
        if let Some(rest) = self.url.strip_prefix(&prefix) {
            self.url = match self.is_unix {
                true => format!("{}{rest}", unix_scheme(kind)),
                false => format!("{}://{rest}", scheme(kind)),
            };
            self.kind = kind;
        }
        let file = self.file.as_ref();
        adjusted.and_then(|()| file.map_or(Ok(()), |file| file.set_rights(rights)))
    }

    /// Returns a listener for each worker; for a Unix socket, one in all, which
    /// hands connections to the workers of `handed` in turn. `site` is its
    /// number among those that services share.
    ///
    /// # Errors
    /// Fails if no descriptor is left.
    pub fn listeners(
        &self,
        kind: ListenerKind,
        site: Option<usize>,
        handed: &[mpsc::UnboundedSender<Accepted>],
    ) -> Result<Vec<Listener>, Error> {
        let share = |socket: io::Result<Socket>| {
            let socket = socket?;
            if kind == ListenerKind::Udp {
                return Ok(Listener::Datagram(socket.into()));
            }
            // Sockets of another process may be more or fewer than the workers.
            let is_shared = self.is_single || self.sockets.len() != handed.len();
            let share = match is_shared && handed.len() > 1 {
                true => handed.to_vec(),
                false => Vec::new(),
            };
            Ok(Listener::Stream(StreamListener {
                socket: socket.into(),
                kind,
                site,
                share,
                counts: Arc::clone(&self.counts),
                removed: Arc::clone(&self.removed),
            }))
        };
        let sockets = self.sockets.iter().map(|socket| share(socket.try_clone()));
        sockets
            .collect::<io::Result<_>>()
            .map_err(|source| Error::System {
                what: "a listening socket",
                source,
            })
    }
}

fn scheme(kind: ListenerKind) -> &'static str {
    match kind {
        ListenerKind::Tcp => "tcp",
        ListenerKind::Tls => "tls",
        ListenerKind::Udp => "udp",
        ListenerKind::Http | ListenerKind::Redirect => "http",
        ListenerKind::Https => "https",
    }
}

fn unix_scheme(kind: ListenerKind) -> &'static str {
    match kind {
        ListenerKind::Tcp | ListenerKind::Udp => "",
        ListenerKind::Tls => "tls+",
        ListenerKind::Http | ListenerKind::Redirect => "http+",
        ListenerKind::Https => "https+",
    }
}

impl StreamListener {
    /// Returns a listener with this descriptor, whatever it is.
    #[cfg(test)]
    pub(crate) fn of(socket: OwnedFd) -> Self {
        Self {
            socket,
            kind: ListenerKind::Tcp,
            site: None,
            share: Share::new(),
            counts: Arc::default(),
            removed: Arc::default(),
        }
    }

    /// Returns the socket.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Watches the socket from the runtime of this thread, and takes the
    /// listener apart.
    ///
    /// # Errors
    /// Fails if the runtime cannot watch the socket.
    pub(crate) fn into_parts(self) -> io::Result<Parts> {
        let socket = Watched::new(self.socket, Interest::READABLE)?;
        Ok(Parts {
            acceptor: Acceptor::new(Rc::new(socket)),
            kind: self.kind,
            site: self.site,
            share: self.share,
            counts: self.counts,
            removed: self.removed,
        })
    }
}
