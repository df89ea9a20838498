//! The order in which the addresses of a name should be tried: RFC 6724,
//! section 6.
//!
//! Of its ten rules these are left out: 3, 4 and 7, which need to know more of
//! the machine's own addresses than a socket tells, and 9, the longest common
//! prefix, which would undo the order by which a DNS server spreads its
//! clients.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// Any port: nothing is sent.
const PORT: u16 = 9;

/// Sorts addresses, the best first; equals stay as they are.
pub(crate) fn sort(addresses: &mut [IpAddr]) {
    if addresses.len() > 1 {
        addresses.sort_by_cached_key(|&destination| rank(destination, source(destination)));
    }
}

/// The address that the kernel would send from, if it has a route. Connecting
/// a datagram socket sends nothing.
fn source(destination: IpAddr) -> Option<IpAddr> {
    let destination = SocketAddr::new(destination, PORT);
    let socket = Socket::new(Domain::for_address(destination), Type::DGRAM, None).ok()?;
    socket.connect(&destination.into()).ok()?;
    let address = socket.local_addr().ok()?.as_socket()?;
    Some(address.ip())
}

/// The rules that decide, in their order; smaller is better.
type Rank = (bool, bool, bool, Reverse<u8>, Scope);

fn rank(destination: IpAddr, source: Option<IpAddr>) -> Rank {
    let scope = Scope::of(destination);
    let (precedence, label) = policy(destination);
    (
        // Rule 1: avoid unusable destinations.
        source.is_none(),
        // Rule 2: prefer matching scope.
        source.is_none_or(|source| Scope::of(source) != scope),
        // Rule 5: prefer matching label.
        source.is_none_or(|source| policy(source).1 != label),
        // Rule 6: prefer higher precedence.
        Reverse(precedence),
        // Rule 8: prefer smaller scope.
        scope,
    )
}

/// How far an address reaches: sections 3.1 and 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Link,
    Site,
    Global,
}

impl Scope {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) if ip.is_loopback() || ip.is_link_local() => Self::Link,
            IpAddr::V4(_) => Self::Global,
            IpAddr::V6(ip) if ip.is_loopback() || ip.is_unicast_link_local() => Self::Link,
            IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfec0 => Self::Site,
            IpAddr::V6(_) => Self::Global,
        }
    }
}

/// Precedence and label: the table of section 2.1.
fn policy(ip: IpAddr) -> (u8, u8) {
    let ip = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    match ip.segments() {
        _ if ip == Ipv6Addr::LOCALHOST => (50, 0),
        [0, 0, 0, 0, 0, 0xffff, ..] => (35, 4), // IPv4
        [0, 0, 0, 0, 0, 0, ..] => (1, 3),       // IPv4-compatible
        [0x2002, ..] => (30, 2),                // 6to4
        [0x2001, 0, ..] => (5, 5),              // Teredo
        [0x3ffe, ..] => (1, 12),                // 6bone
        [first, ..] if first & 0xfe00 == 0xfc00 => (3, 13), // unique local
        [first, ..] if first & 0xffc0 == 0xfec0 => (1, 11), // site-local
        _ => (40, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the first of two destinations is the better one, with these
    /// sources: the examples of section 10.2.
    fn prefers(first: (&str, Option<&str>), second: (&str, Option<&str>)) -> bool {
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        let [first, second] = [first, second]
            .map(|(destination, source)| rank(parse(destination), source.map(parse)));
        first < second
    }

    #[test]
    fn destinations_are_preferred_as_in_the_examples_of_the_rfc() {
        let global = ("2001:db8:1::1", Some("2001:db8:1::2"));
        // Matching scope.
        assert!(prefers(global, ("198.51.100.121", Some("169.254.13.78"))));
        assert!(prefers(
            ("198.51.100.121", Some("198.51.100.117")),
            ("2001:db8:1::1", Some("fe80::1"))
        ));
        // Higher precedence.
        assert!(prefers(global, ("10.1.2.3", Some("10.1.2.4"))));
        // Smaller scope.
        assert!(prefers(("fe80::1", Some("fe80::2")), global));
        // Matching label.
        assert!(prefers(
            ("2002:c633:6401::1", Some("2002:c633:6401::2")),
            ("2001:db8:1::1", Some("2002:c633:6401::2"))
        ));
        assert!(prefers(global, ("fd11::1", Some("2001:db8:1::2"))));
    }

    #[test]
    fn what_cannot_be_reached_comes_last() {
        assert!(prefers(
            ("10.1.2.3", Some("10.1.2.4")),
            ("2001:db8:1::1", None)
        ));
        let mut addresses: Vec<IpAddr> = ["127.0.0.2", "127.0.0.1", "127.0.0.3"]
            .map(|text| text.parse().expect("an address"))
            .into();
        let before = addresses.clone();
        sort(&mut addresses);
        assert_eq!(addresses, before, "equals stay as they are");
    }
}
