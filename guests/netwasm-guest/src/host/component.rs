//! The host of a component, by the bindings.

mod answers;
mod metrics;
mod proxied;
pub(crate) mod shared;
mod topics;
mod websocket;

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use super::{ConnectOptions, Endpoint, PoolOptions, TlsRole};
use crate::bindings::netwasm::net::types::{ConnectionId, SocketId};
use crate::bindings::netwasm::net::{
    connector, datagram_connector, datagrams, files, http, log as raw_log, pools, resolver, timers,
    transports, types,
};
use crate::http::Method;
use crate::log::Level;
use crate::time::nanoseconds;
use crate::{
    Address, Error, ErrorKind, Info, Operation, PoolCounts, Result, SocketOption, TlsInfo,
    TlsOptions,
};

pub(crate) use self::answers::inform;
pub(crate) use self::metrics::*;
pub(crate) use self::proxied::{Number, connect_upstream_for};
pub(crate) use self::websocket::{
    WebSocketHandle, cancel_websocket, connect_websocket, publish, subscribers,
};

/// A byte-stream connection.
pub(crate) struct Transport(ConnectionId);

impl From<ConnectionId> for Transport {
    fn from(number: ConnectionId) -> Self {
        Self(number)
    }
}

impl Transport {
    pub(crate) fn write(&self, data: &[u8]) -> u64 {
        transports::write(self.0, data)
    }

    pub(crate) fn writelines(&self, data: &[Vec<u8>]) -> u64 {
        transports::writelines(self.0, data)
    }

    pub(crate) fn room(&self) -> u64 {
        transports::room(self.0)
    }

    pub(crate) fn want_write(&self) {
        transports::want_write(self.0);
    }

    pub(crate) fn write_eof(&self) -> Result<()> {
        Ok(transports::write_eof(self.0)?)
    }

    pub(crate) fn send_file(&self, file: &File, offset: u64, length: Option<u64>) -> Result<u64> {
        Ok(transports::send_file(self.0, &file.0, offset, length)?)
    }

    pub(crate) fn relay(&self, to: &Self) -> Result<()> {
        Ok(transports::relay(self.0, to.0)?)
    }

    pub(crate) fn start_tls(&self, role: TlsRole, received: &[u8]) -> Result<()> {
        let role = match role {
            TlsRole::Server => types::TlsRole::Server,
            TlsRole::Client(options) => types::TlsRole::Client(options.into()),
        };
        Ok(transports::start_tls(self.0, &role, received)?)
    }

    pub(crate) fn close(&self) {
        transports::close(self.0);
    }

    pub(crate) fn abort(&self) {
        transports::abort(self.0);
    }

    pub(crate) fn pause_reading(&self) {
        transports::pause_reading(self.0);
    }

    pub(crate) fn resume_reading(&self) {
        transports::resume_reading(self.0);
    }

    pub(crate) fn set_idle_timeout(&self, after: Option<Duration>) {
        transports::set_idle_timeout(self.0, after.map(nanoseconds));
    }

    pub(crate) fn set_option(&self, option: SocketOption) -> Result<()> {
        Ok(transports::set_option(self.0, option.into())?)
    }

    pub(crate) fn set_write_buffer_limits(&self, high: u64, low: u64) {
        transports::set_write_buffer_limits(self.0, high, low);
    }

    pub(crate) fn info(&self) -> Info {
        transports::info(self.0).into()
    }
}

/// A datagram socket.
pub(crate) struct DatagramTransport(SocketId);

impl From<SocketId> for DatagramTransport {
    fn from(number: SocketId) -> Self {
        Self(number)
    }
}

impl DatagramTransport {
    pub(crate) fn send_to(&self, data: &[u8], to: SocketAddr) -> Result<()> {
        Ok(datagrams::send_to(self.0, data, to.into())?)
    }

    pub(crate) fn send(&self, data: &[u8]) -> Result<()> {
        Ok(datagrams::send(self.0, data)?)
    }

    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        datagrams::local_address(self.0).map(Into::into)
    }

    pub(crate) fn remote_address(&self) -> Option<SocketAddr> {
        datagrams::remote_address(self.0).map(Into::into)
    }

    pub(crate) fn set_option(&self, option: SocketOption) -> Result<()> {
        Ok(datagrams::set_option(self.0, option.into())?)
    }

    pub(crate) fn close(&self) {
        datagrams::close(self.0);
    }
}

/// A file that the host sends.
pub(crate) struct File(files::File);

impl File {
    pub(crate) fn open(path: &str) -> Result<Self> {
        Ok(Self(files::File::open(path)?))
    }

    pub(crate) fn size(&self) -> Result<u64> {
        Ok(self.0.size()?)
    }
}

pub(crate) fn now() -> u64 {
    timers::now()
}

pub(crate) fn wake_at(when: Option<u64>) {
    timers::wake_at(when);
}

pub(crate) fn connect(token: u64, to: Endpoint, options: ConnectOptions) -> Result<()> {
    Ok(connector::connect(token, &to.into(), &options.into())?)
}

