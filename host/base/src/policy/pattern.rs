//! Patterns of hosts and ports, as arguments of flags.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use crate::listen::{AddressError, ListenAddress};

use super::name::{canonical_name, ends_as_number, valid_name};

/// The argument of one `--allow-connect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectPattern {
    /// `HOST:PORT`.
    Host(HostPort),
    /// `unix:PATH`: one Unix domain socket.
    Unix(PathBuf),
}

impl ConnectPattern {
    pub(super) fn host(&self) -> Option<&HostPort> {
        match self {
            Self::Host(pattern) => Some(pattern),
            Self::Unix(_) => None,
        }
    }

    pub(super) fn unix(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Host(_) => None,
        }
    }
}

impl FromStr for ConnectPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.strip_prefix("unix:") {
            Some("") => Err(PatternError::Path),
            Some(path) => Ok(Self::Unix(PathBuf::from(path))),
            None => text.parse().map(Self::Host),
        }
    }
}

/// The argument of one `--allow-listen`: an address of this machine, with `*` for
/// any port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenPattern {
    /// 127.0.0.1 and ::1, with a port; `None` is any.
    Localhost(Option<u16>),
    /// An address, with a port; `None` is any.
    Address(IpAddr, Option<u16>),
    /// `unix:PATH`: one Unix domain socket.
    Unix(PathBuf),
}

impl ListenPattern {
    /// True if the rule allows an address. A rule for all addresses of the
    /// machine allows each of them.
    pub(super) fn allows(&self, ip: IpAddr, port: u16) -> bool {
        let fits = |allowed: &Option<u16>| allowed.is_none_or(|allowed| allowed == port);
        match self {
            Self::Localhost(allowed) => fits(allowed) && is_localhost(ip),
            Self::Address(rule, allowed) => {
                let all = rule.is_unspecified() && (rule.is_ipv6() || ip.is_ipv4());
                fits(allowed) && (all || rule.to_canonical() == ip)
            }
            Self::Unix(_) => false,
        }
    }

    /// True if the rule allows to listen on loopback.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Localhost(_) => true,
            Self::Address(ip, _) => ip.is_unspecified() || ip.to_canonical().is_loopback(),
            Self::Unix(_) => false,
        }
    }

    pub(super) fn unix(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Localhost(_) | Self::Address(..) => None,
        }
    }
}

impl FromStr for ListenPattern {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let any = text
            .strip_suffix(":*")
            .filter(|_| !text.starts_with("unix:"));
        let address = match any {
            Some("" | "*") => return Err(AddressError::EverywhereAnyPort),
            None => text.parse()?,
            Some(host) => format!("{host}:0").parse()?,
        };
        let port = |port: u16| any.is_none().then_some(port);
        Ok(match address {
            ListenAddress::Localhost(given) => Self::Localhost(port(given)),
            ListenAddress::Socket(address) => Self::Address(address.ip(), port(address.port())),
            ListenAddress::Unix(path) => Self::Unix(path),
            ListenAddress::Passed(name) => return Err(AddressError::NotForGuests(name)),
        })
    }
}

/// True for the addresses that `localhost` stands for: RFC 6761, section 6.3.
pub(super) fn is_localhost(ip: IpAddr) -> bool {
    [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ]
    .contains(&ip)
}

/// `HOST:PORT`: the argument of one `--allow-udp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The hosts.
    pub host: HostPattern,
    /// The port; `None` is any.
    pub port: Option<u16>,
}

/// The host part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// `*`: all names, and all public addresses.
    Any,
    /// One name, in canonical form.
    Name(String),
    /// `*.NAME`: all names below this one, but not itself.
    Below(String),
    /// `IP` or `NETWORK/BITS`: addresses, public or not.
    Network(IpNet),
}

