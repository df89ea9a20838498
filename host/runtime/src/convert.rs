//! Conversions between the core's types and those of the WIT package.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;
use std::time::Duration;

use wasmtime_wasi::p3::bindings::sockets::types as sockets;

use netwasm_base::address::Address;
use netwasm_base::error::ConnectionError;
use netwasm_net::endpoint::{ConnectOptions, Endpoint};
use netwasm_net::tls::{ClientTls, SessionInfo};
use netwasm_net::transport::Transport;

use crate::bindings::netwasm::net::http::Method;
use crate::bindings::netwasm::net::types::{
    ConnectOptions as WitConnectOptions, ConnectionInfo, Endpoint as WitEndpoint,
    Error as WitError, ErrorCode, IpAddress, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
    Operation, SocketAddress, TlsInfo, TlsOptions,
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
/// Fails with `InvalidArgument` if the TLS options cannot be used.
pub(crate) fn connect_options(
    options: WitConnectOptions,
    endpoint: &Endpoint,
) -> Result<(Option<ClientTls>, ConnectOptions), ConnectionError> {
    let tls = options.tls.map(|tls| client_tls(tls, Some(endpoint)));
    let rest = ConnectOptions {
        timeout: options.timeout.map(Duration::from_nanos),
        local: options.local_address.map(Into::into),
    };
    Ok((tls.transpose()?, rest))
}

/// Converts a client's TLS options.
///
/// # Errors
/// Fails with `InvalidArgument` if they cannot be used.
pub(crate) fn client_tls(
    tls: TlsOptions,
    endpoint: Option<&Endpoint>,
) -> Result<ClientTls, ConnectionError> {
    let own = || endpoint.and_then(Endpoint::server_name);
    let name = tls.server_name.or_else(own);
    ClientTls::new(name.ok_or(ConnectionError::InvalidArgument)?, tls.alpn)
}