pub(crate) fn connect_upstream(token: u64, group: &str, limit: Option<Duration>) -> Result<()> {
    let limit = limit.map(nanoseconds);
    Ok(connector::connect_upstream(token, group, limit)?)
}

pub(crate) fn cancel_connect(token: u64) {
    connector::cancel(token);
}

pub(crate) fn resolve(token: u64, name: &str) -> Result<()> {
    Ok(resolver::resolve(token, name)?)
}

pub(crate) fn cancel_resolve(token: u64) {
    resolver::cancel(token);
}

/// A pool of the host.
#[derive(Clone, Copy)]
pub(crate) struct PoolHandle(types::PoolId);

impl PoolHandle {
    pub(crate) fn open(to: Endpoint, options: PoolOptions) -> Result<Self> {
        let options = types::PoolOptions {
            size: options.size,
            connect: options.connect.into(),
            idle_timeout: options.idle_timeout.map(nanoseconds),
            max_age: options.max_age.map(nanoseconds),
        };
        Ok(Self(pools::open(&to.into(), &options)?))
    }

    pub(crate) fn get(self, token: u64, timeout: Option<Duration>) -> Result<()> {
        Ok(pools::get(token, self.0, timeout.map(nanoseconds))?)
    }

    pub(crate) fn close(self) {
        pools::close(self.0);
    }

    pub(crate) fn counts(self) -> PoolCounts {
        let counts = pools::counts(self.0);
        PoolCounts {
            in_use: counts.in_use,
            idle: counts.idle,
            waiting: counts.waiting,
            opened: counts.opened,
            reused: counts.reused,
            expired: counts.expired,
        }
    }
}

/// Puts a connection back into its pool.
pub(crate) fn put(connection: &Transport) {
    pools::put(connection.0);
}

pub(crate) fn bind_datagrams(token: u64, local: SocketAddr) -> Result<DatagramTransport> {
    Ok(DatagramTransport(datagram_connector::bind(
        token,
        local.into(),
    )?))
}

pub(crate) fn connect_datagrams(token: u64, host: &str, port: u16) -> Result<()> {
    Ok(datagram_connector::connect(token, host, port)?)
}

pub(crate) fn cancel_datagrams(token: u64) {
    datagram_connector::cancel(token);
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => raw_log::Level::Trace,
        Level::Debug => raw_log::Level::Debug,
        Level::Info => raw_log::Level::Info,
        Level::Warn => raw_log::Level::Warn,
        Level::Error => raw_log::Level::Error,
    };
    raw_log::log(level, message);
}

/// Handle that the host gives for a request.
pub(crate) type RequestHandle = http::Request;

/// A request, apart from its method and target.
#[derive(Clone, Copy)]
pub(crate) struct RawRequest<'a>(&'a http::Request);

impl<'a> From<&'a http::Request> for RawRequest<'a> {
    fn from(raw: &'a http::Request) -> Self {
        Self(raw)
    }
}

impl RawRequest<'_> {
    pub(crate) fn is_whole(&self) -> bool {
        self.0.is_whole()
    }

    pub(crate) fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.0.header(name)
    }

    pub(crate) fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.0.header_values(name)
    }

    pub(crate) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.0.headers()
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        self.0.body()
    }

    pub(crate) fn trailers(&self) -> Vec<(String, Vec<u8>)> {
        self.0.trailers()
    }

    pub(crate) fn scheme(&self) -> String {
        self.0.scheme()
    }

    pub(crate) fn authority(&self) -> Option<String> {
        self.0.authority()
    }

    pub(crate) fn info(&self) -> Info {
        self.0.info().into()
    }

    pub(crate) fn read_body(&self, token: u64, credit: u64) -> Result<()> {
        Ok(self.0.read_body(token, credit)?)
    }

    pub(crate) fn inform(&self, status: u16, headers: &[(String, Vec<u8>)]) -> Result<()> {
        Ok(self.0.inform(status, headers)?)
    }
}

impl From<TlsOptions> for types::TlsOptions {
    fn from(options: TlsOptions) -> Self {
        Self {
            server_name: options.server_name,
            alpn: options.alpn,
            authority: options.authority,
            identity: options.identity,
        }
    }
}

impl From<Endpoint> for types::Endpoint {
    fn from(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::Name(name, port) => Self::Name((name, port)),
            Endpoint::Unix(path) => Self::Unix(path),
        }
    }
}

impl From<ConnectOptions> for types::ConnectOptions {
    fn from(options: ConnectOptions) -> Self {
        Self {
            tls: options.tls.map(Into::into),
            timeout: options.timeout.map(nanoseconds),
            local_address: options.local_address.map(Into::into),
        }
    }
}

