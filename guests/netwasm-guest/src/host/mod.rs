//! The host, as this library sees it: in a component by the bindings, and
//! natively, for tests, in memory. Both offer the same functions.

use std::net::IpAddr;
use std::time::Duration;

use crate::{Address, TlsOptions};

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectOptions {
    pub(crate) tls: Option<TlsOptions>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) local_address: Option<IpAddr>,
}

/// Options for opening a WebSocket connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WebSocketOptions {
    pub(crate) protocols: Vec<String>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) tls: Option<TlsOptions>,
    pub(crate) compress: bool,
    pub(crate) timeout: Option<Duration>,
}

/// Options of a pool and its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolOptions {
    pub(crate) size: u32,
    pub(crate) connect: ConnectOptions,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_age: Option<Duration>,
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
    /// An error, to be told in the form that the client accepts.
    Told(crate::http::Told),
    File(File),
    Path(String),
    Stream(crate::http::BodyMaker),
    /// The messages of a topic.
    Events(RawEvents),
    /// None: the request is forwarded.
    Forward(Box<RawForward>),
}

/// The messages of a topic as events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawEvents {
    pub(crate) topic: String,
    pub(crate) event: Option<String>,
    pub(crate) retry: Option<Duration>,
}

/// A request to be forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawForward {
    pub(crate) to: Upstream,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) method: Option<crate::http::Method>,
    pub(crate) target: Option<String>,
    pub(crate) host: RawHost,
    pub(crate) request: RawEdits,
    pub(crate) response: RawEdits,
    pub(crate) via: bool,
    pub(crate) forwarded: bool,
    pub(crate) x_forwarded: bool,
    pub(crate) believe: bool,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) response_timeout: Option<Duration>,
    pub(crate) retries: u32,
    /// Token, and true if responses are decided about, too.
    pub(crate) decides: Option<(u64, bool)>,
    pub(crate) max_body: Option<u64>,
}

impl Default for RawForward {
    fn default() -> Self {
        Self {
            to: Upstream::Group(String::new()),
            key: None,
            method: None,
            target: None,
            host: RawHost::Keep,
            request: RawEdits::default(),
            response: RawEdits::default(),
            via: false,
            forwarded: false,
            x_forwarded: false,
            believe: false,
            connect_timeout: None,
            response_timeout: None,
            retries: 1,
            decides: None,
            max_body: None,
        }
    }
}

/// The servers that may take a forwarded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    Group(String),
    Server(Endpoint, Option<TlsOptions>, crate::http::HttpVersion),
}

/// The `Host` field of a forwarded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RawHost {
    Keep,
    Server,
    Other(String),
}

/// A decision about the response to a forwarded request.
pub(crate) enum RawVerdict {
    Pass(RawEdits),
    /// A response, or the request is forwarded once more.
    Instead(RawResponse),
}

/// Edits of a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawEdits {
    pub(crate) remove: Vec<String>,
    pub(crate) set: Vec<(String, Vec<u8>)>,
    pub(crate) add: Vec<(String, Vec<u8>)>,
}

/// A response, as the host takes it.
pub(crate) struct RawResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Body,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
}

/// Returns the peer of a connection as text, for the log.
///
/// Every handler of connections needs this, so it is written by hand: what the
/// standard library formats addresses with would be a third of the constants
/// of a small component.
pub(crate) fn peer_name(transport: &Transport) -> String {
    name_of(transport.info().peer)
}

/// Returns an address as text, like [`peer_name`].
pub(crate) fn name_of(peer: Address) -> String {
    let mut text = String::new();
    match peer {
        Address::Ip(address) => {
            match address.ip() {
                IpAddr::V4(ip) => push_numbers(&mut text, ip.octets(), '.', 10),
                IpAddr::V6(ip) => {
                    text.push('[');
                    push_numbers(&mut text, ip.segments(), ':', 16);
                    text.push(']');
                }
            }
            text.push(':');
            push_number(&mut text, address.port().into(), 10);
        }
        Address::Unix(path) => {
            text.push_str("unix:");
            text.push_str(path.as_deref().unwrap_or_default());
        }
    }
    text
}

fn push_numbers(
    text: &mut String,
    numbers: impl IntoIterator<Item = impl Into<u32>>,
    separator: char,
    radix: u32,
) {
    for (at, number) in numbers.into_iter().enumerate() {
        if at > 0 {
            text.push(separator);
        }
        push_number(text, number.into(), radix);
    }
}

fn push_number(text: &mut String, number: u32, radix: u32) {
    if number >= radix {
        push_number(text, number / radix, radix);
    }
    text.extend(char::from_digit(number % radix, radix));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full() {
        let mut text = String::new();
        push_numbers(&mut text, [192_u8, 0, 2, 255], '.', 10);
        text.push(' ');
        push_numbers(&mut text, [0x2001_u16, 0xdb8, 0, 1], ':', 16);
        assert_eq!(text, "192.0.2.255 2001:db8:0:1");
    }
}
