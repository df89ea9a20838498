//! What a guest may reach: every allow and deny, in one place, asked before
//! any system call.
//!
//! Nothing is allowed unless a rule allows it. A rule is about the text that a
//! guest asks for or about an address, and never turns one into the other:
//! whoever answers DNS questions for a name must not be able to lead a guest
//! that may reach this name into the network that the host stands in. So an
//! address that is not of the public Internet needs a rule that names it,
//! whatever name led there and however wide the other rules are.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// All that a guest may reach; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    connect: Vec<ConnectPattern>,
}

impl Policy {
    /// Whether a connection to a host may be begun: before its name is looked
    /// up. An address as text is judged as an address.
    ///
    /// A name that this allows does not allow all that it resolves to: see
    /// [`resolved_address`](Self::resolved_address).
    ///
    /// # Errors
    /// No rule matches.
    pub fn connect_name(&self, host: &str, port: u16) -> Result<(), Denied> {
        let host = canonical_name(host);
        if let Ok(ip) = host.parse() {
            return self.connect_address(SocketAddr::new(ip, port));
        }
        if self.rules(port).any(|rule| rule.matches_name(&host)) {
            return Ok(());
        }
        Err(Denied::target(&Target::name(&host, port)))
    }

    /// Whether a connection to an address that the guest itself named may be
    /// begun.
    ///
    /// # Errors
    /// No rule matches.
    pub fn connect_address(&self, address: SocketAddr) -> Result<(), Denied> {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        if self.names_address(ip, port)
            || (is_public(ip) && self.rules(port).any(|rule| *rule == HostPattern::Any))
        {
            return Ok(());
        }
        Err(Denied::target(&Target::Address(SocketAddr::new(ip, port))))
    }

    /// Whether an address may be connected to that a name was resolved to.
    ///
    /// Public addresses are allowed by the rule that allows the name. Others
    /// (loopback, private, link-local, shared, multicast, reserved) need a rule
    /// that names them, except loopback where a rule names `localhost`.
    ///
    /// # Errors
    /// The name is not allowed, or its address is not.
    pub fn resolved_address(&self, host: &str, address: SocketAddr) -> Result<(), Denied> {
        self.connect_name(host, address.port())?;
        let host = canonical_name(host);
        let (ip, port) = (address.ip().to_canonical(), address.port());
        if is_public(ip) || self.names_address(ip, port) {
            return Ok(());
        }
        let localhost = host == "localhost" || host.ends_with(".localhost");
        if localhost
            && ip.is_loopback()
            && self
                .rules(port)
                .any(|rule| *rule != HostPattern::Any && rule.matches_name(&host))
        {
            return Ok(());
        }
        let address = Target::Address(SocketAddr::new(ip, port));
        Err(Denied {
            what: format!(
                "connecting to {} is not allowed at {ip}, which is not a public address",
                Target::name(&host, port)
            ),
            pattern: Some(address.to_string()),
        })
    }

    /// Whether a connection to a Unix domain socket may be begun. The path must
    /// be the one of a rule; `..` and symbolic links are not followed to
    /// compare them.
    ///
    /// # Errors
    /// No rule matches.
    pub fn connect_unix(&self, path: &Path) -> Result<(), Denied> {
        let matches = |pattern: &ConnectPattern| match pattern {
            ConnectPattern::Unix(allowed) => allowed == path,
            ConnectPattern::Host { .. } => false,
        };
        if self.connect.iter().any(matches) {
            return Ok(());
        }
        Err(Denied::target(&Target::Unix(path)))
    }

    /// Whether a name may be looked up: where some rule would allow to connect
    /// to it, on any port. An address as text is its own answer and always
    /// allowed.
    ///
    /// # Errors
    /// No rule matches.
    pub fn resolve(&self, host: &str) -> Result<(), Denied> {
        let host = canonical_name(host);
        let matches = |pattern: &ConnectPattern| match pattern {
            ConnectPattern::Host { host: rule, .. } => rule.matches_name(&host),
            ConnectPattern::Unix(_) => false,
        };
        if host.parse::<IpAddr>().is_ok() || self.connect.iter().any(matches) {
            return Ok(());
        }
        let pattern = valid_name(&host).then(|| format!("'{host}:*'"));
        Err(Denied {
            what: format!("looking {} up is not allowed", printable(&host)),
            pattern,
        })
    }