impl From<SocketOption> for types::SocketOption {
    fn from(option: SocketOption) -> Self {
        match option {
            SocketOption::NoDelay(on) => Self::NoDelay(on),
            SocketOption::KeepAlive(probes) => {
                Self::KeepAlive(probes.map(|probes| types::KeepAlive {
                    idle: nanoseconds(probes.idle),
                    interval: probes.interval.map(nanoseconds),
                    count: probes.count,
                }))
            }
            SocketOption::ReceiveBufferSize(size) => Self::ReceiveBufferSize(size),
            SocketOption::SendBufferSize(size) => Self::SendBufferSize(size),
            SocketOption::HopLimit(limit) => Self::HopLimit(limit),
            SocketOption::TrafficClass(class) => Self::TrafficClass(class),
        }
    }
}

impl From<types::ConnectionInfo> for Info {
    fn from(info: types::ConnectionInfo) -> Self {
        Self {
            peer: info.peer.into(),
            local: info.local.into(),
            tls: info.tls.map(Into::into),
        }
    }
}

impl From<types::TlsInfo> for TlsInfo {
    fn from(info: types::TlsInfo) -> Self {
        Self {
            version: info.version,
            cipher: info.cipher,
            alpn: info.alpn,
            server_name: info.server_name,
            peer_certificates: info.peer_certificates,
        }
    }
}

impl From<types::SocketAddress> for Address {
    fn from(address: types::SocketAddress) -> Self {
        match address {
            types::SocketAddress::Ip(address) => Self::Ip(address.into()),
            types::SocketAddress::Unix(path) => Self::Unix(path),
        }
    }
}

impl From<types::IpSocketAddress> for SocketAddr {
    fn from(address: types::IpSocketAddress) -> Self {
        match address {
            types::IpSocketAddress::Ipv4(address) => {
                (<[u8; 4]>::from(address.address), address.port).into()
            }
            types::IpSocketAddress::Ipv6(address) => SocketAddrV6::new(
                <[u16; 8]>::from(address.address).into(),
                address.port,
                address.flow_info,
                address.scope_id,
            )
            .into(),
        }
    }
}

impl From<SocketAddr> for types::IpSocketAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::Ipv4(types::Ipv4SocketAddress {
                port: address.port(),
                address: address.ip().octets().into(),
            }),
            SocketAddr::V6(address) => Self::Ipv6(types::Ipv6SocketAddress {
                port: address.port(),
                flow_info: address.flowinfo(),
                address: address.ip().segments().into(),
                scope_id: address.scope_id(),
            }),
        }
    }
}

impl From<types::IpAddress> for IpAddr {
    fn from(address: types::IpAddress) -> Self {
        match address {
            types::IpAddress::Ipv4(octets) => <[u8; 4]>::from(octets).into(),
            types::IpAddress::Ipv6(segments) => <[u16; 8]>::from(segments).into(),
        }
    }
}

impl From<IpAddr> for types::IpAddress {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::Ipv4(address.octets().into()),
            IpAddr::V6(address) => Self::Ipv6(address.segments().into()),
        }
    }
}

impl From<types::Error> for Error {
    fn from(error: types::Error) -> Self {
        use types::ErrorCode as Code;
        let kind = match error.code {
            Code::AccessDenied => ErrorKind::AccessDenied,
            Code::InvalidState => ErrorKind::InvalidState,
            Code::InvalidArgument => ErrorKind::InvalidArgument,
            Code::NotSupported => ErrorKind::NotSupported,
            Code::LimitExceeded => ErrorKind::LimitExceeded,
            Code::Timeout => ErrorKind::Timeout,
            Code::ConnectionRefused => ErrorKind::ConnectionRefused,
            Code::ConnectionReset => ErrorKind::ConnectionReset,
            Code::ConnectionAborted => ErrorKind::ConnectionAborted,
            Code::ConnectionBroken => ErrorKind::ConnectionBroken,
            Code::RemoteUnreachable => ErrorKind::RemoteUnreachable,
            Code::AddressNotBindable => ErrorKind::AddressNotBindable,
            Code::NameUnresolvable => ErrorKind::NameUnresolvable,
            Code::NoAddress => ErrorKind::NoAddress,
            Code::ResolverFailure => ErrorKind::ResolverFailure,
            Code::NotFound => ErrorKind::NotFound,
            Code::Tls => ErrorKind::Tls,
            Code::TlsTruncated => ErrorKind::TlsTruncated,
            Code::Other => ErrorKind::Other,
        };
        let operation = match error.during {
            types::Operation::Call => Operation::Call,
            types::Operation::Resolve => Operation::Resolve,
            types::Operation::Connect => Operation::Connect,
            types::Operation::Handshake => Operation::Handshake,
            types::Operation::Receive => Operation::Receive,
            types::Operation::Send => Operation::Send,
            types::Operation::Connection => Operation::Connection,
        };
        Self::of_host(kind, operation, error.text)
    }
}

impl From<http::Method> for Method {
    fn from(method: http::Method) -> Self {
        match method {
            http::Method::Get => Self::Get,
            http::Method::Head => Self::Head,
            http::Method::Post => Self::Post,
            http::Method::Put => Self::Put,
            http::Method::Delete => Self::Delete,
            http::Method::Options => Self::Options,
            http::Method::Trace => Self::Trace,
            http::Method::Patch => Self::Patch,
            http::Method::Other(name) => Self::Other(name),
        }
    }
}
