//! `netwasm:net/client`: what a guest may open, resolve and keep. Its
//! connections are those of `streams`, so data that is passed from one to
//! another, or to an accepted one, is copied natively.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use send_wrapper::SendWrapper;
use wasmtime::component::{Accessor, HasSelf, Resource};
use wasmtime_wasi::sockets::SocketAddrUse;

use netwasm_base::error::ConnectionError;
use netwasm_net::connect;
use netwasm_net::datagram::DatagramSocket;
use netwasm_net::endpoint::Endpoint;
use netwasm_net::parked::{Key, Parked};
use netwasm_net::pool::{Pool, PoolPlace};
use netwasm_net::transport::Transport;

use crate::bindings::netwasm::net::types::{
    ConnectOptions as WitConnectOptions, Endpoint as WitEndpoint, Error as WitError, IpAddress,
    IpSocketAddress, PoolCounts, PoolOptions, SocketOption,
};
use crate::concurrent::bindings::netwasm::net::client::{
    Datagram, Host, HostDatagramSocket, HostDatagramSocketWithStore, HostPool, HostPoolWithStore,
    HostWithStore,
};
use crate::concurrent::handles::{ConnectionHandle, DatagramSocketHandle, PoolHandle};
use crate::concurrent::permissions::Permissions;
use crate::concurrent::state::AsyncState;
use crate::concurrent::tcp::drive;
use crate::convert::{called, connect_options, connecting, pool_key, resolving, sending};
use crate::local::Local;

type Access = Accessor<AsyncState, HasSelf<AsyncState>>;
/// Result of a call. The outer error is a trap.
type Ended<T> = wasmtime::Result<Result<T, WitError>>;
type Outcome<T> = Result<T, ConnectionError>;
type Connection = Resource<ConnectionHandle>;

/// Context of a guest's call.
struct Caller {
    local: Rc<Local>,
    permissions: Arc<Permissions>,
}

impl Caller {
    fn new(state: &AsyncState) -> SendWrapper<Self> {
        SendWrapper::new(Self {
            local: Rc::clone(&state.local),
            permissions: Arc::clone(&state.permissions),
        })
    }

    fn of(accessor: &Access) -> SendWrapper<Self> {
        accessor.with(|mut store| Self::new(store.get()))
    }

    async fn connect(&self, to: WitEndpoint, options: WitConnectOptions) -> Outcome<Rc<Transport>> {
        let endpoint = Endpoint::from(to).checked()?;
        let (tls, options) = connect_options(options, &endpoint, &self.local.env.net)?;
        self.permissions.connect(&endpoint)?;
        connect::make(&self.local.worker, &endpoint, tls.as_ref(), options).await
    }

    async fn connect_upstream(
        &self,
        group: &str,
        client: Option<&Transport>,
        timeout: Option<u64>,
    ) -> Outcome<Rc<Transport>> {
        let group = self.local.env.net.upstream(group)?;
        let timeout = timeout.map(Duration::from_nanos);
        connect::make_through(&self.local.worker, group, client, timeout).await
    }

    async fn resolve(&self, name: &str) -> Outcome<Vec<IpAddress>> {
        if name.is_empty() {
            return Err(ConnectionError::InvalidArgument);
        }
        self.permissions.resolve(name)?;
        let addresses = self.local.worker.resolver.resolve(name).await?;
        self.permissions.remember(name, &addresses);
        Ok(addresses.into_iter().map(Into::into).collect())
    }

    async fn connect_datagrams(&self, host: &str, port: u16) -> Outcome<DatagramSocket> {
        if host.is_empty() || port == 0 {
            return Err(ConnectionError::InvalidArgument);
        }
        self.permissions.send_name(host, port)?;
        let addresses = self.local.worker.resolver.resolve(host).await?;
        let peers = self.permissions.peers(host, port, &addresses)?;
        DatagramSocket::connect(&peers)
    }

    /// Returns a connection of a pool, with its place there.
    async fn get(
        &self,
        pool: &Arc<Pool<Parked>>,
        key: &Key,
        timeout: Option<Duration>,
    ) -> Outcome<(Rc<Transport>, PoolPlace<Parked>)> {
        self.permissions.connect(&key.endpoint)?;
        connect::get(&self.local.worker, pool, key, timeout).await
    }
}

/// Gives a connection to the guest.
fn give(
    accessor: &Access,
    made: Outcome<(Rc<Transport>, Option<PoolPlace<Parked>>)>,
) -> Ended<Connection> {
    let (transport, place) = match made {
        Ok(made) => made,
        Err(error) => {
            tracing::debug!(%error, "cannot connect");
            return Ok(Err(connecting(&error)));
        }
    };
    accessor.with(|mut store| {
        let state = store.get();
        let stream = drive(state, &transport);
        if let Some(place) = place {
            stream.take_place(place);
        }
        let handle = ConnectionHandle(SendWrapper::new(stream));
        Ok(Ok(state.table.push(handle)?))
    })
}

