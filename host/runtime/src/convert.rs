//! Conversions between the core's types and those of the WIT package.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use wasmtime_wasi::p3::bindings::sockets::types as sockets;

use netwasm_base::address::Address;
use netwasm_base::error::ConnectionError;
use netwasm_net::tls::SessionInfo;
use netwasm_net::transport::Transport;

use crate::bindings::netwasm::net::http::Method;
use crate::bindings::netwasm::net::types::{
    ConnectionInfo, ErrorCode, IpAddress, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
    SocketAddress, TlsInfo,
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
            ConnectionError::Tls(reason) => Self::Tls(reason.clone()),
            ConnectionError::TlsTruncated => Self::TlsTruncated,
            ConnectionError::FileShortened => Self::Other(Some(error.to_string())),
            ConnectionError::Other(reason) => Self::Other(Some(reason.clone())),
        }
    }
}

impl From<ConnectionError> for ErrorCode {
    fn from(error: ConnectionError) -> Self {
        Self::from(&error)
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
            peer_certificate: info.peer_certificate,
        }
    }
}
