//! Conversions between the core's types and those of the WIT package.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;
use std::time::Duration;

use wasmtime_wasi::p3::bindings::sockets::types as sockets;

use netwasm_base::address::Address;
use netwasm_base::error::ConnectionError;
use netwasm_net::endpoint::{ConnectOptions, Endpoint};
use netwasm_net::env::Env;
use netwasm_net::options::{KeepAlive, SocketOption};
use netwasm_net::parked::{IDLE_TIMEOUT, Key, MAX_AGE};
use netwasm_net::pool::{self, PoolLimits};
use netwasm_net::proxy::{Proxied, ProxiedTls};
use netwasm_net::tls::{ClientTls, Session, SessionInfo, Tls};
use netwasm_net::transport::Transport;

use crate::bindings::netwasm::net::http::Method;
use crate::bindings::netwasm::net::types::{
    ConnectOptions as WitConnectOptions, ConnectionInfo, Endpoint as WitEndpoint,
    Error as WitError, ErrorCode, IpAddress, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
    Operation, PoolCounts, PoolOptions, ProxyInfo, ProxyTlsInfo, SocketAddress,
    SocketOption as WitSocketOption, TlsInfo, TlsOptions, TlsRole,
};

impl From<&ConnectionError> for ErrorCode {
    fn from(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::AccessDenied => Self::AccessDenied,
            ConnectionError::InvalidState => Self::InvalidState,
            ConnectionError::InvalidArgument => Self::InvalidArgument,
            ConnectionError::NotSupported => Self::NotSupported,
            ConnectionError::LimitExceeded(_) => Self::LimitExceeded,
            ConnectionError::Timeout(_) => Self::Timeout,
            ConnectionError::Refused => Self::ConnectionRefused,
            ConnectionError::Reset => Self::ConnectionReset,
            ConnectionError::Aborted => Self::ConnectionAborted,
            ConnectionError::Broken => Self::ConnectionBroken,
            ConnectionError::Unreachable => Self::RemoteUnreachable,
            ConnectionError::NotBindable => Self::AddressNotBindable,
            ConnectionError::NameUnresolvable => Self::NameUnresolvable,
            ConnectionError::NoAddress => Self::NoAddress,
            ConnectionError::ResolverFailure => Self::ResolverFailure,
            ConnectionError::NotFound => Self::NotFound,
            ConnectionError::Tls(_) => Self::Tls,
            ConnectionError::TlsTruncated => Self::TlsTruncated,
            ConnectionError::FileShortened | ConnectionError::Other(_) => Self::Other,
        }
    }
}

/// Returns the error of a function that the guest called just now.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn called(error: ConnectionError) -> WitError {
    told(&error, Operation::Call)
}

/// Returns the error of connecting, or of a step before or after it.
pub(crate) fn connecting(error: &ConnectionError) -> WitError {
    told(
        error,
        match error {
            ConnectionError::NameUnresolvable
            | ConnectionError::NoAddress
            | ConnectionError::ResolverFailure => Operation::Resolve,
            ConnectionError::Tls(_) | ConnectionError::TlsTruncated => Operation::Handshake,
            _ => Operation::Connect,
        },
    )
}

/// Returns the error of a look-up.
pub(crate) fn resolving(error: &ConnectionError) -> WitError {
    told(error, Operation::Resolve)
}

/// Returns the reason why a connection was lost.
pub(crate) fn lost(error: &ConnectionError) -> WitError {
    told(
        error,
        match error {
            ConnectionError::Reset | ConnectionError::TlsTruncated => Operation::Receive,
            ConnectionError::Broken | ConnectionError::FileShortened => Operation::Send,
            ConnectionError::Tls(_) => Operation::Handshake,
            _ => Operation::Connection,
        },
    )
}

/// Returns the reason why a request's body does not arrive whole.
pub(crate) fn receiving(error: &ConnectionError) -> WitError {
    told(error, Operation::Receive)
}

/// Returns the error of a datagram that was sent.
pub(crate) fn sending(error: &ConnectionError) -> WitError {
    told(error, Operation::Send)
}

fn told(error: &ConnectionError, during: Operation) -> WitError {
    let text = match error {
        // The handshake is in `during`.
        ConnectionError::Tls(reason) => reason.clone(),
        ConnectionError::AccessDenied => "the command line does not allow it".into(),
        other => other.to_string(),
    };
    WitError {
        code: error.into(),
        during,
        text,
    }
}

