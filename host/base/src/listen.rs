//! Kinds and addresses of listeners.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Maximum length of a Unix socket's path: `sun_path` less its final NUL,
/// unix(7).
const MAX_UNIX_PATH: usize = 107;

/// A listener: one `--tcp`, `--tls`, `--udp`, `--http`, `--https` or
/// `--http-redirect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Kind of the listener.
    pub kind: ListenerKind,
    /// Address to listen on.
    pub address: ListenAddress,
}

/// Kind of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerKind {
    /// Plain byte streams.
    Tcp,
    /// Byte streams over TLS.
    Tls,
    /// Datagrams.
    Udp,
    /// HTTP/1 and HTTP/2.
    Http,
    /// HTTP/1 and HTTP/2 over TLS.
    Https,
    /// HTTP/1 and HTTP/2 whose requests are redirected to HTTPS.
    Redirect,
}

impl ListenerKind {
    /// Returns the listener's flag.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::Tcp => "--tcp",
            Self::Tls => "--tls",
            Self::Udp => "--udp",
            Self::Http => "--http",
            Self::Https => "--https",
            Self::Redirect => "--http-redirect",
        }
    }

    /// True if connections begin with a TLS handshake.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Https)
    }

    /// True if the host parses requests.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https | Self::Redirect)
    }
}

/// Address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A port of localhost: 127.0.0.1 and, if the machine has it, ::1.
    Localhost(u16),
    /// One address.
    Socket(SocketAddr),
    /// A Unix domain socket: a path, or `@NAME` (see [`crate::unix`]).
    Unix(PathBuf),
    /// Sockets that the service manager passes under this name:
    /// sd_listen_fds(3).
    Passed(String),
}

impl ListenAddress {
    /// Returns the places that no other listener may take; none if the system
    /// picks the port.
    pub(super) fn places(&self) -> Vec<Self> {
        let localhost = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        match self {
            Self::Localhost(0) => Vec::new(),
            Self::Socket(address) if address.port() == 0 => Vec::new(),
            Self::Localhost(port) => localhost
                .map(|ip: IpAddr| Self::Socket(SocketAddr::new(ip, *port)))
                .into(),
            Self::Socket(_) | Self::Unix(_) | Self::Passed(_) => vec![self.clone()],
        }
    }
}

/// Formats the address as on the command line.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Localhost(port) => port.fmt(f),
            Self::Socket(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Passed(name) => write!(f, "fd:{name}"),
        }
    }
}

/// Parses `PORT`, `localhost:PORT`, `IP:PORT`, `[IPV6]:PORT`, `unix:PATH`, or
/// `unix:@NAME`.
impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            // A NUL stands before an abstract name, and behind a path.
            let length = path.strip_prefix('@').unwrap_or(path).len();
            return match length {
                0 => Err(AddressError::NoPath),
                1..=MAX_UNIX_PATH => Ok(Self::Unix(PathBuf::from(path))),
                length => Err(AddressError::LongPath(length)),
            };
        }
        if let Some(name) = text.strip_prefix("fd:") {
            // systemd.socket(5), FileDescriptorName.
            let plain = |byte: u8| byte.is_ascii_graphic() && byte != b':';
            return match (1..=255).contains(&name.len()) && name.bytes().all(plain) {
                true => Ok(Self::Passed(name.to_owned())),
                false => Err(AddressError::Passed(name.to_owned())),
            };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Socket(address));
        }
        if let Some((_, rest)) = text.split_once("://") {
            return Err(AddressError::Url(rest.trim_end_matches('/').to_owned()));
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'))
            .unwrap_or(text);
        let port = |digits: &str| {
            digits
                .parse()
                .map_err(|_| AddressError::Port(digits.to_owned()))
        };
        match text.rsplit_once(':') {
            None if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                port(text).map(Self::Localhost)
            }
            Some((host, digits)) if host.eq_ignore_ascii_case("localhost") => {
                port(digits).map(Self::Localhost)
            }
            Some(("" | "*", digits)) => Err(AddressError::Everywhere(port(digits)?)),
            // `::1:8888` is an IPv6 address, too, but rarely meant as one.
            Some((host, digits))
                if host.parse::<Ipv6Addr>().is_ok() && digits.parse::<u16>().is_ok() =>
            {
                Err(AddressError::Brackets(host.to_owned(), port(digits)?))
            }
            _ if bare.parse::<Ipv6Addr>().is_ok() => {
                Err(AddressError::Brackets(bare.to_owned(), 8888))
            }
            _ if bare.parse::<IpAddr>().is_ok() => Err(AddressError::NoPort(bare.to_owned())),
            Some((host, digits)) => {
                port(digits)?;
                Err(AddressError::Host(host.to_owned()))
            }
            None if text.starts_with('/') || text.starts_with('.') => {
                Err(AddressError::Path(text.to_owned()))
            }
            None if text.eq_ignore_ascii_case("localhost") => {
                Err(AddressError::NoPort(text.to_owned()))
            }
            None => Err(AddressError::Unknown(text.to_owned())),
        }
    }
}

