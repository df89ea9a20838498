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

/// A proxy's account of a connection in its PROXY header, besides the client's
/// address, which is [`Info::peer`]. It is as true as the proxy is honest.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProxyInfo {
    /// The address of the proxy.
    pub proxy: Address,
    /// The address that the client has connected to; `None` if the proxy does not
    /// say.
    pub destination: Option<Address>,
    /// The protocol that the proxy and the client agreed on (ALPN).
    pub alpn: Option<String>,
    /// The name that the client asked for (SNI).
    pub authority: Option<String>,
    /// Identity of the connection at the proxy.
    pub unique_id: Option<Vec<u8>>,
    /// The client's TLS session with the proxy, if it has one.
    pub tls: Option<ProxyTlsInfo>,
    /// All fields of version 2, each with its type, those above included. What is
    /// more than 4 KiB in all is left out.
    pub fields: Vec<(u8, Vec<u8>)>,
}

/// The TLS session of a client with a proxy.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ProxyTlsInfo {
    /// True if the client has presented a certificate, on this connection or in the
    /// session that it has resumed.
    pub client_certificate: bool,
    /// True if the proxy has verified that.
    pub verified: bool,
    /// The version, such as `TLSv1.3`.
    pub version: Option<String>,
    /// The cipher suite, as the proxy names it.
    pub cipher: Option<String>,
    /// The common name of the client's certificate.
    pub common_name: Option<String>,
    /// The algorithm that has signed the proxy's certificate.
    pub signature_algorithm: Option<String>,
    /// The kind of the proxy's key.
    pub key_algorithm: Option<String>,
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
