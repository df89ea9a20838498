//! Listeners. They are bound before the first worker runs, so that a bad
//! address is reported at start.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::sync::mpsc;

use netwasm_base::config::{Limits, ListenAddress, ListenerConfig, ListenerKind};
use netwasm_base::error::Error;

use crate::accept::{Accepted, Acceptor};
use crate::io::Watched;

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

impl SocketFile {
    /// Returns the device and the inode of the file.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Returns the file that a socket was just bound to.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        identity(path).map(|identity| Self {
            path: path.to_owned(),
            identity,
        })
    }
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
    let file = SocketFile::of(path);
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
pub(crate) fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other(
            "there is a file of that name, and it is no socket",
        ));
    }
    // A server whose backlog is full would keep a call that blocks.
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match probe.connect(&SockAddr::unix(path)?) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagram_sockets_have_the_largest_buffer_that_the_system_grants() {
        let plain = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        let socket = datagram_socket(Domain::IPV4).expect("a socket");
        let size = |socket: &Socket| socket.recv_buffer_size().expect("its size");
        assert!(size(&socket) >= size(&plain));
        let most = std::fs::read_to_string("/proc/sys/net/core/rmem_max");
        if let Some(most) = most.ok().and_then(|it| it.trim().parse::<usize>().ok()) {
            // The kernel doubles what is asked for.
            assert_eq!(size(&socket), 2 * most.min(4 << 20));
        }
    }
}
