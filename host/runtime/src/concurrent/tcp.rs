//! TCP sockets of `wasi:sockets@0.3`, in place of wasmtime-wasi's. A connected
//! socket is a [`Stream`] like those that the host accepts, so data that a
//! guest passes from one to another is copied natively.
//!
//! The states are those of wasmtime-wasi: a socket is created, may be bound,
//! and then listens or connects for the rest of its life.

pub(super) mod socket;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use send_wrapper::SendWrapper;
use socket2::{Socket, TcpKeepalive};
use wasmtime::AsContextMut;
use wasmtime::component::{
    Accessor, Destination, FutureReader, Linker, LinkerInstance, Resource, ResourceType,
    StreamProducer, StreamReader, StreamResult,
};
use wasmtime_wasi::p3::bindings::sockets::types::{
    Duration as Nanoseconds, ErrorCode, IpAddressFamily, IpSocketAddress,
};
use wasmtime_wasi::sockets::SocketAddrUse;

use netwasm_base::error::ConnectionError;
use netwasm_net::connect::{self, Dialed};
use netwasm_net::connection::Driver;
use netwasm_net::incoming::Incoming;
use netwasm_net::stream::Stream;
use netwasm_net::transport::Transport;

use crate::concurrent::permissions;
use crate::concurrent::state::{AsyncState, Store, drop_handle};
use crate::concurrent::streams;
use crate::concurrent::tcp::socket::{
    SocketResult, TcpSocket, TcpState, buffer, halved, is_valid, link_socket_methods,
};
use crate::instance::Instance;

/// Replaces `tcp-socket` in the linker.
///
/// # Errors
/// Fails if the linker does not allow shadowing.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    add_tcp_socket(&mut linker.instance("wasi:sockets/types@0.3.0")?)
}

type Handle = Resource<TcpSocket>;

