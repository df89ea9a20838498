//! Proxies that say whose connections they pass on.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

use crate::address::Address;
use crate::config::clients::Network;

/// The argument of a `--proxy-protocol-from`: a network, an address, or `unix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// All addresses of a network.
    Network(IpNet),
    /// All that connect to Unix sockets.
    Unix,
}

impl Proxy {
    /// True if a peer is such a proxy.
    #[must_use]
    pub fn includes(&self, peer: &Address) -> bool {
        match (self, peer) {
            (Self::Network(network), Address::Ip(address)) => {
                network.contains(&address.ip().to_canonical())
            }
            (Self::Unix, Address::Unix(_)) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        match text.parse::<Network>() {
            Ok(Network(network)) => Ok(Self::Network(network)),
            Err(_) => Err(ProxyError(text.to_owned())),
        }
    }
}

/// Version of the PROXY protocol that servers of an upstream group get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// A line of text.
    Version1,
    /// A binary header.
    Version2,
}

/// Reason why a text is no `--proxy-protocol-from`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a network: write one such as 10.0.0.0/8 or fd00::/8, an IP address, or unix for \
     all that connect to Unix sockets"
)]
pub struct ProxyError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_networks_addresses_and_unix_sockets() {
        let ip = |text: &str| Address::Ip(text.parse().expect("an address"));
        for (text, peer, includes) in [
            ("10.0.0.0/8", ip("10.1.2.3:4"), true),
            ("10.0.0.0/8", ip("11.1.2.3:4"), false),
            ("10.0.0.1", ip("10.0.0.1:4"), true),
            ("10.0.0.1", ip("10.0.0.2:4"), false),
            ("::1", ip("[::1]:4"), true),
            ("[fd00::/8]", ip("[fd12::1]:4"), true),
            ("0.0.0.0/0", Address::Unix(None), false),
            ("unix", Address::Unix(None), true),
            ("unix", ip("127.0.0.1:4"), false),
        ] {
            let proxy: Proxy = text.parse().expect(text);
            assert_eq!(proxy.includes(&peer), includes, "{text} {peer}");
            assert_eq!(proxy.to_string().parse(), Ok(proxy));
        }
        for text in ["", "10.0.0.1/8", "proxy.example", "10.0.0.0/33", "*"] {
            assert!(text.parse::<Proxy>().is_err(), "{text}");
        }
    }
}