impl HostWithStore<AsyncState> for HasSelf<AsyncState> {
    fn connect(
        accessor: &Access,
        to: WitEndpoint,
        options: WitConnectOptions,
    ) -> impl Future<Output = Ended<Connection>> + Send {
        let caller = Caller::of(accessor);
        SendWrapper::new(async move {
            let made = caller.connect(to, options).await;
            give(accessor, made.map(|made| (made, None)))
        })
    }

    fn connect_upstream(
        accessor: &Access,
        group: String,
        timeout: Option<u64>,
    ) -> impl Future<Output = Ended<Connection>> + Send {
        let caller = Caller::of(accessor);
        SendWrapper::new(async move {
            let made = caller.connect_upstream(&group, None, timeout).await;
            give(accessor, made.map(|made| (made, None)))
        })
    }

    fn connect_upstream_for(
        accessor: &Access,
        group: String,
        client: Connection,
        timeout: Option<u64>,
    ) -> impl Future<Output = Ended<Connection>> + Send {
        let caller = Caller::of(accessor);
        let client: wasmtime::Result<_> = accessor.with(|mut store| {
            let handle: &ConnectionHandle = store.get().table.get(&client)?;
            Ok(SendWrapper::new(Rc::clone(handle.0.transport())))
        });
        SendWrapper::new(async move {
            let client = client?;
            let made = caller.connect_upstream(&group, Some(&client), timeout);
            let made = made.await;
            give(accessor, made.map(|made| (made, None)))
        })
    }

    fn resolve(
        accessor: &Access,
        name: String,
    ) -> impl Future<Output = Ended<Vec<IpAddress>>> + Send {
        let caller = Caller::of(accessor);
        SendWrapper::new(async move {
            let answer = caller.resolve(&name).await;
            Ok(answer.map_err(|error| resolving(&error)))
        })
    }
}

impl HostDatagramSocketWithStore<AsyncState> for HasSelf<AsyncState> {
    fn connect(
        accessor: &Access,
        host: String,
        port: u16,
    ) -> impl Future<Output = Ended<Resource<DatagramSocketHandle>>> + Send {
        let caller = Caller::of(accessor);
        SendWrapper::new(async move {
            let connected = caller.connect_datagrams(&host, port).await;
            accessor.with(|mut store| store.get().keep_socket(connected))
        })
    }

    fn send(
        accessor: &Access,
        socket: Resource<DatagramSocketHandle>,
        data: Vec<u8>,
    ) -> impl Future<Output = Ended<()>> + Send {
        let caller = Caller::of(accessor);
        let socket = accessor.with(|mut store| store.get().socket(&socket));
        SendWrapper::new(async move {
            let (socket, thread) = (socket?, &caller.local.worker.thread);
            let sent = match socket.peer() {
                Some(_) => socket.send(thread, &data, None).await,
                None => Err(ConnectionError::InvalidState),
            };
            Ok(sent.map_err(|error| sending(&error)))
        })
    }

    fn send_to(
        accessor: &Access,
        socket: Resource<DatagramSocketHandle>,
        data: Vec<u8>,
        to: IpSocketAddress,
    ) -> impl Future<Output = Ended<()>> + Send {
        let caller = Caller::of(accessor);
        let socket = accessor.with(|mut store| store.get().socket(&socket));
        SendWrapper::new(async move {
            let (socket, to) = (socket?, SocketAddr::from(to));
            let thread = &caller.local.worker.thread;
            let sent = match socket.check(to) {
                Err(error) => Err(error),
                // The policy was asked when the socket was connected.
                Ok(()) if socket.peer().is_some() => socket.send(thread, &data, None).await,
                Ok(()) => match caller.permissions.allows(to, SocketAddrUse::UdpSend) {
                    true => socket.send(thread, &data, Some(to)).await,
                    false => Err(ConnectionError::AccessDenied),
                },
            };
            Ok(sent.map_err(|error| sending(&error)))
        })
    }

    fn receive(
        accessor: &Access,
        socket: Resource<DatagramSocketHandle>,
    ) -> impl Future<Output = Ended<Datagram>> + Send {
        let caller = Caller::of(accessor);
        let socket = accessor.with(|mut store| store.get().socket(&socket));
        SendWrapper::new(async move {
            let socket = socket?;
            loop {
                let (data, from) = match socket.receive(&caller.local.worker.thread).await {
                    Ok(received) => received,
                    Err(error) => return Ok(Err(sending(&error))),
                };
                // The policy judged the peer of a connected socket when it was
                // connected.
                let allowed = socket.peer().is_some()
                    || (socket.local()).is_ok_and(|local| caller.permissions.receives(local, from));
                if allowed {
                    let from = from.into();
                    return Ok(Ok(Datagram { data, from }));
                }
            }
        })
    }
}

