//! What the host does for this library: in a component by the bindings, and
//! natively, for tests, in memory. Both offer the same functions.

use std::time::Duration;

use crate::Address;

#[cfg(target_family = "wasm")]
mod component;
#[cfg(target_family = "wasm")]
pub(crate) use component::*;

#[cfg(not(target_family = "wasm"))]
pub(crate) mod memory;
#[cfg(not(target_family = "wasm"))]
pub(crate) use memory::*;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A name, or an address as text, with a port.
    Name(String, u16),
    /// The path of a Unix domain socket on the host.
    Unix(String),
}

/// How to connect.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectOptions {
    pub(crate) tls: Option<TlsOptions>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) local_address: Option<std::net::IpAddr>,
}

/// A client's options of a TLS session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    /// `None` for the endpoint's own.
    pub(crate) server_name: Option<String>,
    pub(crate) alpn: Vec<String>,
}

/// The side of the TLS handshake to take.
pub(crate) enum TlsRole {
    Server,
    Client(TlsOptions),
}

/// The body of a response.
pub(crate) enum Body {
    Empty,
    Bytes(Vec<u8>),
    File(File),
    Path(String),
}

/// A response, as the host takes it.
pub(crate) struct RawResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Body,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
}

/// Returns the peer of a connection as text, for the log.
pub(crate) fn peer_name(transport: &Transport) -> String {
    match transport.info().peer {
        Address::Ip(address) => address.to_string(),
        Address::Unix(path) => path.unwrap_or_else(|| "a Unix client".to_owned()),
    }
}