    /// Whether a rule names this address, rather than only allow all hosts.
    fn names_address(&self, ip: IpAddr, port: u16) -> bool {
        self.rules(port)
            .any(|rule| matches!(rule, HostPattern::Network(net) if net.contains(&ip)))
    }

    /// The rules for hosts that speak of a port.
    fn rules(&self, port: u16) -> impl Iterator<Item = &HostPattern> {
        self.connect
            .iter()
            .filter_map(move |pattern| match pattern {
                ConnectPattern::Host {
                    host,
                    port: allowed,
                } => allowed
                    .is_none_or(|allowed| allowed == port)
                    .then_some(host),
                ConnectPattern::Unix(_) => None,
            })
    }
}

impl FromIterator<ConnectPattern> for Policy {
    fn from_iter<T: IntoIterator<Item = ConnectPattern>>(patterns: T) -> Self {
        Self {
            connect: patterns.into_iter().collect(),
        }
    }
}

/// The argument of one `--allow-connect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectPattern {
    /// `HOST:PORT`.
    Host {
        /// The hosts.
        host: HostPattern,
        /// The port; none is any.
        port: Option<u16>,
    },
    /// `unix:PATH`: one Unix domain socket.
    Unix(PathBuf),
}

/// The host part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// `*`: all names, and all public addresses.
    Any,
    /// One name, in lower case.
    Name(String),
    /// `*.NAME`: all names below this one, but not itself.
    Below(String),
    /// `IP` or `NETWORK/BITS`: addresses, public or not.
    Network(IpNet),
}

impl HostPattern {
    /// Whether this allows a name that is in lower case, without a final dot.
    fn matches_name(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Name(allowed) => allowed == name,
            Self::Below(parent) => name
                .strip_suffix(parent.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty()),
            Self::Network(_) => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(bracketed) = text.strip_prefix('[') {
            let inner = bracketed.strip_suffix(']').ok_or(PatternError::Bracket)?;
            return match network(inner)? {
                Some(net) if inner.contains(':') => Ok(Self::Network(net)),
                _ => Err(PatternError::Address(inner.to_owned())),
            };
        }
        if let Some(net) = network(text)? {
            return Ok(Self::Network(net));
        }
        let lower = canonical_name(text);
        if let Some(parent) = lower.strip_prefix("*.") {
            return match valid_name(parent) {
                true => Ok(Self::Below(parent.to_owned())),
                false => Err(PatternError::Name(text.to_owned())),
            };
        }
        if lower.contains('*') {
            return Err(PatternError::Wildcard(text.to_owned()));
        }
        if !valid_name(&lower) {
            return Err(PatternError::Name(text.to_owned()));
        }
        // `127.1` would be an address to getaddrinfo(3).
        if lower.rsplit('.').next().is_some_and(ends_as_number) {
            return Err(PatternError::Address(text.to_owned()));
        }
        Ok(Self::Name(lower))
    }
}

impl FromStr for ConnectPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.is_empty() {
                true => Err(PatternError::Path),
                false => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = match authority.strip_prefix('[') {
                Some(inner) => format!("[{}]", inner.split(']').next().unwrap_or_default()),
                None => authority.split(':').next().unwrap_or_default().to_owned(),
            };
            let port = if matches!(scheme, "http" | "ws") {
                80
            } else {
                443
            };
            let port = authority
                .rsplit_once(':')
                .and_then(|(_, digits)| digits.parse().ok())
                .unwrap_or(port);
            return Err(PatternError::Url(format!("{host}:{port}")));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(PatternError::Brackets(text.to_owned()));
        }
        let after_bracket = text.rfind(']').map_or(0, |at| at + 1);
        let Some(colon) = text[after_bracket..]
            .rfind(':')
            .map(|at| after_bracket + at)
        else {
            return Err(PatternError::NoPort(text.to_owned()));
        };
        let (host, port) = (&text[..colon], &text[colon + 1..]);
        if host.is_empty() {
            return Err(PatternError::NoHost(text.to_owned()));
        }
        if !host.starts_with('[') && host.contains(':') {
            return Err(PatternError::Brackets(host.to_owned()));
        }
        let host = host.parse()?;
        let port = match port {
            "*" => None,
            digits => match digits.parse() {
                Ok(0) | Err(_) => return Err(PatternError::Port(digits.to_owned())),
                Ok(port) => Some(port),
            },
        };
        Ok(Self::Host { host, port })
    }
}