impl HostPoolWithStore<AsyncState> for HasSelf<AsyncState> {
    fn get(
        accessor: &Access,
        pool: Resource<PoolHandle>,
        timeout: Option<u64>,
    ) -> impl Future<Output = Ended<Connection>> + Send {
        let caller = Caller::of(accessor);
        let pool = accessor.with(|mut store| store.get().pool(&pool));
        SendWrapper::new(async move {
            let (pool, key) = pool?;
            let timeout = timeout.map(Duration::from_nanos);
            let got = caller.get(&pool, &key, timeout).await;
            give(accessor, got.map(|(made, place)| (made, Some(place))))
        })
    }
}

impl AsyncState {
    fn keep_socket(
        &mut self,
        opened: Outcome<DatagramSocket>,
    ) -> Ended<Resource<DatagramSocketHandle>> {
        Ok(match opened {
            Ok(socket) => {
                let handle = DatagramSocketHandle(SendWrapper::new(Rc::new(socket)));
                Ok(self.table.push(handle)?)
            }
            Err(error) => Err(called(error)),
        })
    }

    fn socket(
        &mut self,
        socket: &Resource<DatagramSocketHandle>,
    ) -> wasmtime::Result<SendWrapper<Rc<DatagramSocket>>> {
        let handle = self.table.get(socket)?;
        Ok(SendWrapper::new(Rc::clone(&handle.0)))
    }

    fn pool(
        &mut self,
        pool: &Resource<PoolHandle>,
    ) -> wasmtime::Result<(Arc<Pool<Parked>>, Arc<Key>)> {
        let handle = self.table.get(pool)?;
        Ok((Arc::clone(&handle.pool), Arc::clone(&handle.key)))
    }

    fn open_pool(&self, to: WitEndpoint, options: PoolOptions) -> Outcome<PoolHandle> {
        let endpoint = Endpoint::from(to).checked()?;
        let key = pool_key(endpoint, options, &self.env().net)?;
        self.permissions.connect(&key.endpoint)?;
        Ok(PoolHandle {
            pool: self.env().net.pools.open(&key)?,
            key: Arc::new(key),
        })
    }
}

impl Host for AsyncState {}

impl HostDatagramSocket for AsyncState {
    fn bind(&mut self, local: IpSocketAddress) -> Ended<Resource<DatagramSocketHandle>> {
        let local = SocketAddr::from(local);
        let bound = match self.permissions.allows(local, SocketAddrUse::UdpBind) {
            true => DatagramSocket::bind(local),
            false => Err(ConnectionError::AccessDenied),
        };
        self.keep_socket(bound)
    }

    fn set_option(
        &mut self,
        socket: Resource<DatagramSocketHandle>,
        option: SocketOption,
    ) -> Ended<()> {
        let set = self.socket(&socket)?.set_option(option.into());
        Ok(set.map_err(called))
    }

    fn local_address(&mut self, socket: Resource<DatagramSocketHandle>) -> Ended<IpSocketAddress> {
        let local = self.socket(&socket)?.local();
        Ok(local.map(Into::into).map_err(called))
    }

    fn remote_address(
        &mut self,
        socket: Resource<DatagramSocketHandle>,
    ) -> wasmtime::Result<Option<IpSocketAddress>> {
        Ok(self.socket(&socket)?.peer().map(Into::into))
    }

    fn drop(&mut self, socket: Resource<DatagramSocketHandle>) -> wasmtime::Result<()> {
        self.table.delete(socket)?;
        Ok(())
    }
}

impl HostPool for AsyncState {
    fn open(&mut self, to: WitEndpoint, options: PoolOptions) -> Ended<Resource<PoolHandle>> {
        Ok(match self.open_pool(to, options) {
            Ok(handle) => Ok(self.table.push(handle)?),
            Err(error) => Err(called(error)),
        })
    }

    fn put(&mut self, pool: Resource<PoolHandle>, connection: Connection) -> wasmtime::Result<()> {
        let (pool, _) = self.pool(&pool)?;
        let handle = self.table.delete(connection)?;
        handle.0.put(&pool);
        Ok(())
    }

    fn close(&mut self, pool: Resource<PoolHandle>) -> wasmtime::Result<()> {
        self.pool(&pool)?.0.close();
        Ok(())
    }

    fn counts(&mut self, pool: Resource<PoolHandle>) -> wasmtime::Result<PoolCounts> {
        Ok(self.pool(&pool)?.0.counts().into())
    }

    fn drop(&mut self, pool: Resource<PoolHandle>) -> wasmtime::Result<()> {
        self.table.delete(pool)?;
        Ok(())
    }
}
