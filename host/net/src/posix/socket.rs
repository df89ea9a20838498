//! One socket, and the system calls on it.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use netwasm_base::address::Address;
use netwasm_base::counters::Counted;
use netwasm_base::error::ConnectionError;
use netwasm_base::unix::abstract_name;

use crate::accept::is_about_one_client;
use crate::clients::ClientPlace;
use crate::env::Env;
use crate::listener::datagram_socket;
use crate::permits::Permit;
use crate::tcp::{self, keepalive};
use crate::unix::{SocketFile, plain_address, remove_stale};

/// Clients that one call turns away, before it lets others have their turn.
const MOST_TURNED_AWAY: usize = 64;

/// The family of a socket's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SocketFamily {
    /// `AF_INET`.
    Inet,
    /// `AF_INET6`.
    Inet6,
    /// `AF_UNIX`.
    Unix,
}

/// The type of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SocketKind {
    /// `SOCK_STREAM`.
    Stream,
    /// `SOCK_DGRAM`.
    Datagram,
}

/// Side of a connection to end: shutdown(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `SHUT_RD`.
    Receiving,
    /// `SHUT_WR`.
    Sending,
    /// `SHUT_RDWR`.
    Both,
}

/// Reason why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PosixError {
    /// The system refuses.
    #[error("{0}")]
    System(Errno),
    /// A limit is reached, for which the text names the flag.
    #[error("{0}")]
    Limit(&'static str),
}

