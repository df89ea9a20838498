//! The state of a `tcp-socket`, and its options.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use send_wrapper::SendWrapper;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use wasmtime_wasi::p3::bindings::sockets::types::{
    Duration as Nanoseconds, ErrorCode, IpAddressFamily, IpSocketAddress,
};

use netwasm_base::address::Address;
use netwasm_net::io::Watched;
use netwasm_net::stream::Stream;
use netwasm_net::worker::Worker;

/// Length of the backlog, unless the guest sets another.
const BACKLOG: i32 = 128;

pub(in crate::concurrent) type SocketResult<T> = Result<T, ErrorCode>;

/// Links methods of a socket that do not wait.
macro_rules! link_socket_methods {
    ($linker:ident, $resource:literal, $of:ty: $(
        $name:literal => |$socket:ident $(, $argument:ident: $type:ty)*| $body:expr;
    )*) => {$(
        $linker.func_wrap(
            concat!("[method]", $resource, ".", $name),
            |mut store: $crate::concurrent::state::Store<'_>,
             (socket, $($argument,)*): (wasmtime::component::Resource<$of>, $($type,)*)| {
                let $socket: &mut $of = store.data_mut().table.get_mut(&socket)?;
                Ok(($body,))
            },
        )?;
    )*};
}
pub(in crate::concurrent) use link_socket_methods;

/// The WIT resource `tcp-socket`.
pub(super) struct TcpSocket {
    pub(super) family: IpAddressFamily,
    pub(super) backlog: i32,
    pub(super) state: TcpState,
}

pub(super) enum TcpState {
    Unbound(Socket),
    Bound(Socket),
    Connecting,
    Listening(SendWrapper<Rc<Watched>>),
    Connected(SendWrapper<Rc<Stream>>),
    /// Connecting failed.
    Closed,
}

impl TcpSocket {
    pub(super) fn create(worker: &Worker, family: IpAddressFamily) -> io::Result<Self> {
        let socket = open(worker, family, Type::STREAM)?;
        // Small messages are sent at once. Accepted sockets inherit this.
        socket.set_tcp_nodelay(true)?;
        Ok(Self {
            family,
            backlog: BACKLOG,
            state: TcpState::Unbound(socket),
        })
    }

    pub(super) fn connected(stream: Rc<Stream>, family: IpAddressFamily) -> Self {
        Self {
            family,
            backlog: BACKLOG,
            state: TcpState::Connected(SendWrapper::new(stream)),
        }
    }

    pub(super) fn bind(&mut self, address: SocketAddr) -> SocketResult<()> {
        let TcpState::Unbound(socket) = &self.state else {
            return Err(ErrorCode::InvalidState);
        };
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        let TcpState::Unbound(socket) = std::mem::replace(&mut self.state, TcpState::Closed) else {
            return Err(ErrorCode::InvalidState);
        };
        self.state = TcpState::Bound(socket);
        Ok(())
    }

    pub(super) fn listen(&mut self) -> SocketResult<Rc<Watched>> {
        let (TcpState::Unbound(socket) | TcpState::Bound(socket)) = &self.state else {
            return Err(ErrorCode::InvalidState);
        };
        socket.listen(self.backlog)?;
        let (TcpState::Unbound(socket) | TcpState::Bound(socket)) =
            std::mem::replace(&mut self.state, TcpState::Closed)
        else {
            return Err(ErrorCode::InvalidState);
        };
        let listener = Rc::new(Watched::new(socket.into(), Interest::READABLE)?);
        self.state = TcpState::Listening(SendWrapper::new(Rc::clone(&listener)));
        Ok(listener)
    }