/// Converts an error to that of `wasi:sockets`.
pub(crate) fn socket_error(error: ConnectionError) -> sockets::ErrorCode {
    match error {
        ConnectionError::AccessDenied => sockets::ErrorCode::AccessDenied,
        ConnectionError::InvalidState => sockets::ErrorCode::InvalidState,
        ConnectionError::InvalidArgument => sockets::ErrorCode::InvalidArgument,
        ConnectionError::NotSupported => sockets::ErrorCode::NotSupported,
        ConnectionError::LimitExceeded(_) => sockets::ErrorCode::OutOfMemory,
        ConnectionError::Timeout(_) => sockets::ErrorCode::Timeout,
        ConnectionError::Refused => sockets::ErrorCode::ConnectionRefused,
        ConnectionError::Reset => sockets::ErrorCode::ConnectionReset,
        ConnectionError::Aborted => sockets::ErrorCode::ConnectionAborted,
        ConnectionError::Broken => sockets::ErrorCode::ConnectionBroken,
        ConnectionError::Unreachable => sockets::ErrorCode::RemoteUnreachable,
        ConnectionError::NotBindable => sockets::ErrorCode::AddressNotBindable,
        other => sockets::ErrorCode::Other(Some(other.to_string())),
    }
}

impl From<IpAddr> for IpAddress {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::Ipv4(v4.octets().into()),
            IpAddr::V6(v6) => Self::Ipv6(v6.segments().into()),
        }
    }
}

impl From<IpAddress> for IpAddr {
    fn from(address: IpAddress) -> Self {
        match address {
            IpAddress::Ipv4(v4) => <[u8; 4]>::from(v4).into(),
            IpAddress::Ipv6(v6) => <[u16; 8]>::from(v6).into(),
        }
    }
}

impl From<SocketAddr> for IpSocketAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self::Ipv4(Ipv4SocketAddress {
                port: v4.port(),
                address: v4.ip().octets().into(),
            }),
            SocketAddr::V6(v6) => Self::Ipv6(Ipv6SocketAddress {
                port: v6.port(),
                flow_info: v6.flowinfo(),
                address: v6.ip().segments().into(),
                scope_id: v6.scope_id(),
            }),
        }
    }
}

impl From<IpSocketAddress> for SocketAddr {
    fn from(address: IpSocketAddress) -> Self {
        match address {
            IpSocketAddress::Ipv4(v4) => {
                let octets: [u8; 4] = v4.address.into();
                Self::V4(SocketAddrV4::new(octets.into(), v4.port))
            }
            IpSocketAddress::Ipv6(v6) => {
                let segments: [u16; 8] = v6.address.into();
                Self::V6(SocketAddrV6::new(
                    segments.into(),
                    v6.port,
                    v6.flow_info,
                    v6.scope_id,
                ))
            }
        }
    }
}

impl From<&Address> for SocketAddress {
    fn from(address: &Address) -> Self {
        match address {
            Address::Ip(address) => Self::Ip((*address).into()),
            Address::Unix(path) => Self::Unix(
                path.as_ref()
                    .map(|path| path.to_string_lossy().into_owned()),
            ),
        }
    }
}

impl From<&Transport> for ConnectionInfo {
    fn from(transport: &Transport) -> Self {
        let local = transport.local();
        Self {
            peer: transport.peer().into(),
            local: local
                .as_ref()
                .map_or(SocketAddress::Unix(None), SocketAddress::from),
            tls: transport.session_info().map(Into::into),
        }
    }
}

/// A connection that is gone has no addresses.
impl From<Option<&Transport>> for ConnectionInfo {
    fn from(transport: Option<&Transport>) -> Self {
        transport.map_or_else(
            || Self {
                peer: SocketAddress::Unix(None),
                local: SocketAddress::Unix(None),
                tls: None,
            },
            Self::from,
        )
    }
}

impl From<&Proxied> for ProxyInfo {
    fn from(told: &Proxied) -> Self {
        let fields = told.fields().map(|(kind, value)| (kind, value.to_vec()));
        Self {
            proxy: (&told.proxy).into(),
            destination: told.destination.as_ref().map(Into::into),
            alpn: told.alpn(),
            authority: told.authority(),
            unique_id: told.unique_id().map(<[u8]>::to_vec),
            tls: told.tls().map(Into::into),
            fields: fields.collect(),
        }
    }
}

impl From<ProxiedTls> for ProxyTlsInfo {
    fn from(tls: ProxiedTls) -> Self {
        Self {
            client_certificate: tls.client_certificate,
            verified: tls.verified,
            version: tls.version,
            cipher: tls.cipher,
            common_name: tls.common_name,
            signature_algorithm: tls.signature_algorithm,
            key_algorithm: tls.key_algorithm,
        }
    }
}

impl From<&str> for Method {
    fn from(method: &str) -> Self {
        match method {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "TRACE" => Self::Trace,
            "PATCH" => Self::Patch,
            other => Self::Other(other.into()),
        }
    }
}