/// Why the text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No port was given.
    #[error("no port: write {0}:443 for one, or '{0}:*' for all")]
    NoPort(String),
    /// No host was given.
    #[error("no host: write '*{0}' for all hosts")]
    NoHost(String),
    /// What follows the last colon is no port.
    #[error("'{0}' is not a port: write a number from 1 to 65535, or *")]
    Port(String),
    /// A `[` has no `]`.
    #[error("a [ without its ]")]
    Bracket,
    /// An IPv6 address stands without brackets.
    #[error("an IPv6 address needs brackets: [{0}]:443")]
    Brackets(String),
    /// It is neither an address nor a network.
    #[error("'{0}' is neither an IP address nor a network, such as 10.0.0.0/8 or [fd00::/8]")]
    Address(String),
    /// The network's address has bits that its prefix does not cover.
    #[error("{0} has bits set after its prefix: did you mean {1}?")]
    HostBits(IpNet, IpNet),
    /// A star stands elsewhere than as the first label.
    #[error("'{0}': a * stands for a whole host, or for what precedes a name as in *.example.org")]
    Wildcard(String),
    /// It is no host name.
    #[error("'{0}' is not a host name (one that is not ASCII is written in its xn-- form)")]
    Name(String),
    /// It is a URL.
    #[error("a host and a port are wanted, not a URL: write {0}")]
    Url(String),
    /// `unix:` is followed by nothing.
    #[error("no path after unix:")]
    Path,
}

/// What the policy does not allow, and which flag would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    what: String,
    pattern: Option<String>,
}

impl Denied {
    fn target(target: &Target<'_>) -> Self {
        let pattern = match target {
            Target::Name(host, _) if !valid_name(host) => None,
            // What is not text cannot be written as a pattern.
            Target::Unix(path) => path.to_str().map(|_| target.to_string()),
            _ => Some(target.to_string()),
        };
        Self {
            what: format!("connecting to {target} is not allowed"),
            pattern,
        }
    }
}

impl Display for Denied {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.pattern {
            Some(pattern) => write!(f, "; --allow-connect {pattern} would allow it"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Denied {}

/// Something to connect to, as a pattern would name it.
enum Target<'a> {
    Name(&'a str, u16),
    Address(SocketAddr),
    Unix(&'a Path),
}

impl<'a> Target<'a> {
    fn name(host: &'a str, port: u16) -> Self {
        match host.parse() {
            Ok(ip) => Self::Address(SocketAddr::new(ip, port)),
            Err(_) => Self::Name(host, port),
        }
    }
}

impl Display for Target<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(host, port) => write!(f, "{}:{port}", printable(host)),
            // Not its own form: a scope such as %2 is no part of a pattern.
            Self::Address(address) => SocketAddr::new(address.ip(), address.port()).fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", printable(&path.to_string_lossy())),
        }
    }
}

/// The address or network that a text stands for, if it is meant as one.
fn network(text: &str) -> Result<Option<IpNet>, PatternError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Some(IpNet::from(ip.to_canonical())));
    }
    if !text.contains('/') {
        return Ok(None);
    }
    let Ok(net) = text.parse::<IpNet>() else {
        return Err(PatternError::Address(text.to_owned()));
    };
    if net != net.trunc() {
        return Err(PatternError::HostBits(net, net.trunc()));
    }
    // Addresses are compared in their canonical form, so networks must be.
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Ok(v4) = Ipv4Net::new(v4, v6.prefix_len() - 96)
    {
        return Ok(Some(v4.into()));
    }
    Ok(Some(net))
}

