//! Binding: a listener's sockets, or those that the service manager has opened
//! for it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use netwasm_base::config::{Limits, ListenAddress, ListenerConfig, ListenerKind};
use netwasm_base::error::Error;
use netwasm_base::identity::{AsUser, assumed};
use netwasm_base::unix::{UnixRights, abstract_name, written};

use super::{Bound, scheme, unix_scheme};
use crate::passed;
use crate::tcp;
use crate::unix::{self, SocketFile};

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
                ListenerKind::Udp => "it is not a datagram socket: write ListenDatagram= there",
                _ => "it is not a stream socket: write ListenStream= there",
            }));
        }
        if kind != ListenerKind::Udp {
            // It listens already. This sets the length of the backlog.
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
        format!(", which a run that goes on as {user} (--user) has given up: restart it")
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