/// Reason why a text is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text has none of the forms.
    #[error(
        "'{0}' is not an address: write PORT (of localhost), IP:PORT, [IPV6]:PORT or unix:PATH"
    )]
    Unknown(String),
    /// The port is no number, or too large.
    #[error("'{0}' is not a port: write a number from 0 to 65535, 0 for one that is free")]
    Port(String),
    /// The port is missing.
    #[error("no port: write {0}:8888")]
    NoPort(String),
    /// The host is a star, or empty.
    #[error("write 0.0.0.0:{0} for all IPv4 addresses of this machine, [::]:{0} for all of IPv6")]
    Everywhere(u16),
    /// The host is a star, or empty, and so is the port.
    #[error("write '0.0.0.0:*' for all IPv4 addresses of this machine, '[::]:*' for all of IPv6")]
    EverywhereAnyPort,
    /// An IPv6 address lacks brackets.
    #[error("an IPv6 address needs brackets and a port: write [{0}]:{1}")]
    Brackets(String, u16),
    /// The host is a name.
    #[error("'{0}' is not an IP address: one listens on an address of this machine, or on PORT")]
    Host(String),
    /// The text is a URL.
    #[error("an address is wanted, not a URL: write {0}")]
    Url(String),
    /// A path lacks `unix:`.
    #[error("a Unix socket is written unix:{0}")]
    Path(String),
    /// `fd:` is followed by what is no name.
    #[error("'{0}' is not the name of a passed socket: write fd:NAME, with its FileDescriptorName")]
    Passed(String),
    /// A guest may not take a socket that the service manager passed.
    #[error("fd:{0} is for the host's listeners: a guest binds its own, so write its address")]
    NotForGuests(String),
    /// `unix:` is followed by nothing.
    #[error("no path after unix:")]
    NoPath,
    /// The path of a Unix socket is too long.
    #[error("the path of a Unix socket has at most {MAX_UNIX_PATH} bytes, and this has {0}")]
    LongPath(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_documented() {
        let socket = |text: &str| ListenAddress::Socket(text.parse().expect("an address"));
        for (text, address) in [
            ("8888", ListenAddress::Localhost(8888)),
            ("0", ListenAddress::Localhost(0)),
            ("localhost:80", ListenAddress::Localhost(80)),
            ("LOCALHOST:80", ListenAddress::Localhost(80)),
            ("127.0.0.1:80", socket("127.0.0.1:80")),
            ("0.0.0.0:0", socket("0.0.0.0:0")),
            ("[::1]:80", socket("[::1]:80")),
            ("[::]:80", socket("[::]:80")),
            (
                "unix:/run/a.sock",
                ListenAddress::Unix("/run/a.sock".into()),
            ),
            ("unix:a", ListenAddress::Unix("a".into())),
            ("unix:@a", ListenAddress::Unix("@a".into())),
        ] {
            assert_eq!(text.parse(), Ok(address), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_says_what_to_write() {
        for (text, error) in [
            (
                "",
                "'' is not an address: write PORT (of localhost), IP:PORT, [IPV6]:PORT or unix:PATH",
            ),
            ("localhost", "no port: write localhost:8888"),
            (
                "http",
                "'http' is not an address: write PORT (of localhost), IP:PORT, [IPV6]:PORT or unix:PATH",
            ),
            (
                "-1",
                "'-1' is not an address: write PORT (of localhost), IP:PORT, [IPV6]:PORT or unix:PATH",
            ),
            (
                "65536",
                "'65536' is not a port: write a number from 0 to 65535, 0 for one that is free",
            ),
            (
                "127.0.0.1:http",
                "'http' is not a port: write a number from 0 to 65535, 0 for one that is free",
            ),
            (
                "localhost:",
                "'' is not a port: write a number from 0 to 65535, 0 for one that is free",
            ),
            ("127.0.0.1", "no port: write 127.0.0.1:8888"),
            (
                "*:80",
                "write 0.0.0.0:80 for all IPv4 addresses of this machine, [::]:80 for all of IPv6",
            ),
            (
                ":80",
                "write 0.0.0.0:80 for all IPv4 addresses of this machine, [::]:80 for all of IPv6",
            ),
            (
                "::1",
                "an IPv6 address needs brackets and a port: write [::1]:8888",
            ),
            (
                "[::1]",
                "an IPv6 address needs brackets and a port: write [::1]:8888",
            ),
            (
                "::1:80",
                "an IPv6 address needs brackets and a port: write [::1]:80",
            ),
            (
                "1:2:3:4:5:6:7:8:80",
                "an IPv6 address needs brackets and a port: write [1:2:3:4:5:6:7:8]:80",
            ),
            (
                "fe80::1%x:80",
                "'fe80::1%x' is not an IP address: one listens on an address of \
                this machine, or on PORT",
            ),
            (
                "example.org:80",
                "'example.org' is not an IP address: one listens on an address of \
                this machine, or on PORT",
            ),
            (
                "tcp://127.0.0.1:80/",
                "an address is wanted, not a URL: write 127.0.0.1:80",
            ),
            ("/run/a.sock", "a Unix socket is written unix:/run/a.sock"),
            ("unix:", "no path after unix:"),
            ("unix:@", "no path after unix:"),
        ] {
            match text.parse::<ListenAddress>() {
                Ok(address) => panic!("{text} gave {address:?}"),
                Err(found) => assert_eq!(found.to_string(), error, "{text}"),
            }
        }
        let longest = format!("unix:@{}", "a".repeat(107));
        assert!(longest.parse::<ListenAddress>().is_ok());
        let longest = format!("unix:{}", "a".repeat(107));
        assert!(longest.parse::<ListenAddress>().is_ok());
        assert_eq!(
            format!("{longest}a").parse::<ListenAddress>(),
            Err(AddressError::LongPath(108))
        );
    }
}