    /// Runs `work` on the socket itself.
    pub(super) fn with<R>(
        &self,
        work: impl FnOnce(SockRef<'_>) -> io::Result<R>,
    ) -> SocketResult<R> {
        let result = match &self.state {
            TcpState::Unbound(socket) | TcpState::Bound(socket) => work(SockRef::from(socket)),
            TcpState::Listening(listener) => work(SockRef::from(listener.fd())),
            TcpState::Connected(stream) => match &stream.transport().core.borrow().socket {
                Some(socket) => work(SockRef::from(socket.fd())),
                None => return Err(ErrorCode::InvalidState),
            },
            TcpState::Connecting | TcpState::Closed => return Err(ErrorCode::InvalidState),
        };
        Ok(result?)
    }

    pub(super) fn local_address(&self) -> SocketResult<IpSocketAddress> {
        if matches!(self.state, TcpState::Unbound(_)) {
            return Err(ErrorCode::InvalidState);
        }
        let address = self.with(|socket| socket.local_addr())?;
        address
            .as_socket()
            .map(Into::into)
            .ok_or(ErrorCode::InvalidState)
    }

    pub(super) fn remote_address(&self) -> SocketResult<IpSocketAddress> {
        let TcpState::Connected(stream) = &self.state else {
            return Err(ErrorCode::InvalidState);
        };
        match stream.transport().peer() {
            Address::Ip(address) => Ok((*address).into()),
            Address::Unix(_) => Err(ErrorCode::InvalidState),
        }
    }

    pub(super) fn set_backlog(&mut self, size: u64) -> SocketResult<()> {
        let backlog = match i32::try_from(size) {
            Ok(0) => return Err(ErrorCode::InvalidArgument),
            Ok(size) => size,
            Err(_) => i32::MAX,
        };
        match &self.state {
            TcpState::Unbound(_) | TcpState::Bound(_) => {}
            // Calling listen(2) again changes the backlog.
            TcpState::Listening(_) => self.with(|socket| socket.listen(backlog))?,
            _ => return Err(ErrorCode::InvalidState),
        }
        self.backlog = backlog;
        Ok(())
    }

    pub(super) fn set_keepalive(
        &self,
        value: Nanoseconds,
        set: impl FnOnce(TcpKeepalive, Duration) -> TcpKeepalive,
    ) -> SocketResult<()> {
        if value == 0 {
            return Err(ErrorCode::InvalidArgument);
        }
        // Linux takes whole seconds, up to `i16::MAX`.
        let seconds = value.div_ceil(1_000_000_000).clamp(1, 32_767);
        let keepalive = set(TcpKeepalive::new(), Duration::from_secs(seconds));
        self.with(|socket| socket.set_tcp_keepalive(&keepalive))
    }

    pub(super) fn hop_limit(&self) -> SocketResult<u8> {
        self.with(|socket| hop_limit(&socket, self.family))
    }

    pub(super) fn set_hop_limit(&self, limit: u8) -> SocketResult<()> {
        self.with(|socket| set_hop_limit(&socket, self.family, limit))
    }
}

impl Drop for TcpSocket {
    fn drop(&mut self) {
        if let TcpState::Connected(stream) = &self.state {
            stream.release();
        }
    }
}

/// Opens a non-blocking socket, of IPv6 alone or of IPv4. If no descriptor is left,
/// a kept connection that nobody uses gives way.
///
/// # Errors
/// Fails as socket(2) does.
pub(in crate::concurrent) fn open(
    worker: &Worker,
    family: IpAddressFamily,
    kind: Type,
) -> io::Result<Socket> {
    let domain = match family {
        IpAddressFamily::Ipv4 => Domain::IPV4,
        IpAddressFamily::Ipv6 => Domain::IPV6,
    };
    let open = || Socket::new(domain, kind.nonblocking(), None);
    let none_left = |error: &io::Error| {
        matches!(
            Errno::from_io_error(error),
            Some(Errno::MFILE | Errno::NFILE)
        )
    };
    let socket = match open() {
        Err(error) if none_left(&error) && worker.kept.close_oldest() => open(),
        opened => opened,
    }?;
    if family == IpAddressFamily::Ipv6 {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Returns the hop limit of a socket, or the time to live of IPv4.
pub(in crate::concurrent) fn hop_limit(
    socket: &SockRef<'_>,
    family: IpAddressFamily,
) -> io::Result<u8> {
    let limit = match family {
        IpAddressFamily::Ipv4 => socket.ttl_v4(),
        IpAddressFamily::Ipv6 => socket.unicast_hops_v6(),
    }?;
    u8::try_from(limit).map_err(|_| io::ErrorKind::Unsupported.into())
}

/// Sets what [`hop_limit`] returns.
///
/// # Errors
/// Fails with `EINVAL` if it is 0.
pub(in crate::concurrent) fn set_hop_limit(
    socket: &SockRef<'_>,
    family: IpAddressFamily,
    limit: u8,
) -> io::Result<()> {
    match family {
        _ if limit == 0 => Err(io::ErrorKind::InvalidInput.into()),
        IpAddressFamily::Ipv4 => socket.set_ttl_v4(limit.into()),
        IpAddressFamily::Ipv6 => socket.set_unicast_hops_v6(limit.into()),
    }
}

/// Halves a buffer size, because Linux doubles the sizes that it is given:
/// socket(7).
pub(in crate::concurrent) fn halved(size: usize) -> u64 {
    size as u64 / 2
}

/// Returns the size of a buffer that a guest asks for.
///
/// # Errors
/// Fails with `EINVAL` if it is 0.
pub(in crate::concurrent) fn buffer(size: u64) -> io::Result<usize> {
    match size {
        0 => Err(io::ErrorKind::InvalidInput.into()),
        size => Ok(usize::try_from(size).map_or(i32::MAX as usize, |it| it.min(i32::MAX as usize))),
    }
}

/// True if an address is of a family of sockets.
pub(in crate::concurrent) fn is_of_family(address: SocketAddr, family: IpAddressFamily) -> bool {
    match (address.ip(), family) {
        (IpAddr::V4(_), IpAddressFamily::Ipv4) => true,
        // An IPv4 address in the form of IPv6 would evade the policy.
        (IpAddr::V6(ip), IpAddressFamily::Ipv6) => {
            ip.to_ipv4().is_none() || ip.is_loopback() || ip.is_unspecified()
        }
        _ => false,
    }
}

/// True if sockets of a family can use an address of this kind at all.
pub(super) fn is_valid(address: SocketAddr, family: IpAddressFamily) -> bool {
    let unicast = match address.ip() {
        IpAddr::V4(ip) => !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_multicast(),
    };
    is_of_family(address, family) && unicast
}
