//! The header that this host sends as a proxy.
//!
//! Of a client at a Unix socket, and of a connection of its own, it says nothing but
//! that: haproxy refuses the header of version 2 for Unix sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netwasm_base::address::Address;
use netwasm_base::config::ProxyProtocol;

use super::SIGNATURE;

/// A connection that is the proxy's own (version 2): `LOCAL`, without addresses.
const LOCAL: &[u8] = b"\x20\x00\x00\x00";

/// Like [`LOCAL`], in version 1.
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// Returns the header for a connection that is made for a client; `whose` is the
/// client's address, and the one that it has connected to. `None` is a connection
/// of this host's own, such as a health check.
pub(crate) fn compose(version: ProxyProtocol, whose: Option<(&Address, &Address)>) -> Vec<u8> {
    let ends = match whose {
        Some((Address::Ip(client), Address::Ip(destination))) => Some((client, destination)),
        _ => None,
    };
    match (version, ends) {
        (ProxyProtocol::Version1, None) => UNKNOWN.to_vec(),
        (ProxyProtocol::Version2, None) => [&SIGNATURE[..], LOCAL].concat(),
        (ProxyProtocol::Version1, Some((client, destination))) => {
            let (from, to) = (client.port(), destination.port());
            match family(client, destination) {
                Family::V4(client, destination) => {
                    format!("PROXY TCP4 {client} {destination} {from} {to}\r\n")
                }
                Family::V6(client, destination) => {
                    format!("PROXY TCP6 {client} {destination} {from} {to}\r\n")
                }
            }
            .into_bytes()
        }
        (ProxyProtocol::Version2, Some((client, destination))) => {
            let mut header = SIGNATURE.to_vec();
            match family(client, destination) {
                Family::V4(client, destination) => {
                    header.extend([0x21, 0x11, 0, 12]);
                    header.extend(client.octets());
                    header.extend(destination.octets());
                }
                Family::V6(client, destination) => {
                    header.extend([0x21, 0x21, 0, 36]);
                    header.extend(client.octets());
                    header.extend(destination.octets());
                }
            }
            header.extend(client.port().to_be_bytes());
            header.extend(destination.port().to_be_bytes());
            header
        }
    }
}

/// Two addresses of one family.
enum Family {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// Returns both addresses in the family that can hold them.
fn family(client: &SocketAddr, destination: &SocketAddr) -> Family {
    let both = [client, destination].map(|address| address.ip().to_canonical());
    match both {
        [IpAddr::V4(client), IpAddr::V4(destination)] => Family::V4(client, destination),
        both => {
            let [client, destination] = both.map(|ip| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            });
            Family::V6(client, destination)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::parse;

    fn ip(text: &str) -> Address {
        Address::Ip(text.parse().expect("an address"))
    }

    /// Returns what a receiver reads in a header.
    fn read(version: ProxyProtocol, whose: Option<(&Address, &Address)>) -> [Option<Address>; 2] {
        let header = compose(version, whose);
        let parsed = parse(&header).expect("a header").expect("all of it");
        assert_eq!(parsed.length, header.len());
        [parsed.client, parsed.destination]
    }

    #[test]
    fn a_header_says_who_the_client_is_and_where_it_came() {
        for version in [ProxyProtocol::Version1, ProxyProtocol::Version2] {
            for (client, destination) in [
                ("192.0.2.1:5", "198.51.100.1:443"),
                ("[2001:db8::1]:65535", "[::1]:1"),
            ] {
                let (client, destination) = (ip(client), ip(destination));
                let told = read(version, Some((&client, &destination)));
                assert_eq!(told, [Some(client), Some(destination)]);
            }
            // A listener for both families has IPv4 addresses in the form of IPv6.
            let both = (ip("[::ffff:192.0.2.1]:5"), ip("[::ffff:192.0.2.2]:6"));
            let told = read(version, Some((&both.0, &both.1)));
            assert_eq!(told, [Some(ip("192.0.2.1:5")), Some(ip("192.0.2.2:6"))]);
            let mixed = (ip("192.0.2.1:5"), ip("[2001:db8::1]:6"));
            let told = read(version, Some((&mixed.0, &mixed.1)));
            assert_eq!(told[0], Some(ip("[::ffff:192.0.2.1]:5")));
            let unix = Address::Unix(Some("/run/a.sock".into()));
            for whose in [None, Some((&unix, &unix)), Some((&mixed.0, &unix))] {
                assert_eq!(read(version, whose), [None, None]);
            }
        }
        let (client, destination) = (ip("192.0.2.1:5"), ip("192.0.2.2:6"));
        let line = compose(ProxyProtocol::Version1, Some((&client, &destination)));
        assert_eq!(line, b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n");
    }
}