/// A name in lower case, without the dot that may end it.
fn canonical_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether a text has the form of a host name: RFC 1123, section 2.1, and the
/// underscore that is used in practice.
fn valid_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Whether a last label makes inet_aton(3) take the whole for an address.
fn ends_as_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x");
    match hexadecimal {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// A guest's text for the log: one line, and not a long one.
fn printable(text: &str) -> String {
    text.chars()
        .take(253)
        .flat_map(char::escape_debug)
        .collect()
}

/// Whether an address is one of the public Internet: "globally reachable" in
/// IANA's registries of special-purpose addresses (RFC 6890), unicast, and no
/// vehicle for an IPv4 address that is not.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(a == 0                                  // this network
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || (a == 100 && b & 0xc0 == 64)       // shared, RFC 6598
        || (a == 192 && b == 0 && c == 0)     // protocol assignments
        || (a == 192 && b == 88 && c == 99)   // 6to4 relays
        || (a == 198 && b & 0xfe == 18)       // benchmarks
        || ip.is_documentation()
        || a >= 224) // multicast, reserved, broadcast
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        // NAT64 (RFC 6052): as public as the IPv4 address inside.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        // Protocol assignments, among them Teredo.
        [0x2001, 0..=0x1ff, ..] => false,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false, // documentation
        [0x2002, ..] => false,                                  // 6to4
        [first, ..] => first & 0xe000 == 0x2000,                // global unicast
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(patterns: &[&str]) -> Policy {
        patterns
            .iter()
            .map(|text| {
                text.parse::<ConnectPattern>()
                    .unwrap_or_else(|e| panic!("{text}: {e}"))
            })
            .collect()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        let none = Policy::default();
        assert!(none.connect_name("example.org", 443).is_err());
        assert!(none.connect_name("localhost", 443).is_err());
        assert!(none.connect_address(address("93.184.216.34:443")).is_err());
        assert!(
            none.resolved_address("example.org", address("93.184.216.34:443"))
                .is_err()
        );
        assert!(none.connect_unix(Path::new("/run/app.sock")).is_err());
        assert!(none.resolve("example.org").is_err());
    }

    #[test]
    fn names_match_by_whole_labels_and_port() {
        for (pattern, host, port, allowed) in [
            ("example.org:443", "example.org", 443, true),
            ("example.org:443", "EXAMPLE.Org", 443, true),
            ("Example.ORG.:443", "example.org.", 443, true),
            ("example.org:443", "example.org", 80, false),
            ("example.org:443", "www.example.org", 443, false),
            ("example.org:443", "badexample.org", 443, false),
            ("example.org:443", "example.org.evil.test", 443, false),
            ("example.org:*", "example.org", 1, true),
            ("*.example.org:443", "www.example.org", 443, true),
            ("*.example.org:443", "a.b.example.org", 443, true),
            ("*.example.org:443", "example.org", 443, false),
            ("*.example.org:443", ".example.org", 443, false),
            ("*.example.org:443", "badexample.org", 443, false),
            ("*:443", "anything.test", 443, true),
            ("*:443", "anything.test", 444, false),
            ("*:*", "anything.test", 444, true),
            // A network allows addresses, not the names that lead there.
            ("0.0.0.0/0:*", "example.org", 443, false),
            // An address as text is an address.
            ("*:443", "93.184.216.34", 443, true),
            ("*:443", "127.0.0.1", 443, false),
            ("*:443", "127.0.0.1.", 443, false),
            ("*:443", "::1", 443, false),
            ("127.0.0.1:443", "127.0.0.1", 443, true),
            ("[::1]:443", "::1", 443, true),
            ("[::1]:443", "0:0::1", 443, true),
        ] {
            assert_eq!(
                policy(&[pattern]).connect_name(host, port).is_ok(),
                allowed,
                "{pattern} and {host}:{port}"
            );
        }
    }

    #[test]
    fn addresses_need_a_network_or_to_be_public() {
        for (pattern, target, allowed) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("[::ffff:10.0.0.0/104]:80", "10.1.2.3:80", true),
            ("10.0.0.0/8:*", "10.255.0.1:9", true),
            ("10.0.0.0/8:*", "[::ffff:10.255.0.1]:9", true),
            ("10.0.0.0/8:*", "11.0.0.1:9", false),
            ("0.0.0.0/0:*", "192.168.1.1:9", true),
            ("0.0.0.0/0:*", "[2606:4700::1]:9", false),
            ("[::/0]:*", "[fd00::1]:9", true),
            ("[::/0]:*", "[::ffff:10.0.0.1]:9", false),
            ("[fd00::/8]:443", "[fd12::1]:443", true),
            ("[fd00::/8]:443", "[fe80::1]:443", false),
            ("*:443", "93.184.216.34:443", true),
            ("*:443", "[2606:4700::1]:443", true),
            ("*:443", "10.0.0.1:443", false),
            ("*:443", "[::ffff:10.0.0.1]:443", false),
            ("*:443", "[64:ff9b::5db8:d822]:443", true),
            ("*:443", "[64:ff9b::a00:1]:443", false),
            // A name's rule says nothing of addresses.
            ("localhost:80", "127.0.0.1:80", false),
            ("example.org:80", "93.184.216.34:80", false),
        ] {
            assert_eq!(
                policy(&[pattern]).connect_address(address(target)).is_ok(),
                allowed,
                "{pattern} and {target}"
            );
        }
    }

    #[test]
    fn a_resolver_cannot_widen_a_permission() {
        for (patterns, host, target, allowed) in [
            (
                &["example.org:443"][..],
                "example.org",
                "93.184.216.34:443",
                true,
            ),
            (
                &["example.org:443"],
                "EXAMPLE.org.",
                "93.184.216.34:443",
                true,
            ),
            (
                &["example.org:443"],
                "example.org",
                "93.184.216.34:80",
                false,
            ),
            (
                &["example.org:443"],
                "other.org",
                "93.184.216.34:443",
                false,
            ),
            (&["example.org:443"], "example.org", "127.0.0.1:443", false),
            (
                &["example.org:443"],
                "example.org",
                "[::ffff:169.254.169.254]:443",
                false,
            ),
            (&["example.org:443"], "example.org", "0.0.0.0:443", false),
            (&["*:443"], "example.org", "10.0.0.1:443", false),
            (&["*:443"], "127.1", "127.0.0.1:443", false),
            (&["*:443"], "localhost", "127.0.0.1:443", false),
            (&["localhost:443"], "localhost", "127.0.0.1:443", true),
            (&["localhost:443"], "localhost", "[::1]:443", true),
            (&["localhost:443"], "localhost", "10.0.0.1:443", false),
            (&["*.localhost:443"], "app.localhost", "127.0.0.1:443", true),
            (
                &["localhost.example:443"],
                "localhost.example",
                "127.0.0.1:443",
                false,
            ),
            (
                &["intranet.test:443", "10.0.0.0/8:443"],
                "intranet.test",
                "10.0.0.1:443",
                true,
            ),
            (
                &["intranet.test:443", "10.0.0.0/8:80"],
                "intranet.test",
                "10.0.0.1:443",
                false,
            ),
            (&["10.0.0.0/8:443"], "intranet.test", "10.0.0.1:443", false),
            (&["127.0.0.1:443"], "127.0.0.1", "127.0.0.1:443", true),
        ] {
            assert_eq!(
                policy(patterns)
                    .resolved_address(host, address(target))
                    .is_ok(),
                allowed,
                "{patterns:?} and {host} at {target}"
            );
        }
    }

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().expect("an address")), "{text}");
        }
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2606:4700::1",
            "2a00:1450::1",
            "3ffe::1",
            "64:ff9b::808:808",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(text.parse().expect("an address")), "{text}");
        }
    }

    #[test]
    fn unix_sockets_are_named_by_their_path() {
        let one = policy(&["unix:/run/app.sock", "*:*"]);
        assert!(one.connect_unix(Path::new("/run/app.sock")).is_ok());
        assert!(one.connect_unix(Path::new("/run//./app.sock")).is_ok());
        assert!(one.connect_unix(Path::new("/run/x/../app.sock")).is_err());
        assert!(one.connect_unix(Path::new("/run/app.sock2")).is_err());
        assert!(one.connect_unix(Path::new("/run")).is_err());
    }

    #[test]
    fn names_are_looked_up_where_a_port_of_them_is_allowed() {
        let some = policy(&["example.org:443", "*.example.com:1", "10.0.0.0/8:*"]);
        for (host, allowed) in [
            ("example.org", true),
            ("EXAMPLE.ORG.", true),
            ("a.example.com", true),
            ("example.com", false),
            ("other.org", false),
            ("10.0.0.1", true),
            ("192.168.0.1", true),
            ("::1", true),
        ] {
            assert_eq!(some.resolve(host).is_ok(), allowed, "{host}");
        }
        assert!(policy(&["*:443"]).resolve("other.org").is_ok());
    }

    #[test]
    fn what_is_denied_says_which_flag_would_allow_it() {
        let none = Policy::default();
        let denied = |result: Result<(), Denied>| result.expect_err("it is refused").to_string();
        assert_eq!(
            denied(none.connect_address(address("10.0.0.1:80"))),
            "connecting to 10.0.0.1:80 is not allowed; --allow-connect 10.0.0.1:80 would allow it"
        );
        assert_eq!(
            denied(none.connect_name("Example.org.", 443)),
            "connecting to example.org:443 is not allowed; \
             --allow-connect example.org:443 would allow it"
        );
        assert_eq!(
            denied(none.connect_name("::1", 443)),
            "connecting to [::1]:443 is not allowed; --allow-connect [::1]:443 would allow it"
        );
        assert_eq!(
            denied(none.connect_unix(Path::new("/run/a"))),
            "connecting to unix:/run/a is not allowed; --allow-connect unix:/run/a would allow it"
        );
        assert_eq!(
            denied(none.resolve("example.org")),
            "looking example.org up is not allowed; \
             --allow-connect 'example.org:*' would allow it"
        );
        assert_eq!(
            denied(policy(&["*:80"]).resolved_address("intranet.test", address("10.0.0.1:80"))),
            "connecting to intranet.test:80 is not allowed at 10.0.0.1, which is not a public \
             address; --allow-connect 10.0.0.1:80 would allow it"
        );
    }

    #[test]
    fn a_flag_that_is_proposed_does_allow() {
        for text in [
            "10.0.0.1:80",
            "[fd00::1]:80",
            "[::ffff:10.0.0.1]:80",
            "8.8.8.8:53",
        ] {
            let target = address(text);
            let denied = Policy::default()
                .connect_address(target)
                .expect_err("it is refused");
            assert!(
                policy(&[&denied.pattern.expect("a flag")])
                    .connect_address(target)
                    .is_ok(),
                "{text}"
            );
        }
    }

    #[test]
    fn a_guests_text_cannot_forge_log_lines() {
        let denied = Policy::default()
            .connect_name("a\nnetwasm: all is well", 1)
            .expect_err("it is refused");
        assert_eq!(
            denied.to_string(),
            "connecting to a\\nnetwasm: all is well:1 is not allowed"
        );
    }

    #[test]
    fn what_is_no_pattern_says_what_to_write() {
        for (text, error) in [
            (
                "example.org",
                "no port: write example.org:443 for one, or 'example.org:*' for all",
            ),
            ("*", "no port: write *:443 for one, or '*:*' for all"),
            (
                "[::1]",
                "no port: write [::1]:443 for one, or '[::1]:*' for all",
            ),
            (":443", "no host: write '*:443' for all hosts"),
            (
                "example.org:",
                "'' is not a port: write a number from 1 to 65535, or *",
            ),
            (
                "example.org:0",
                "'0' is not a port: write a number from 1 to 65535, or *",
            ),
            (
                "example.org:65536",
                "'65536' is not a port: write a number from 1 to 65535, or *",
            ),
            (
                "example.org:http",
                "'http' is not a port: write a number from 1 to 65535, or *",
            ),
            ("::1", "an IPv6 address needs brackets: [::1]:443"),
            (
                "fd00::/8:443",
                "an IPv6 address needs brackets: [fd00::/8]:443",
            ),
            ("[::1:443", "a [ without its ]"),
            (
                "10.0.0.1/8:1",
                "10.0.0.1/8 has bits set after its prefix: did you mean 10.0.0.0/8?",
            ),
            (
                "www.*.org:1",
                "'www.*.org': a * stands for a whole host, or for what precedes a name as in *.example.org",
            ),
            (
                "*.:1",
                "'*.': a * stands for a whole host, or for what precedes a name as in *.example.org",
            ),
            (
                "bücher.de:1",
                "'bücher.de' is not a host name (one that is not ASCII is written in its xn-- form)",
            ),
            (
                "a..b:1",
                "'a..b' is not a host name (one that is not ASCII is written in its xn-- form)",
            ),
            (
                "127.1:1",
                "'127.1' is neither an IP address nor a network, such as 10.0.0.0/8 or [fd00::/8]",
            ),
            (
                "0x7f000001:1",
                "'0x7f000001' is neither an IP address nor a network, such as 10.0.0.0/8 or [fd00::/8]",
            ),
            (
                "10.0.0.0/33:1",
                "'10.0.0.0/33' is neither an IP address nor a network, such as 10.0.0.0/8 or [fd00::/8]",
            ),
            (
                "[10.0.0.1]:1",
                "'10.0.0.1' is neither an IP address nor a network, such as 10.0.0.0/8 or [fd00::/8]",
            ),
            (
                "https://example.org/x",
                "a host and a port are wanted, not a URL: write example.org:443",
            ),
            (
                "http://example.org:8080",
                "a host and a port are wanted, not a URL: write example.org:8080",
            ),
            (
                "http://[::1]/",
                "a host and a port are wanted, not a URL: write [::1]:80",
            ),
            ("unix:", "no path after unix:"),
        ] {
            match text.parse::<ConnectPattern>() {
                Ok(pattern) => panic!("{text} gave {pattern:?}"),
                Err(found) => assert_eq!(found.to_string(), error, "{text}"),
            }
        }
    }
}
