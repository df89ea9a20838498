//! Listeners. They are bound before the first worker runs, so that a bad
//! address is reported at start.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::sync::mpsc;

use netwasm_base::config::{Limits, ListenAddress, ListenerConfig, ListenerKind};
use netwasm_base::error::Error;
use netwasm_base::identity::{AsUser, assumed};
use netwasm_base::unix::{UnixRights, abstract_name, written};

use crate::accept::{Accepted, Acceptor};
use crate::io::Watched;
use crate::of_listener::ListenerCounts;
use crate::passed;
use crate::tcp;
use crate::unix::{self, SocketFile};

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
    /// Closes the sockets, but for their duplicates. The file stays.
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

    /// Notes that the process that the sockets are of has left them to this one,
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

/// Binds a listener, with one socket for each of `workers`. A Unix socket's file
/// gets `rights` before anybody can connect.
///
/// # Errors
/// Fails with the address, what happened and what to do.
pub fn bind(
    config: &ListenerConfig,
    workers: usize,
    limits: &Limits,
    rights: &UnixRights,
) -> Result<Vec<Bound>, Error> {
    let kind = config.kind;
    match &config.address {
        ListenAddress::Unix(path) => Ok(vec![bind_unix(path, kind, limits, rights)?]),
        ListenAddress::Socket(address) => Ok(vec![bind_ip(*address, kind, workers, limits)?]),
        ListenAddress::Localhost(port) => bind_localhost(*port, kind, workers, limits),
        ListenAddress::Passed(name) => take_passed(name, kind, limits),
    }
}

/// Binds a listener for this process's own interface: one socket for each
/// address. A Unix socket is its owner's alone.
///
/// # Errors
/// Fails with the address, what happened and what to do.
pub fn bind_private(address: &ListenAddress) -> Result<Vec<Bound>, Error> {
    /// Read and write, for the owner.
    const OWNER: u32 = 0o600;
    let (kind, limits) = (ListenerKind::Http, Limits::default());
    let rights = UnixRights {
        mode: Some(OWNER),
        ..UnixRights::default()
    };
    let address = address.clone();
    bind(&ListenerConfig { kind, address }, 1, &limits, &rights)
}

/// Closes the sockets that the service manager has opened and no listener has.
/// Returns their names.
#[must_use]
pub fn close_unused() -> Vec<String> {
    passed::close_unused()
}

/// Takes the sockets that the service manager has opened under a name.
fn take_passed(name: &str, kind: ListenerKind, limits: &Limits) -> Result<Vec<Bound>, Error> {
    let error = |reason: String| Error::Listen {
        address: format!("fd:{name}"),
        reason,
    };
    let sockets = passed::named(name).map_err(|problem| error(problem.to_string()))?;
    if sockets.is_empty() {
        let others = passed::names();
        return Err(error(match others.is_empty() {
            true => "no socket was passed to this process (LISTEN_FDS), as systemd does by a \
                     .socket unit"
                .into(),
            false => format!(
                "the sockets that were passed are named {}",
                others.join(", ")
            ),
        }));
    }
    let take = |socket: OwnedFd| {
        let socket = Socket::from(socket);
        let wanted = match kind {
            ListenerKind::Udp => Type::DGRAM,
            _ => Type::STREAM,
        };
        if socket.r#type()? != wanted {
            return Err(io::Error::other(match kind {
                ListenerKind::Udp => "it is no socket of datagrams: write ListenDatagram= there",
                _ => "it is no socket of streams: write ListenStream= there",
            }));
        }
        if kind != ListenerKind::Udp {
            // The socket listens already, but for another length of the backlog.
            socket.listen(limits.backlog)?;
        }
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let ip = local.as_socket();
        if ip.is_some() && kind != ListenerKind::Udp {
            // Accepted sockets inherit the options.
            socket.set_tcp_nodelay(true)?;
            tcp::set_listening(&socket, &limits.tcp)?;
        }
        let is_unix = ip.is_none();
        let path = local.as_pathname().map(Path::to_owned);
        let path = path.or_else(|| local.as_abstract_namespace().map(written));
        Ok(Bound {
            url: match (ip, path) {
                (Some(ip), _) => format!("{}://{ip}", scheme(kind)),
                (None, Some(path)) => format!("{}unix:{}", unix_scheme(kind), path.display()),
                (None, None) => format!("{}fd:{name}", unix_scheme(kind)),
            },
            kind,
            removed: Arc::default(),
            counts: Arc::default(),
            sockets: vec![socket],
            is_unix,
            is_single: true,
            file: None,
            others_file: None,
        })
    };
    let bound = sockets.into_iter().map(take).collect::<io::Result<_>>();
    bound.map_err(|problem| error(problem.to_string()))
}

/// Maximum of tries to find a port that is free for both IPv4 and IPv6.
const PORT_TRIES: usize = 16;

fn bind_localhost(
    port: u16,
    kind: ListenerKind,
    workers: usize,
    limits: &Limits,
) -> Result<Vec<Bound>, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        let first = (Ipv4Addr::LOCALHOST, port).into();
        let (v4, chosen) = bind_sockets(first, kind, workers, limits)
            .map_err(|error| listen_error(kind, first, &error))?;
        let second = (Ipv6Addr::LOCALHOST, chosen.port()).into();
        match bind_sockets(second, kind, workers, limits) {
            Ok((v6, _)) => {
                return Ok(vec![bound(kind, chosen, v4), bound(kind, second, v6)]);
            }
            Err(error) if no_such_family(&error) => return Ok(vec![bound(kind, chosen, v4)]),
            Err(_) if port == 0 && tries < PORT_TRIES => {}
            Err(error) => return Err(listen_error(kind, second, &error)),
        }
    }
}

