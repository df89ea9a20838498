//! UDP sockets of `wasi:sockets@0.3`, in place of wasmtime-wasi's. A datagram that
//! has arrived is taken at once, and each socket has its own peers: those that
//! it may answer, as it has heard them.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use send_wrapper::SendWrapper;
use socket2::{SockRef, Type};
use tokio::io::Interest;
use wasmtime::component::{Accessor, Linker, LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::p3::bindings::sockets::types::{ErrorCode, IpAddressFamily, IpSocketAddress};

use netwasm_base::address::Address;
use netwasm_net::io::Watched;
use netwasm_net::worker::Worker;

use crate::concurrent::permissions::{Peers, Permissions};
use crate::concurrent::state::{AsyncState, Store, drop_handle};
use crate::concurrent::tcp::socket::{
    SocketResult, buffer, halved, hop_limit, is_of_family, link_socket_methods, open, set_hop_limit,
};

/// Room for the longest datagram, in bytes.
const LONGEST: usize = u16::MAX as usize;

/// The WIT resource `udp-socket`.
struct UdpSocket(SendWrapper<Rc<Udp>>);

impl Deref for UdpSocket {
    type Target = Udp;

    fn deref(&self) -> &Udp {
        &self.0
    }
}

/// A socket and its peers.
struct Udp {
    family: IpAddressFamily,
    socket: Watched,
    /// True if the socket takes datagrams from anybody; `None` until it is bound.
    open: RefCell<Option<bool>>,
    /// The peer that the socket is connected to.
    peer: RefCell<Option<SocketAddr>>,
    /// Peers that the socket may answer.
    heard: RefCell<Peers>,
}

type Handle = Resource<UdpSocket>;

/// Replaces `udp-socket` in the linker.
///
/// # Errors
/// Fails if the linker does not allow shadowing.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    add_udp_socket(&mut linker.instance("wasi:sockets/types@0.3.0")?)
}

fn add_udp_socket(l: &mut LinkerInstance<'_, AsyncState>) -> wasmtime::Result<()> {
    l.resource(
        "udp-socket",
        ResourceType::host::<UdpSocket>(),
        drop_handle::<UdpSocket>,
    )?;
    l.func_wrap(
        "[static]udp-socket.create",
        |mut store: Store<'_>, (family,): (IpAddressFamily,)| {
            let state = store.data_mut();
            let created = match Udp::create(&state.local.worker, family) {
                Ok(socket) => Ok(state
                    .table
                    .push(UdpSocket(SendWrapper::new(Rc::new(socket))))?),
                Err(error) => Err(ErrorCode::from(error)),
            };
            Ok((created,))
        },
    )?;
    l.func_wrap(
        "[method]udp-socket.bind",
        |mut store: Store<'_>, (socket, address): (Handle, IpSocketAddress)| {
            let (socket, permissions) = parts(store.data_mut(), &socket)?;
            Ok((socket.bind(&permissions, address.into()),))
        },
    )?;
    l.func_wrap(
        "[method]udp-socket.connect",
        |mut store: Store<'_>, (socket, address): (Handle, IpSocketAddress)| {
            let (socket, permissions) = parts(store.data_mut(), &socket)?;
            Ok((socket.connect(&permissions, address.into()),))
        },
    )?;
    type Datagram = (Handle, Vec<u8>, Option<IpSocketAddress>);
    l.func_wrap_concurrent(
        "[method]udp-socket.send",
        |accessor: &Accessor<AsyncState>, (socket, data, to): Datagram| {
            let parts = accessor.with(|mut store| parts(store.data_mut(), &socket));
            Box::pin(SendWrapper::new(async move {
                let (socket, permissions) = parts?;
                let to = to.map(SocketAddr::from);
                Ok((socket.send(&permissions, &data, to).await,))
            }))
        },
    )?;
    l.func_wrap_concurrent(
        "[method]udp-socket.receive",
        |accessor: &Accessor<AsyncState>, (socket,): (Handle,)| {
            let parts = accessor.with(|mut store| {
                let state = store.data_mut();
                let parts = parts(state, &socket);
                parts.map(|parts| (parts, SendWrapper::new(Rc::clone(&state.local))))
            });
            Box::pin(SendWrapper::new(async move {
                let ((socket, permissions), local) = parts?;
                let received = socket.receive(&permissions).await;
                if received.is_ok() {
                    local.env.net.counters.datagrams_received.add();
                }
                let received = received.map(|(data, from)| (data, IpSocketAddress::from(from)));
                Ok((received,))
            }))
        },
    )?;
    link_socket_methods!(l, "udp-socket", UdpSocket:
        "disconnect" => |socket| socket.disconnect();
        "get-local-address" => |socket| socket.local().map(IpSocketAddress::from);
        "get-remote-address" => |socket| {
            let peer = *socket.peer.borrow();
            peer.map(IpSocketAddress::from).ok_or(ErrorCode::InvalidState)
        };
        "get-address-family" => |socket| socket.family;
        "get-unicast-hop-limit" => |socket| socket.with(|it| hop_limit(it, socket.family));
        "set-unicast-hop-limit" => |socket, limit: u8|
            socket.with(|it| set_hop_limit(it, socket.family, limit));
        "get-receive-buffer-size" => |socket| socket.with(|it| it.recv_buffer_size()).map(halved);
        "set-receive-buffer-size" => |socket, size: u64|
            socket.with(|it| it.set_recv_buffer_size(buffer(size)?));
        "get-send-buffer-size" => |socket| socket.with(|it| it.send_buffer_size()).map(halved);
        "set-send-buffer-size" => |socket, size: u64|
            socket.with(|it| it.set_send_buffer_size(buffer(size)?));
    );
    Ok(())
}