impl HostPattern {
    /// True if the pattern allows a name, given in canonical form.
    pub(super) fn matches_name(&self, name: &str) -> bool {
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

/// The argument of one `--allow-resolve`: names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(pub(super) HostPattern);

impl FromStr for NamePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let digits = port == "*" || (!port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        if digits && !host.contains(':') {
            return Err(PatternError::NeedlessPort(host.to_owned()));
        }
        match text.parse()? {
            HostPattern::Network(_) => Err(PatternError::NotAName(text.to_owned())),
            pattern => Ok(Self(pattern)),
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
        // getaddrinfo(3) would take `127.1` for an address.
        if lower.rsplit('.').next().is_some_and(ends_as_number) {
            return Err(PatternError::Address(text.to_owned()));
        }
        Ok(Self::Name(lower))
    }
}

impl FromStr for HostPort {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.starts_with("unix:") {
            return Err(PatternError::Unix);
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
        Ok(Self { host, port })
    }
}

/// Reason why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No port was given.
    #[error("no port: write {0}:443 for one, or '{0}:*' for all")]
    NoPort(String),
    /// No host was given.
    #[error("no host: write '*{0}' for all hosts")]
    NoHost(String),
    /// The text after the last colon is no port.
    #[error("'{0}' is not a port: write a number from 1 to 65535, or *")]
    Port(String),
    /// A `[` has no `]`.
    #[error("a [ without its ]")]
    Bracket,
    /// An IPv6 address lacks brackets.
    #[error("an IPv6 address needs brackets: [{0}]:443")]
    Brackets(String),
    /// The text is neither an address nor a network.
    #[error("'{0}' is neither an IP address nor a network, such as 10.0.0.0/8 or [fd00::/8]")]
    Address(String),
    /// The network's address has bits that its prefix does not cover.
    #[error("{0} has bits set after its prefix: did you mean {1}?")]
    HostBits(IpNet, IpNet),
    /// A star is not the first label.
    #[error("'{0}': a * stands for a whole host, or for what precedes a name as in *.example.org")]
    Wildcard(String),
    /// The text is not a host name.
    #[error("'{0}' is not a host name")]
    Name(String),
    /// The text is a URL.
    #[error("a host and a port are wanted, not a URL: write {0}")]
    Url(String),
    /// A Unix socket was given instead of a host.
    #[error("a host and a port are wanted, not a Unix socket")]
    Unix,
    /// A port was given with a name.
    #[error("a name is wanted, without a port: write {0}")]
    NeedlessPort(String),
    /// An address was given instead of a name.
    #[error("'{0}' is an address, its own answer: no name needs to be looked up")]
    NotAName(String),
    /// `unix:` is followed by nothing.
    #[error("no path after unix:")]
    Path,
}

/// Parses an address or a network; `None` if the text is neither form.
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
    // Addresses are compared in canonical form, so networks must be canonical
    // too.
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Ok(v4) = Ipv4Net::new(v4, v6.prefix_len() - 96)
    {
        return Ok(Some(v4.into()));
    }
    Ok(Some(net))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("a..b:1", "'a..b' is not a host name"),
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

    #[test]
    fn datagrams_go_to_hosts_and_names_have_no_port() {
        let error = "unix:/run/a".parse::<HostPort>().expect_err("no host");
        assert!(error.to_string().contains("not a Unix socket"), "{error}");
        for text in ["example.org", "*.example.org", "*", "LOCALHOST"] {
            text.parse::<NamePattern>().expect("names");
        }
        for (text, error) in [
            (
                "example.org:80",
                "a name is wanted, without a port: write example.org",
            ),
            ("*:*", "a name is wanted, without a port: write *"),
            (
                "10.0.0.0/8",
                "'10.0.0.0/8' is an address, its own answer: no name needs to be looked up",
            ),
            (
                "::1",
                "'::1' is an address, its own answer: no name needs to be looked up",
            ),
            ("a b", "'a b' is not a host name"),
        ] {
            let found = text.parse::<NamePattern>().expect_err("no name");
            assert_eq!(found.to_string(), error, "{text}");
        }
    }
}