fn bind_ip(
    address: SocketAddr,
    kind: ListenerKind,
    workers: usize,
    limits: &Limits,
) -> Result<Bound, Error> {
    let (sockets, chosen) = bind_sockets(address, kind, workers, limits)
        .map_err(|error| listen_error(kind, address, &error))?;
    Ok(bound(kind, chosen, sockets))
}

fn bound(kind: ListenerKind, address: SocketAddr, sockets: Vec<Socket>) -> Bound {
    Bound {
        url: format!("{}://{address}", scheme(kind)),
        kind,
        removed: Arc::default(),
        counts: Arc::default(),
        sockets,
        is_unix: false,
        is_single: false,
        file: None,
        others_file: None,
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

/// True if the machine has no IPv6.
fn no_such_family(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL | Errno::PROTONOSUPPORT)
    )
}

fn listen_error(kind: ListenerKind, address: SocketAddr, error: &io::Error) -> Error {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => "another program uses the address; port 0 picks a free one",
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has the address",
        io::ErrorKind::PermissionDenied => {
            return Error::Listen {
                address: format!("{}://{address}", scheme(kind)),
                reason: format!(
                    "ports below 1024 need the capability CAP_NET_BIND_SERVICE{}",
                    lacking()
                ),
            };
        }
        _ => {
            return Error::Listen {
                address: format!("{}://{address}", scheme(kind)),
                reason: error.to_string(),
            };
        }
    };
    Error::Listen {
        address: format!("{}://{address}", scheme(kind)),
        reason: reason.into(),
    }
}

/// Says why a right is missing where the run has given it up.
fn lacking() -> String {
    assumed().map_or_else(String::new, |user| {
        format!(", which a run that goes on as {user} (--user) has given up: start it anew")
    })
}

/// Binds a socket for each worker, all to one address. The kernel spreads
/// connections and datagrams among them by the peer's address.
fn bind_sockets(
    address: SocketAddr,
    kind: ListenerKind,
    workers: usize,
    limits: &Limits,
) -> io::Result<(Vec<Socket>, SocketAddr)> {
    // With SO_REUSEPORT alone, another server of the same user would share the
    // port unnoticed. A first socket without it finds that out.
    let probe = socket(address, kind, false)?;
    probe.bind(&address.into())?;
    let chosen = probe.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = Vec::with_capacity(workers);
    if workers == 1 {
        listen(&probe, kind, limits)?;
        sockets.push(probe);
        return Ok((sockets, chosen));
    }
    if kind != ListenerKind::Udp {
        // With SO_REUSEADDR, only listening shows that another server listens.
        probe.listen(1)?;
    }
    drop(probe);
    for _ in 0..workers {
        let socket = socket(address, kind, true)?;
        socket.bind(&chosen.into())?;
        listen(&socket, kind, limits)?;
        sockets.push(socket);
    }
    Ok((sockets, chosen))
}

fn socket(address: SocketAddr, kind: ListenerKind, shared: bool) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = match kind {
        ListenerKind::Udp => datagram_socket(domain)?,
        _ => {
            let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
            // The port is free again at once after a restart.
            socket.set_reuse_address(true)?;
            // Accepted sockets inherit the option, which saves a call for each.
            socket.set_tcp_nodelay(true)?;
            socket
        }
    };
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Creates a datagram socket. Datagrams wait in its buffer while guests run, and
/// a burst beyond it is lost.
pub(crate) fn datagram_socket(domain: Domain) -> io::Result<Socket> {
    /// Bytes. Linux grants at most `net.core.rmem_max`, by default twice what a
    /// socket has otherwise (socket(7)).
    const BUFFER: usize = 4 << 20;
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(BUFFER)?;
    Ok(socket)
}

fn listen(socket: &Socket, kind: ListenerKind, limits: &Limits) -> io::Result<()> {
    if kind == ListenerKind::Udp {
        return Ok(());
    }
    tcp::set_listening(socket, &limits.tcp)?;
    socket.listen(limits.backlog)
}

fn bind_unix(
    path: &Path,
    kind: ListenerKind,
    limits: &Limits,
    rights: &UnixRights,
) -> Result<Bound, Error> {
    let has_file = abstract_name(path).is_none();
    let bind = || {
        if has_file {
            unix::remove_stale(path)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&unix::address(path)?)?;
        let file = has_file.then(|| SocketFile::of(path)).flatten();
        if let Some(file) = &file {
            // Nobody can connect before the socket listens.
            file.set_rights(rights)?;
        }
        socket.listen(limits.backlog)?;
        socket.set_nonblocking(true)?;
        Ok((socket, file))
    };
    let error = |error: io::Error| Error::Listen {
        address: format!("unix:{}", path.display()),
        reason: match error.kind() {
            io::ErrorKind::AddrInUse => "another program listens there".into(),
            _ => format!("{error}{}", AsUser(&error)),
        },
    };
    let (socket, file) = bind().map_err(error)?;
    Ok(Bound {
        url: format!("{}unix:{}", unix_scheme(kind), path.display()),
        kind,
        removed: Arc::default(),
        counts: Arc::default(),
        sockets: vec![socket],
        is_unix: true,
        is_single: true,
        file,
        others_file: None,
    })
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn datagram_sockets_have_the_largest_buffer_that_the_system_grants() {
        let plain = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        let socket = datagram_socket(Domain::IPV4).expect("a socket");
        let size = |socket: &Socket| socket.recv_buffer_size().expect("its size");
        assert!(size(&socket) >= size(&plain));
        let most = fs::read_to_string("/proc/sys/net/core/rmem_max");
        if let Some(most) = most.ok().and_then(|it| it.trim().parse::<usize>().ok()) {
            // The kernel doubles what is asked for.
            assert_eq!(size(&socket), 2 * most.min(4 << 20));
        }
    }
}