type Parts = (SendWrapper<Rc<Udp>>, Arc<Permissions>);

fn parts(state: &mut AsyncState, socket: &Handle) -> wasmtime::Result<Parts> {
    let socket = state.table.get(socket)?;
    Ok((socket.0.clone(), Arc::clone(&state.permissions)))
}

impl Udp {
    fn create(worker: &Worker, family: IpAddressFamily) -> io::Result<Self> {
        let socket = open(worker, family, Type::DGRAM)?;
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::ERROR;
        Ok(Self {
            family,
            socket: Watched::new(socket.into(), interest)?,
            open: RefCell::new(None),
            peer: RefCell::new(None),
            heard: RefCell::default(),
        })
    }

    /// Runs `work` on the socket itself.
    fn with<R>(&self, work: impl FnOnce(&SockRef<'_>) -> io::Result<R>) -> SocketResult<R> {
        Ok(work(&SockRef::from(self.socket.fd()))?)
    }

    /// Returns the local address.
    ///
    /// # Errors
    /// Fails if the socket is not bound yet.
    fn local(&self) -> SocketResult<SocketAddr> {
        let unspecified = match self.family {
            IpAddressFamily::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddressFamily::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let local = self.with(|socket| socket.local_addr())?;
        let local = local.as_socket().ok_or(ErrorCode::InvalidState)?;
        let bound = local.port() != 0 || local.ip() != unspecified;
        // Disconnecting may have taken its port away (udp(7)).
        match bound || self.open.borrow().is_some() {
            true => Ok(local),
            false => Err(ErrorCode::InvalidState),
        }
    }

    fn bind(&self, permissions: &Permissions, address: SocketAddr) -> SocketResult<()> {
        if self.local().is_ok() {
            return Err(ErrorCode::InvalidState);
        }
        if !is_of_family(address, self.family) {
            return Err(ErrorCode::InvalidArgument);
        }
        permissions
            .binds(address)
            .map_err(|_| ErrorCode::AccessDenied)?;
        self.with(|socket| socket.bind(&address.into()))?;
        self.note_bound(permissions);
        Ok(())
    }

    /// Notes, once the socket has an address, who may send to it.
    fn note_bound(&self, permissions: &Permissions) {
        let mut open = self.open.borrow_mut();
        if open.is_none()
            && let Ok(local) = self.with(|socket| socket.local_addr())
            && let Some(local) = local.as_socket()
        {
            *open = Some(permissions.is_open_at(local));
        }
    }

    fn connect(&self, permissions: &Permissions, peer: SocketAddr) -> SocketResult<()> {
        self.check_remote(peer)?;
        permissions
            .sends(&self.heard.borrow(), peer)
            .map_err(|_| ErrorCode::AccessDenied)?;
        let connect = || self.with(|socket| socket.connect(&peer.into()));
        let connected = match rustix::net::connect(self.socket.fd(), &peer) {
            // Another route than that of the last peer (connect(2)).
            Err(Errno::INVAL) => {
                let _ = rustix::net::connect_unspec(self.socket.fd());
                connect()
            }
            connected => connected.map_err(ErrorCode::from),
        };
        self.note_bound(permissions);
        self.note_peer();
        connected
    }

    /// Notes the peer that the socket is connected to, if it is.
    fn note_peer(&self) {
        let peer = self.with(|socket| socket.peer_addr());
        *self.peer.borrow_mut() = peer.ok().and_then(|it| it.as_socket());
    }

    fn disconnect(&self) -> SocketResult<()> {
        if self.peer.borrow().is_none() {
            return Err(ErrorCode::InvalidState);
        }
        let disconnected = rustix::net::connect_unspec(self.socket.fd());
        self.note_peer();
        Ok(disconnected?)
    }

    /// Checks that datagrams can be sent to an address at all.
    fn check_remote(&self, remote: SocketAddr) -> SocketResult<()> {
        let reachable = !remote.ip().is_unspecified() && remote.port() != 0;
        match reachable && is_of_family(remote, self.family) {
            true => Ok(()),
            false => Err(ErrorCode::InvalidArgument),
        }
    }

    async fn send(
        &self,
        permissions: &Permissions,
        data: &[u8],
        to: Option<SocketAddr>,
    ) -> SocketResult<()> {
        if data.len() > LONGEST {
            return Err(ErrorCode::DatagramTooLarge);
        }
        let peer = *self.peer.borrow();
        let to = match (to, peer) {
            (Some(to), _) => {
                self.check_remote(to)?;
                to
            }
            (None, Some(peer)) => peer,
            (None, None) => return Err(ErrorCode::InvalidArgument),
        };
        if peer.is_some_and(|peer| peer != to) {
            return Err(ErrorCode::InvalidArgument);
        }
        permissions
            .sends(&self.heard.borrow(), to)
            .map_err(|_| ErrorCode::AccessDenied)?;
        let send = |socket: &OwnedFd| {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let sent = match peer {
                Some(_) => rustix::net::send(socket, data, flags),
                None => rustix::net::sendto(socket, data, flags, &to),
            };
            sent.map_err(io::Error::from)
        };
        let sent = self.socket.when(Interest::WRITABLE, send).await;
        // The first one gives the socket its port.
        self.note_bound(permissions);
        sent?;
        Ok(())
    }

    async fn receive(&self, permissions: &Permissions) -> SocketResult<(Vec<u8>, SocketAddr)> {
        self.local()?;
        let mut data = Vec::with_capacity(LONGEST);
        loop {
            let receive = |socket: &OwnedFd| {
                data.clear();
                let room = spare_capacity(&mut data);
                let (_, _, from) = rustix::net::recvfrom(socket, room, RecvFlags::DONTWAIT)?;
                Ok(from)
            };
            // An undelivered datagram shows as an error, with nothing to read.
            let interest = Interest::READABLE | Interest::ERROR;
            let from = self.socket.when(interest, receive).await?;
            let Some(Address::Ip(from)) = from.map(Address::from) else {
                continue;
            };
            let is_open = self.open.borrow().unwrap_or(false);
            if permissions.hears_from(&mut self.heard.borrow_mut(), from, is_open) {
                data.shrink_to_fit();
                return Ok((data, from));
            }
        }
    }
}
