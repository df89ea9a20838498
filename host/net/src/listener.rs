//! Listeners. They are bound before the first worker runs, so that a bad
//! address is reported at start. Their `accept` cannot fail.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, mpsc};

use netwasm_base::address::Address;
use netwasm_base::config::{Limits, ListenAddress, ListenerConfig, ListenerKind};
use netwasm_base::error::Error;

use crate::io::Watched;
use crate::places::Places;

/// Pause of an acceptor when the system has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

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
    share: Share,
}

/// Workers that take connections in turn; empty if the accepting worker keeps
/// them.
pub(crate) type Share = Vec<mpsc::UnboundedSender<Accepted>>;

/// The sockets of one listener of the command line.
#[derive(Debug)]
pub struct Bound {
    /// URLs for the `listening` lines.
    pub urls: Vec<String>,
    /// One socket for each worker; for a Unix socket, one in all.
    pub sockets: Vec<Listener>,
    /// File of a Unix socket, removed when this is dropped.
    pub file: Option<SocketFile>,
}

/// The file of a Unix domain socket. Dropping it removes the file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that only the process's own file is removed.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path)
        .ok()
        .map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Binds a listener, with one socket for each of `workers`.
///
/// # Errors
/// Fails with the address, what happened and what to do.
pub fn bind(
    config: &ListenerConfig,
    workers: usize,
    limits: &Limits,
    handed: &[mpsc::UnboundedSender<Accepted>],
) -> Result<Vec<Bound>, Error> {
    let kind = config.kind;
    match &config.address {
        ListenAddress::Unix(path) => Ok(vec![bind_unix(path, kind, limits, handed)?]),
        ListenAddress::Socket(address) => Ok(vec![bind_ip(*address, kind, workers, limits)?]),
        ListenAddress::Localhost(port) => bind_localhost(*port, kind, workers, limits),
    }
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

fn bound(kind: ListenerKind, address: SocketAddr, sockets: Vec<Listener>) -> Bound {
    Bound {
        urls: vec![format!("{}://{address}", scheme(kind))],
        sockets,
        file: None,
    }
}

fn scheme(kind: ListenerKind) -> &'static str {
    match kind {
        ListenerKind::Tcp => "tcp",
        ListenerKind::Tls => "tls",
        ListenerKind::Udp => "udp",
        ListenerKind::Http => "http",
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
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE"
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

/// Binds a socket for each worker, all to one address. The kernel spreads
/// connections and datagrams among them by the peer's address.
fn bind_sockets(
    address: SocketAddr,
    kind: ListenerKind,
    workers: usize,
    limits: &Limits,
) -> io::Result<(Vec<Listener>, SocketAddr)> {
    // With SO_REUSEPORT alone, another server of the same user would share the
    // port unnoticed. A first socket without it finds that out.
    let probe = socket(address, kind, false)?;
    probe.bind(&address.into())?;
    let chosen = probe.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = Vec::with_capacity(workers);
    if workers == 1 {
        sockets.push(listen(probe, kind, limits)?);
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
        sockets.push(listen(socket, kind, limits)?);
    }
    Ok((sockets, chosen))
}

fn socket(address: SocketAddr, kind: ListenerKind, shared: bool) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = match kind {
        ListenerKind::Udp => Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?,
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

fn listen(socket: Socket, kind: ListenerKind, limits: &Limits) -> io::Result<Listener> {
    Ok(match kind {
        ListenerKind::Udp => Listener::Datagram(socket.into()),
        _ => {
            if let Some(silence) = limits.tcp_keepalive {
                // Accepted sockets inherit this option too.
                socket.set_tcp_keepalive(&keepalive(silence))?;
            }
            socket.listen(limits.backlog)?;
            Listener::Stream(StreamListener {
                socket: socket.into(),
                kind,
                share: Vec::new(),
            })
        }
    })
}

/// Returns the keep-alive settings of a TCP connection. If the peer of a silent
/// connection is gone, the kernel ends it within twice the time.
pub(crate) fn keepalive(silence: Duration) -> TcpKeepalive {
    const PROBES: u32 = 4;
    TcpKeepalive::new()
        .with_time(silence.max(Duration::from_secs(1)))
        .with_interval((silence / PROBES).max(Duration::from_secs(1)))
        .with_retries(PROBES)
}

fn bind_unix(
    path: &Path,
    kind: ListenerKind,
    limits: &Limits,
    handed: &[mpsc::UnboundedSender<Accepted>],
) -> Result<Bound, Error> {
    let error = |error: &io::Error| Error::Listen {
        address: format!("unix:{}", path.display()),
        reason: match error.kind() {
            io::ErrorKind::AddrInUse => "another program listens there".into(),
            _ => error.to_string(),
        },
    };
    remove_stale(path).map_err(|problem| error(&problem))?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)
        .and_then(|socket| {
            socket.bind(&SockAddr::unix(path)?)?;
            socket.listen(limits.backlog)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .map_err(|problem| error(&problem))?;
    let file = identity(path).map(|identity| SocketFile {
        path: path.to_owned(),
        identity,
    });
    let share = if handed.len() > 1 {
        handed.to_vec()
    } else {
        Vec::new()
    };
    let scheme = match kind {
        ListenerKind::Tcp | ListenerKind::Udp => "",
        ListenerKind::Tls => "tls+",
        ListenerKind::Http => "http+",
        ListenerKind::Https => "https+",
    };
    Ok(Bound {
        urls: vec![format!("{scheme}unix:{}", path.display())],
        sockets: vec![Listener::Stream(StreamListener {
            socket: socket.into(),
            kind,
            share,
        })],
        file,
    })
}

/// Removes a socket file that a server left behind.
///
/// # Errors
/// `AddrInUse`: a server answers, or the socket cannot be probed. Other errors:
/// the file is no socket, or it cannot be removed.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other(
            "there is a file of that name, and it is no socket",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

impl StreamListener {
    /// Watches the socket from the runtime of this thread, and splits the
    /// listener into its acceptor, its kind, and the workers that take
    /// connections in turn.
    ///
    /// # Errors
    /// Fails if the runtime cannot watch the socket.
    pub(crate) fn into_parts(self) -> io::Result<(Acceptor, ListenerKind, Share)> {
        let socket = Watched::new(self.socket, Interest::READABLE)?;
        Ok((Acceptor::new(Rc::new(socket)), self.kind, self.share))
    }
}

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
    permit: Option<OwnedSemaphorePermit>,
    permitting: Option<Waiting<Result<OwnedSemaphorePermit, AcquireError>>>,
    /// Pause after an error of the system.
    pause: Option<Waiting<()>>,
    reported: bool,
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
        }
    }

    /// Waits until there is, or may be, a connection.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_read_ready(cx).map(|_| ())
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
    ) -> Poll<Option<(OwnedFd, Address, OwnedSemaphorePermit)>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let Ok(mut ready) = ready!(self.socket.poll_read_ready(cx)) else {
                return Poll::Ready(None);
            };
            if self.permit.is_none() && self.permitting.is_none() {
                self.permit = places.free();
                // No connection is closed to make room for a client that is not
                // there.
                if self.permit.is_none() && !has_come(&self.socket) {
                    ready.clear();
                    continue;
                }
            }
            let permit = match self.permit.take() {
                Some(permit) => permit,
                None => {
                    let take = || Box::pin(Arc::clone(places).take()) as Waiting<_>;
                    let permitting = self.permitting.get_or_insert_with(take);
                    let taken = ready!(permitting.as_mut().poll(cx));
                    self.permitting = None;
                    match taken {
                        Ok(permit) => permit,
                        // Places are not closed.
                        Err(_) => return Poll::Ready(None),
                    }
                }
            };
            let accepted =
                ready.try_io(|socket| accept_one(socket.as_fd()).map_err(io::Error::from));
            let error = match accepted {
                // The place is released: others may have more use for it
                // meanwhile.
                Err(_would_block) => continue,
                Ok(Ok((socket, peer))) => return Poll::Ready(Some((socket, peer, permit))),
                Ok(Err(error)) => error,
            };
            if Errno::from_io_error(&error).is_some_and(is_about_one_client) {
                self.permit = Some(permit);
            } else {
                self.fail(&error);
            }
        }
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
    let mut watched = [PollFd::new(socket, PollFlags::IN)];
    // On error, accept(2) tells.
    !matches!(
        rustix::event::poll(&mut watched, Some(&Timespec::default())),
        Ok(0)
    )
}

/// An accepted connection, for this worker or another.
#[derive(Debug)]
pub struct Accepted {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Address,
    /// Kind of the listener.
    pub(crate) kind: ListenerKind,
    /// Counts the connection against `--max-connections`.
    pub(crate) permit: OwnedSemaphorePermit,
}

fn accept_one(socket: impl AsFd) -> Result<(OwnedFd, Address), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (accepted, peer) = rustix::net::acceptfrom_with(socket, flags)?;
    Ok((accepted, peer.map_or(Address::Unix(None), Address::from)))
}

/// True if an error concerns the new connection, not the listener (accept(2)).
fn is_about_one_client(errno: Errno) -> bool {
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