fn add_tcp_socket(l: &mut LinkerInstance<'_, AsyncState>) -> wasmtime::Result<()> {
    l.resource(
        "tcp-socket",
        ResourceType::host::<TcpSocket>(),
        drop_handle::<TcpSocket>,
    )?;
    l.func_wrap(
        "[static]tcp-socket.create",
        |mut store: Store<'_>, (family,): (IpAddressFamily,)| {
            let state = store.data_mut();
            let socket = match TcpSocket::create(&state.local.worker, family) {
                Ok(socket) => Ok(state.table.push(socket)?),
                Err(error) => Err(ErrorCode::from(error)),
            };
            Ok((socket,))
        },
    )?;
    l.func_wrap(
        "[method]tcp-socket.bind",
        |mut store: Store<'_>, (socket, address): (Handle, IpSocketAddress)| {
            let state = store.data_mut();
            let address = SocketAddr::from(address);
            let permissions = Arc::clone(&state.permissions);
            let socket = state.table.get_mut(&socket)?;
            if !is_valid(address, socket.family) {
                return Ok((Err(ErrorCode::InvalidArgument),));
            }
            if !permissions.allows(address, SocketAddrUse::TcpBind) {
                return Ok((Err(ErrorCode::AccessDenied),));
            }
            Ok((socket.bind(address),))
        },
    )?;
    l.func_wrap_concurrent(
        "[method]tcp-socket.connect",
        |accessor: &Accessor<AsyncState>, (socket, address): (Handle, IpSocketAddress)| {
            Box::pin(async move { Ok((connect(accessor, socket, address.into()).await?,)) })
        },
    )?;
    l.func_wrap(
        "[method]tcp-socket.listen",
        |store: Store<'_>, (socket,): (Handle,)| Ok((listen(store, &socket)?,)),
    )?;
    l.func_wrap(
        "[method]tcp-socket.send",
        |mut store: Store<'_>, (socket, data): (Handle, StreamReader<u8>)| {
            let stream = connected(&store, &socket)?;
            let sent: FutureReader<SocketResult<()>> =
                streams::begin_send(&mut store, stream, data)?;
            Ok((sent,))
        },
    )?;
    l.func_wrap(
        "[method]tcp-socket.receive",
        |mut store: Store<'_>, (socket,): (Handle,)| {
            let stream = connected(&store, &socket)?;
            let received: (StreamReader<u8>, FutureReader<SocketResult<()>>) =
                streams::begin_receive(&mut store, stream)?;
            Ok((received,))
        },
    )?;
    link_socket_methods!(l, "tcp-socket", TcpSocket:
        "get-local-address" => |socket| socket.local_address();
        "get-remote-address" => |socket| socket.remote_address();
        "get-is-listening" => |socket| matches!(socket.state, TcpState::Listening(_));
        "get-address-family" => |socket| socket.family;
        "set-listen-backlog-size" => |socket, size: u64| socket.set_backlog(size);
        "get-keep-alive-enabled" => |socket| socket.with(|it| it.keepalive());
        "set-keep-alive-enabled" => |socket, on: bool| socket.with(|it| it.set_keepalive(on));
        "get-keep-alive-idle-time" =>
            |socket| socket.with(|it| it.tcp_keepalive_time()).map(nanoseconds);
        "set-keep-alive-idle-time" =>
            |socket, time: Nanoseconds| socket.set_keepalive(time, TcpKeepalive::with_time);
        "get-keep-alive-interval" =>
            |socket| socket.with(|it| it.tcp_keepalive_interval()).map(nanoseconds);
        "set-keep-alive-interval" =>
            |socket, time: Nanoseconds| socket.set_keepalive(time, TcpKeepalive::with_interval);
        "get-keep-alive-count" => |socket| socket.with(|it| it.tcp_keepalive_retries());
        "set-keep-alive-count" => |socket, count: u32| match count {
            0 => Err(ErrorCode::InvalidArgument),
            // Linux takes at most 127.
            count => socket.with(|it| {
                it.set_tcp_keepalive(&TcpKeepalive::new().with_retries(count.min(127)))
            }),
        };
        "get-hop-limit" => |socket| socket.hop_limit();
        "set-hop-limit" => |socket, limit: u8| socket.set_hop_limit(limit);
        "get-receive-buffer-size" => |socket| socket.with(|it| it.recv_buffer_size()).map(halved);
        "set-receive-buffer-size" => |socket, size: u64|
            socket.with(|it| it.set_recv_buffer_size(buffer(size)?));
        "get-send-buffer-size" => |socket| socket.with(|it| it.send_buffer_size()).map(halved);
        "set-send-buffer-size" => |socket, size: u64|
            socket.with(|it| it.set_send_buffer_size(buffer(size)?));
    );
    Ok(())
}

