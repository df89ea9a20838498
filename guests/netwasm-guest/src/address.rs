//! Addresses and TLS sessions.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address with a port.
    Ip(SocketAddr),
    /// The path of a Unix domain socket; `None` if that end has no name, as a
    /// client's end mostly has none.
    Unix(Option<String>),
}

impl Address {
    /// Returns the IP address without the port; `None` for a Unix domain
    /// socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Unix(_) => None,
        }
    }

    /// Returns bytes that stand for whoever is at this address, as a part of a
    /// key for [`shared`](crate::shared): an IPv4 address, or an IPv6 network of
    /// 64 bits, of which a client has all addresses. All clients of a Unix socket
    /// have the same.
    pub fn client_key(&self) -> Vec<u8> {
        match self {
            Self::Ip(address) => match address.ip().to_canonical() {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets()[..8].to_vec(),
            },
            Self::Unix(_) => b"unix".to_vec(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => {
                f.write_str("unix:")?;
                f.write_str(path.as_deref().unwrap_or_default())
            }
        }
    }
}

/// The addresses of a connection, and its TLS session; asyncio's
/// `get_extra_info`.
#[derive(Clone, Debug)]
pub struct Info {
    /// The other end.
    pub peer: Address,
    /// This end.
    pub local: Address,
    /// The TLS session, once its handshake is done.
    pub tls: Option<TlsInfo>,
}

/// A TLS session.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TlsInfo {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: String,
    /// The cipher suite by its IANA name.
    pub cipher: String,
    /// The protocol that both sides agreed on (ALPN, RFC 7301).
    pub alpn: Option<String>,
    /// The name that the client asked for (SNI, RFC 6066).
    pub server_name: Option<String>,
    /// The peer's verified certificates, DER-encoded, its own first. Empty if
    /// it sent none.
    pub peer_certificates: Vec<Vec<u8>>,
}
