//! Servers and time limit of name resolution.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// Default port of DNS servers: RFC 1035, section 4.2.
pub const DNS_PORT: u16 = 53;

/// Settings of name resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Servers in the order of asking; empty for the system's.
    pub servers: Vec<DnsServer>,
    /// Time limit of a whole look-up.
    pub timeout: Duration,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
        }
    }
}

/// The argument of one `--dns-server`: `IP` or `IP:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsServer(pub SocketAddr);

impl FromStr for DnsServer {
    type Err = DnsServerError;

    fn from_str(text: &str) -> Result<Self, DnsServerError> {
        let bare = text
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'))
            .unwrap_or(text);
        let address = match (text.parse::<SocketAddr>(), bare.parse::<IpAddr>()) {
            (Ok(address), _) => address,
            (_, Ok(ip)) => SocketAddr::new(ip, DNS_PORT),
            _ => return Err(DnsServerError::Address(text.to_owned())),
        };
        match address.port() {
            0 => Err(DnsServerError::Port),
            _ => Ok(Self(address)),
        }
    }
}

/// Reason why a text is no `--dns-server`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsServerError {
    /// The text is not an address, with or without a port.
    #[error("'{0}' is not an IP address: write one such as 10.0.0.53, 10.0.0.53:5353 or [::1]:53")]
    Address(String),
    /// The port is 0.
    #[error("the port must not be zero")]
    Port,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_servers_are_addresses_with_or_without_a_port() {
        for (text, address) in [
            ("10.0.0.53", "10.0.0.53:53"),
            ("10.0.0.53:5353", "10.0.0.53:5353"),
            ("::1", "[::1]:53"),
            ("[::1]", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(text.parse(), Ok(DnsServer(address)), "{text}");
        }
        for text in [
            "",
            "dns.example",
            "10.0.0.53:",
            "10.0.0.53:0",
            "10.0.0.53:x",
            "[10.0.0.53",
        ] {
            assert!(text.parse::<DnsServer>().is_err(), "{text}");
        }
    }
}