fn nanoseconds(time: Duration) -> Nanoseconds {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the connection of a socket; `None` if it has none.
fn connected(store: &Store<'_>, socket: &Handle) -> wasmtime::Result<Option<Rc<Stream>>> {
    Ok(match &store.data().table.get(socket)?.state {
        TcpState::Connected(stream) => Some(Rc::clone(stream)),
        _ => None,
    })
}

async fn connect(
    accessor: &Accessor<AsyncState>,
    handle: Handle,
    address: SocketAddr,
) -> wasmtime::Result<SocketResult<()>> {
    let begun = accessor.with(|mut store| begin_connect(store.data_mut(), &handle, address))?;
    let socket = match begun {
        Ok(socket) => socket,
        Err(error) => return Ok(Err(error)),
    };
    let permit = accessor.with(|mut store| connect::permit(&store.data_mut().local.worker));
    let connected = match permit {
        Ok(permit) => Ok(connect::dial_from(permit, socket, address).await),
        Err(limit) => Err(limit),
    };
    accessor.with(|mut store| {
        let state = store.data_mut();
        let made = adopt(state, connected);
        let socket = state.table.get_mut(&handle)?;
        Ok(match made {
            Ok(stream) => {
                socket.state = TcpState::Connected(SendWrapper::new(stream));
                Ok(())
            }
            Err(error) => {
                socket.state = TcpState::Closed;
                Err(error)
            }
        })
    })
}

/// Takes a socket that is to connect, if it may.
fn begin_connect(
    state: &mut AsyncState,
    handle: &Handle,
    address: SocketAddr,
) -> wasmtime::Result<SocketResult<Socket>> {
    let permissions = Arc::clone(&state.permissions);
    let socket = state.table.get_mut(handle)?;
    if !matches!(socket.state, TcpState::Unbound(_) | TcpState::Bound(_)) {
        return Ok(Err(ErrorCode::InvalidState));
    }
    let reachable = !address.ip().is_unspecified() && address.port() != 0;
    if !reachable || !is_valid(address, socket.family) {
        return Ok(Err(ErrorCode::InvalidArgument));
    }
    if !permissions.allows(address, SocketAddrUse::TcpConnect) {
        return Ok(Err(ErrorCode::AccessDenied));
    }
    Ok(
        match std::mem::replace(&mut socket.state, TcpState::Connecting) {
            TcpState::Unbound(socket) | TcpState::Bound(socket) => Ok(socket),
            _ => Err(ErrorCode::InvalidState),
        },
    )
}

/// Turns an established connection into a stream.
fn adopt(
    state: &AsyncState,
    connected: Result<io::Result<Dialed>, ConnectionError>,
) -> SocketResult<Rc<Stream>> {
    let limited = |error: ConnectionError| ErrorCode::Other(Some(error.to_string()));
    let dialed = connected.map_err(limited)??;
    let local = &*state.local;
    local.env.net.counters.connections_made.add();
    Ok(drive(state, &dialed.into_transport(&local.worker.thread)))
}

/// Makes a connection's stream, and starts the task that drives it.
pub(super) fn drive(state: &AsyncState, transport: &Rc<Transport>) -> Rc<Stream> {
    let stream = Stream::new(transport, &state.health);
    let driver: Driver<Instance> = Driver::streaming(Rc::clone(transport), Rc::clone(&stream));
    state.local.worker.drive(transport, driver);
    stream
}

fn listen(
    mut store: Store<'_>,
    handle: &Handle,
) -> wasmtime::Result<SocketResult<StreamReader<Handle>>> {
    let state = store.data_mut();
    let permissions = Arc::clone(&state.permissions);
    let local = Rc::clone(&state.local);
    let socket = state.table.get_mut(handle)?;
    let address = match &socket.state {
        TcpState::Unbound(_) => match socket.family {
            IpAddressFamily::Ipv4 => SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0),
            IpAddressFamily::Ipv6 => SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), 0),
        },
        TcpState::Bound(_) => match socket.local_address() {
            Ok(address) => address.into(),
            Err(error) => return Ok(Err(error)),
        },
        _ => return Ok(Err(ErrorCode::InvalidState)),
    };
    if !permissions.allows(address, SocketAddrUse::TcpListen) {
        return Ok(Err(ErrorCode::AccessDenied));
    }
    let family = socket.family;
    Ok(match socket.listen() {
        Err(error) => Err(error),
        Ok(listener) => {
            let bound = socket.local_address().map_or(address, SocketAddr::from);
            permissions::note_listener(&local.env.net.guest, &format_args!("tcp://{bound}"));
            let incoming = Incoming::new(Rc::clone(&local.worker.thread), listener);
            let accepting = Accepting {
                incoming: SendWrapper::new(incoming),
                family,
            };
            Ok(StreamReader::new(&mut store, accepting)?)
        }
    })
}

/// Connections of a listener, until graceful shutdown begins.
struct Accepting {
    incoming: SendWrapper<Incoming>,
    family: IpAddressFamily,
}

impl StreamProducer<AsyncState> for Accepting {
    type Item = Handle;
    type Buffer = Option<Handle>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: Store<'a>,
        mut destination: Destination<'a, Handle, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = &mut *self;
        let asks = destination.remaining(store.as_context_mut()) == Some(0);
        let accepted = if asks {
            this.incoming.poll_ready(cx).map(|()| None)
        } else {
            this.incoming.poll_accept(cx)
        };
        match accepted {
            Poll::Pending if finish => {
                this.incoming.cancel();
                Poll::Ready(Ok(StreamResult::Cancelled))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) if asks => Poll::Ready(Ok(StreamResult::Completed)),
            Poll::Ready(None) => Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Ready(Some(transport)) => {
                let stream = drive(store.data(), &transport);
                let socket = TcpSocket::connected(stream, this.family);
                let handle = store.data_mut().table.push(socket)?;
                destination.set_buffer(Some(handle));
                Poll::Ready(Ok(StreamResult::Completed))
            }
        }
    }
}