impl From<Errno> for PosixError {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl From<io::Error> for PosixError {
    fn from(error: io::Error) -> Self {
        Self::System(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

/// How far a socket's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SocketStage {
    /// There is none.
    Apart,
    /// connect(2) has begun, and nobody has asked how it went.
    Connecting,
    Connected,
}

/// A socket that never blocks. Dropping it closes it.
#[derive(Debug)]
pub struct PosixSocket {
    fd: OwnedFd,
    family: SocketFamily,
    kind: SocketKind,
    stage: Cell<SocketStage>,
    /// Place among the connections accepted, or permit for an outgoing one.
    permit: RefCell<Option<Permit>>,
    /// Place of an accepted connection among those of its client.
    client: RefCell<Option<ClientPlace>>,
    /// Counts the end of a connection.
    counted: RefCell<Option<Counted>>,
    /// File of a listener, removed with it.
    file: RefCell<Option<SocketFile>>,
    /// `SO_LINGER` in seconds; -1 is off. Closing would block for so long
    /// (socket(7)), so the kernel is told 0 alone, which resets the connection.
    linger: Cell<i32>,
    /// True if the guest has decided about keep-alive probes.
    keeps_alive: Cell<bool>,
}

impl PosixSocket {
    /// Opens a socket.
    ///
    /// # Errors
    /// - `PROTONOSUPPORT`: the family has no such kind.
    /// - Otherwise fails as socket(2) does.
    pub fn open(family: SocketFamily, kind: SocketKind) -> Result<Self, Errno> {
        let domain = match family {
            SocketFamily::Inet => Domain::IPV4,
            SocketFamily::Inet6 => Domain::IPV6,
            SocketFamily::Unix => Domain::UNIX,
        };
        let socket = match (family, kind) {
            (SocketFamily::Unix, SocketKind::Datagram) => return Err(Errno::PROTONOSUPPORT),
            (SocketFamily::Unix, SocketKind::Stream) => Socket::new(domain, Type::STREAM, None),
            (_, SocketKind::Stream) => Socket::new(domain, Type::STREAM, Some(Protocol::TCP)),
            (_, SocketKind::Datagram) => datagram_socket(domain),
        };
        let socket = socket
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(Self::new(socket.into(), family, kind))
    }

    /// Opens two stream sockets of `AF_UNIX` that are connected to each other.
    ///
    /// # Errors
    /// Fails as socketpair(2) does.
    pub fn pair() -> Result<(Self, Self), Errno> {
        let (one, other) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )?;
        let connected = |fd| {
            let socket = Self::new(fd, SocketFamily::Unix, SocketKind::Stream);
            socket.stage.set(SocketStage::Connected);
            socket
        };
        Ok((connected(one), connected(other)))
    }

    fn new(fd: OwnedFd, family: SocketFamily, kind: SocketKind) -> Self {
        Self {
            fd,
            family,
            kind,
            stage: Cell::new(SocketStage::Apart),
            permit: RefCell::default(),
            client: RefCell::default(),
            counted: RefCell::default(),
            file: RefCell::default(),
            linger: Cell::new(-1),
            keeps_alive: Cell::new(false),
        }
    }

    /// Returns the family of its addresses.
    pub fn family(&self) -> SocketFamily {
        self.family
    }

    /// Returns its type.
    pub fn kind(&self) -> SocketKind {
        self.kind
    }

    /// Gives the socket its local address.
    ///
    /// # Errors
    /// Fails as bind(2) does.
    pub fn bind(&self, local: &Address) -> Result<(), Errno> {
        if let Address::Unix(Some(path)) = local {
            return self.bind_unix(path);
        }
        rustix::net::bind(&self.fd, &socket_address(local)?)
    }

    /// Binds to a path, or to `@NAME`. A file that a server left behind is
    /// replaced, as asyncio replaces it.
    fn bind_unix(&self, path: &Path) -> Result<(), Errno> {
        if self.family != SocketFamily::Unix {
            return Err(Errno::INVAL);
        }
        let address = socket_address(&Address::Unix(Some(path.to_owned())))?;
        if matches!(self.local(), Ok(Address::Unix(Some(_)))) {
            return Err(Errno::INVAL);
        }
        if abstract_name(path).is_some() {
            return rustix::net::bind(&self.fd, &address);
        }
        // Whatever cannot be removed makes bind(2) fail.
        let _ = remove_stale(path);
        rustix::net::bind(&self.fd, &address)?;
        *self.file.borrow_mut() = SocketFile::of(path);
        Ok(())
    }

    /// Lets the socket accept connections.
    ///
    /// # Errors
    /// Fails as listen(2) does.
    pub fn listen(&self, env: &Env, backlog: u32) -> Result<(), Errno> {
        // Accepted sockets inherit the probes.
        self.probe(env);
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        rustix::net::listen(&self.fd, backlog)
    }

    /// Takes a connection that has been made, and counts it.
    ///
    /// # Errors
    /// - `AGAIN`: there is none.
    /// - `CONNABORTED`: its client has left.
    /// - `Limit`: `--max-connections` is reached.
    /// - Otherwise fails as accept(2) does.
    pub fn accept(&self, env: &Env) -> Result<(Self, Address), PosixError> {
        let Some(permit) = env.places.free() else {
            return Err(match self.has_come() {
                true => {
                    env.places.note_full();
                    PosixError::Limit("--max-connections is reached")
                }
                false => Errno::AGAIN.into(),
            });
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let mut turned_away = 0;
        let (fd, peer, client) = loop {
            let (fd, peer) = match rustix::net::acceptfrom_with(&self.fd, flags) {
                Err(Errno::INTR) => continue,
                Err(errno) if is_about_one_client(errno) => {
                    return Err(Errno::CONNABORTED.into());
                }
                result => result?,
            };
            let peer = peer.map_or(Address::Unix(None), Address::from);
            if let Ok(client) = env.admit(&fd, &peer) {
                break (fd, peer, client);
            }
            // The guest need not hear of them.
            turned_away += 1;
            if turned_away >= MOST_TURNED_AWAY {
                return Err(Errno::AGAIN.into());
            }
        };
        let accepted = Self::new(fd, self.family, self.kind);
        accepted.permit.replace(Some(permit));
        accepted.client.replace(client);
        // The kernel passes it on.
        accepted.linger.set(self.linger.get());
        accepted.stage.set(SocketStage::Connected);
        accepted.counted.replace(Some(Counted::new(&env.counters)));
        Ok((accepted, peer))
    }

    /// True if there is a connection to accept.
    pub fn has_come(&self) -> bool {
        let mut watched = [PollFd::new(&self.fd, PollFlags::IN)];
        // On error, accept(2) tells.
        !matches!(
            rustix::event::poll(&mut watched, Some(&Timespec::default())),
            Ok(0)
        )
    }

    /// Begins to connect. A connection counts against `--max-outgoing` from
    /// here on.
    ///
    /// # Errors
    /// - `INPROGRESS`: it has begun.
    /// - `Limit`: `--max-outgoing` is reached.
    /// - Otherwise fails as connect(2) does.
    pub fn connect(&self, env: &Env, to: &Address) -> Result<(), PosixError> {
        let address = socket_address(to)?;
        if self.kind == SocketKind::Datagram {
            return Ok(rustix::net::connect(&self.fd, &address)?);
        }
        if self.permit.borrow().is_none() {
            let permit = env.try_outgoing_permit().map_err(|error| match error {
                ConnectionError::LimitExceeded(text) => PosixError::Limit(text),
                _ => Errno::MFILE.into(),
            })?;
            self.permit.replace(Some(permit));
        }
        self.probe(env);
        match rustix::net::connect(&self.fd, &address) {
            Ok(()) => {
                self.connected(env);
                Ok(())
            }
            Err(Errno::INPROGRESS | Errno::INTR) => {
                self.stage.set(SocketStage::Connecting);
                Err(Errno::INPROGRESS.into())
            }
            Err(Errno::ALREADY) => Err(Errno::ALREADY.into()),
            Err(Errno::ISCONN) if self.stage.get() == SocketStage::Connecting => {
                self.connected(env);
                Err(Errno::ISCONN.into())
            }
            Err(errno) => {
                self.not_connected();
                Err(errno.into())
            }
        }
    }

    /// Sets what finds out that a peer is gone (`--tcp-keepalive`,
    /// `--tcp-user-timeout`), unless the guest has decided about it.
    fn probe(&self, env: &Env) {
        if self.family == SocketFamily::Unix {
            return;
        }
        let (socket, options) = (SockRef::from(&self.fd), &env.limits.tcp);
        // On error the socket works, too.
        if let Some(silence) = options.keepalive
            && !self.keeps_alive.replace(true)
        {
            let _ = socket.set_tcp_keepalive(&keepalive(silence));
        }
        if let Some(time) = options.user_timeout
            && matches!(socket.tcp_user_timeout(), Ok(None))
        {
            let _ = socket.set_tcp_user_timeout(Some(time.min(tcp::MOST)));
        }
    }

    pub(super) fn note_keep_alive(&self) {
        self.keeps_alive.set(true);
    }

    /// Counts the connection if it moved bytes: it was made then.
    pub(super) fn moved(&self, env: &Env) {
        if self.stage.get() == SocketStage::Connecting {
            self.connected(env);
        }
    }

    /// Counts the connection, once.
    fn connected(&self, env: &Env) {
        if self.stage.replace(SocketStage::Connected) != SocketStage::Connected {
            env.counters.connections_made.add();
            self.counted.replace(Some(Counted::new(&env.counters)));
        }
    }

    /// Gives up what a connection has that was not made.
    fn not_connected(&self) {
        if self.stage.get() != SocketStage::Connected {
            self.stage.set(SocketStage::Apart);
            self.permit.replace(None);
            self.client.replace(None);
        }
    }

    /// Takes the failure that the socket keeps: how connecting ended, among
    /// others.
    ///
    /// # Errors
    /// Fails as getsockopt(2) does.
    pub fn take_error(&self, env: &Env) -> Result<Option<Errno>, Errno> {
        let kept = sockopt::socket_error(&self.fd)?.err();
        if self.stage.get() == SocketStage::Connecting {
            match kept {
                Some(_) => self.not_connected(),
                None if rustix::net::getpeername(&self.fd).is_ok() => self.connected(env),
                None => {}
            }
        }
        Ok(kept)
    }

    /// Ends a direction of a connection.
    ///
    /// # Errors
    /// Fails as shutdown(2) does.
    pub fn shutdown(&self, direction: Direction) -> Result<(), Errno> {
        let how = match direction {
            Direction::Receiving => Shutdown::Read,
            Direction::Sending => Shutdown::Write,
            Direction::Both => Shutdown::Both,
        };
        rustix::net::shutdown(&self.fd, how)
    }

    /// Returns the device and the inode of the file that the socket is bound to.
    pub fn file_identity(&self) -> Option<(u64, u64)> {
        self.file.borrow().as_ref().map(SocketFile::identity)
    }

    /// Connects to a path, if it still leads to a file that [`file_identity`]
    /// has returned.
    ///
    /// [`file_identity`]: Self::file_identity
    ///
    /// # Errors
    /// - `NOENT`: it leads elsewhere.
    /// - Otherwise fails as [`Self::connect`] does.
    pub fn connect_file(
        &self,
        env: &Env,
        path: &Path,
        identity: (u64, u64),
    ) -> Result<(), PosixError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        if (stat.st_dev, stat.st_ino) != identity {
            return Err(Errno::NOENT.into());
        }
        // The very file, whatever the path leads to by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        self.connect(env, &Address::Unix(Some(path.into())))
    }

    /// Returns the local address.
    ///
    /// # Errors
    /// Fails as getsockname(2) does.
    pub fn local(&self) -> Result<Address, Errno> {
        rustix::net::getsockname(&self.fd).map(Address::from)
    }

    /// Returns the peer's address.
    ///
    /// # Errors
    /// Fails as getpeername(2) does.
    pub fn peer(&self) -> Result<Address, Errno> {
        let peer = rustix::net::getpeername(&self.fd)?;
        Ok(peer.map_or(Address::Unix(None), Address::from))
    }

    pub(super) fn linger(&self) -> i32 {
        self.linger.get()
    }

    /// Keeps what a program wants of `SO_LINGER`, and sets it where closing does
    /// not block for it.
    pub(super) fn set_linger(&self, seconds: i32) -> Result<(), Errno> {
        let resets = (seconds == 0).then_some(Duration::ZERO);
        sockopt::set_socket_linger(&self.fd, resets)?;
        self.linger.set(seconds.max(-1));
        Ok(())
    }

    /// Resets the connection when it is closed, so that what was sent does not
    /// look whole to its peer.
    pub fn abort(&self) {
        if self.family != SocketFamily::Unix && self.kind == SocketKind::Stream {
            // It fails only on what is no connection.
            let _ = self.set_linger(0);
        }
    }
}

impl AsFd for PosixSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(super) fn socket_address(address: &Address) -> Result<rustix::net::SocketAddrAny, Errno> {
    match address {
        Address::Ip(address) => Ok((*address).into()),
        Address::Unix(None) => Err(Errno::INVAL),
        Address::Unix(Some(path)) if path.as_os_str().is_empty() => Err(Errno::INVAL),
        Address::Unix(Some(path)) => plain_address(path),
    }
}