impl From<SessionInfo> for TlsInfo {
    fn from(info: SessionInfo) -> Self {
        Self {
            version: info.version.into(),
            cipher: info.cipher.into(),
            alpn: info.alpn,
            server_name: info.server_name,
            peer_certificates: info.peer_certificates,
        }
    }
}

impl From<WitEndpoint> for Endpoint {
    fn from(endpoint: WitEndpoint) -> Self {
        match endpoint {
            WitEndpoint::Ip(address) => Self::Address(address.into()),
            WitEndpoint::Name((host, port)) => Self::named(host, port),
            WitEndpoint::Unix(path) => Self::Unix(PathBuf::from(path)),
        }
    }
}

/// Converts the options for connecting to an endpoint, whose name the server's
/// certificate must carry if the options give none.
///
/// # Errors
/// - `InvalidArgument`: the TLS options cannot be used.
/// - `AccessDenied`: the guest may not choose what they name.
pub(crate) fn connect_options(
    options: WitConnectOptions,
    endpoint: &Endpoint,
    env: &Env,
) -> Result<(Option<ClientTls>, ConnectOptions), ConnectionError> {
    let tls = options.tls.map(|tls| client_tls(tls, Some(endpoint), env));
    let rest = ConnectOptions {
        timeout: options.timeout.map(Duration::from_nanos),
        local: options.local_address.map(Into::into),
    };
    Ok((tls.transpose()?, rest))
}

/// Converts a client's TLS options.
///
/// # Errors
/// - `InvalidArgument`: they cannot be used.
/// - `AccessDenied`: the guest may not choose what they name.
pub(crate) fn client_tls(
    tls: TlsOptions,
    endpoint: Option<&Endpoint>,
    env: &Env,
) -> Result<ClientTls, ConnectionError> {
    let own = || endpoint.and_then(Endpoint::server_name);
    let name = tls.server_name.or_else(own);
    let name = name.ok_or(ConnectionError::InvalidArgument)?;
    let client = ClientTls::new(name, tls.alpn)?.choosing(tls.authority, tls.identity);
    env.check_tls(&client)?;
    Ok(client)
}

/// Begins a TLS session on a connection that has none.
///
/// # Errors
/// - `NotSupported`: there is no certificate for a server.
/// - `InvalidArgument`, `AccessDenied`: the client's options cannot be used, or
///   name what the guest may not choose.
pub(crate) fn session(role: TlsRole, env: &Env) -> Result<Session, ConnectionError> {
    match role {
        TlsRole::Server => match env.tls.server() {
            Some(config) => Tls::accept(config),
            None => {
                tracing::warn!("start-tls needs a certificate: --cert FILE --key FILE");
                Err(ConnectionError::NotSupported)
            }
        },
        TlsRole::Client(client) => env.tls.connect(&client_tls(client, None, env)?),
    }
}

/// Converts the options of a pool of connections to an endpoint.
///
/// # Errors
/// - `InvalidArgument`: the size is 0.
/// - those of [`connect_options`].
pub(crate) fn pool_key(
    endpoint: Endpoint,
    options: PoolOptions,
    env: &Env,
) -> Result<Key, ConnectionError> {
    let size = usize::try_from(options.size).unwrap_or(usize::MAX);
    if size == 0 {
        return Err(ConnectionError::InvalidArgument);
    }
    let (tls, connect) = connect_options(options.connect, &endpoint, env)?;
    let or = |given: Option<u64>, otherwise| given.map_or(otherwise, Duration::from_nanos);
    Ok(Key {
        endpoint,
        tls,
        connect,
        limits: PoolLimits {
            size,
            idle_timeout: or(options.idle_timeout, IDLE_TIMEOUT),
            max_age: or(options.max_age, MAX_AGE),
        },
    })
}

impl From<pool::PoolCounts> for PoolCounts {
    fn from(counts: pool::PoolCounts) -> Self {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            in_use: count(counts.in_use),
            idle: count(counts.idle),
            waiting: count(counts.waiting),
            opened: counts.opened,
            reused: counts.reused,
            expired: counts.expired,
        }
    }
}

impl From<WitSocketOption> for SocketOption {
    fn from(option: WitSocketOption) -> Self {
        match option {
            WitSocketOption::NoDelay(on) => Self::NoDelay(on),
            WitSocketOption::KeepAlive(probes) => Self::KeepAlive(probes.map(|probes| KeepAlive {
                idle: Duration::from_nanos(probes.idle),
                interval: probes.interval.map(Duration::from_nanos),
                count: probes.count,
            })),
            WitSocketOption::ReceiveBufferSize(size) => Self::ReceiveBufferSize(size),
            WitSocketOption::SendBufferSize(size) => Self::SendBufferSize(size),
            WitSocketOption::HopLimit(limit) => Self::HopLimit(limit),
            WitSocketOption::TrafficClass(class) => Self::TrafficClass(class),
        }
    }
}
