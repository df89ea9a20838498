//! Order in which to try the addresses of a name: RFC 6724, section 6.
//!
//! Four of its rules are left out. Rules 3, 4 and 7 need to know more about the
//! machine's own addresses than a socket tells. Rule 9, the longest common
//! prefix, would undo the order by which a DNS server spreads its clients.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// Arbitrary port: nothing is sent.
const PORT: u16 = 9;

/// Time that a source is remembered, after which a change of routes is noticed.
const MEMORY: Duration = Duration::from_secs(1);

/// Maximum of sources remembered.
const MOST: usize = 1024;

/// Sorts the addresses of names, for the guests of a worker.
///
/// Finding the source of a destination takes system calls, which cost several
/// times as much as a cached name. So a source is remembered for a second.
#[derive(Debug, Default)]
pub(crate) struct Destinations(RefCell<SourceAddresses>);

impl Destinations {
    /// Sorts addresses, the best first. The sort is stable.
    pub(crate) fn sort(&self, addresses: &mut [IpAddr]) {
        if addresses.len() < 2 {
            return;
        }
        let mut sources = self.0.borrow_mut();
        sources.refresh(Instant::now());
        let mut probe = Probe::default();
        addresses.sort_by_cached_key(|&destination| {
            rank(destination, sources.of(destination, |it| probe.source(it)))
        });
    }
}

/// Source addresses that the kernel sends from, by destination.
#[derive(Debug, Default)]
struct SourceAddresses {
    known: HashMap<IpAddr, Option<IpAddr>>,
    /// Time at which the first of them was found.
    since: Option<Instant>,
}

impl SourceAddresses {
    /// Forgets the sources if they are old, or too many.
    fn refresh(&mut self, now: Instant) {
        let is_old = |since| now.duration_since(since) >= MEMORY;
        if self.since.is_none_or(is_old) || self.known.len() > MOST {
            self.known.clear();
            self.since = Some(now);
        }
    }

    /// Returns the source of a destination, asking for it if it is unknown.
    fn of(
        &mut self,
        destination: IpAddr,
        ask: impl FnOnce(IpAddr) -> Option<IpAddr>,
    ) -> Option<IpAddr> {
        *self
            .known
            .entry(destination)
            .or_insert_with(|| ask(destination))
    }
}

/// Asks the kernel for sources, by one socket for each family.
#[derive(Debug, Default)]
struct Probe {
    ipv4: Option<Socket>,
    ipv6: Option<Socket>,
}

impl Probe {
    /// Returns the address that the kernel would send from, if it has a route.
    /// Connecting a datagram socket sends nothing.
    fn source(&mut self, destination: IpAddr) -> Option<IpAddr> {
        let kept = match destination {
            IpAddr::V4(_) => &mut self.ipv4,
            IpAddr::V6(_) => &mut self.ipv6,
        };
        let destination = SocketAddr::new(destination, PORT);
        let socket = match kept {
            Some(socket) => {
                // Without this, the socket would keep its source: connect(2).
                rustix::net::connect_unspec(&*socket).ok()?;
                socket
            }
            None => {
                let domain = Domain::for_address(destination);
                kept.insert(Socket::new(domain, Type::DGRAM, None).ok()?)
            }
        };
        socket.connect(&destination.into()).ok()?;
        let address = socket.local_addr().ok()?.as_socket()?;
        Some(address.ip())
    }
}

/// The rules that decide, in order; smaller is better.
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

/// Scope of an address: sections 3.1 and 3.2.
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

/// Returns precedence and label, by the table of section 2.1.
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
    use std::net::Ipv4Addr;

    use super::*;

    /// True if the first of two destinations is the better one, given these
    /// sources. The examples are those of section 10.2.
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
        Destinations::default().sort(&mut addresses);
        assert_eq!(addresses, before, "equals stay as they are");
    }

    #[test]
    fn one_socket_says_the_same_of_many_destinations_as_one_for_each() {
        let mut probe = Probe::default();
        // Each family's first destination would leave its source to those that
        // follow.
        for text in [
            "127.0.0.1",
            "192.0.2.1",
            "127.0.0.2",
            "255.255.255.255",
            "8.8.8.8",
            "127.0.0.1",
            "::1",
            "2001:db8::1",
            "fe80::1",
            "::1",
        ] {
            let destination = text.parse().expect("an address");
            let apart = Probe::default().source(destination);
            assert_eq!(probe.source(destination), apart, "{text}");
        }
    }

    #[test]
    fn a_source_is_asked_for_once_a_second() {
        let destination = IpAddr::from([192, 0, 2, 1]);
        let (old, new) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut sources = SourceAddresses::default();
        let begin = Instant::now();
        let mut find = |after: Duration, source| {
            sources.refresh(begin + after);
            sources.of(destination, |_| source)
        };
        assert_eq!(find(Duration::ZERO, Some(old)), Some(old));
        assert_eq!(find(MEMORY / 2, Some(new)), Some(old), "it is remembered");
        assert_eq!(find(MEMORY, Some(new)), Some(new), "the route has changed");
        assert_eq!(find(2 * MEMORY, None), None, "the route is gone");
    }

    #[test]
    fn sources_do_not_grow_without_bound() {
        let mut sources = SourceAddresses::default();
        let now = Instant::now();
        for number in 0..3 * u32::try_from(MOST).expect("a small number") {
            sources.refresh(now);
            sources.of(Ipv4Addr::from_bits(number).into(), |_| None);
        }
        assert!(sources.known.len() <= MOST + 1);
    }
}
