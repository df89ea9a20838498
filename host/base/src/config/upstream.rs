//! Upstream groups: servers that take what a guest decides to forward.

mod check;
mod settings;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

pub use self::check::{Check, CheckKind, Statuses};
pub use self::settings::{Balance, GroupSettings, HttpVersion, Sticky, UpstreamTls};

/// Maximum of servers of a group.
const MOST_SERVERS: usize = 1024;

/// Largest weight of a server.
const MOST_WEIGHT: u32 = 100;

/// The argument of an `--upstream`:
/// `NAME=SERVER[*WEIGHT],...[;SETTING=VALUE]...`.
///
/// A server is `HOST:PORT`, `IP:PORT`, `[IPV6]:PORT` or `unix:PATH`, with
/// `https://` before it for TLS, or `h2c://` for HTTP/2 without TLS. The settings
/// are those of [`GroupSettings`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamGroup {
    /// Name, by which the guest chooses the group.
    pub name: String,
    /// The servers; never empty.
    pub servers: Vec<UpstreamServer>,
    /// Settings of all servers.
    pub settings: GroupSettings,
}

/// A server of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamServer {
    /// Address.
    pub address: UpstreamAddress,
    /// True if connections begin with TLS.
    pub secure: bool,
    /// True if HTTP/2 is spoken without TLS, whatever the group's `http` says.
    pub prior_knowledge: bool,
    /// Share of the requests, 1 to 100.
    pub weight: u32,
}

/// Address of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamAddress {
    /// An IP address and a port.
    Socket(SocketAddr),
    /// A host name, resolved for each new connection, and a port.
    Name(String, u16),
    /// The path of a Unix domain socket.
    Unix(PathBuf),
}

/// Reason why a text is no `--upstream`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// There is no name, or no server.
    #[error("write NAME=SERVER,SERVER, such as api=10.0.0.1:8080,10.0.0.2:8080")]
    Form,
    /// The name is none.
    #[error("'{0}' is not a group name: it has 1 to 64 letters, digits, '-', '_' or '.'")]
    Name(String),
    /// A server's address is none.
    #[error(
        "'{0}' is not a server: write HOST:PORT, IP:PORT, [IPV6]:PORT or unix:PATH, with https:// \
         before it for TLS, h2c:// for HTTP/2 without TLS, and *WEIGHT after it for its share"
    )]
    Server(String),
    /// A weight is out of range.
    #[error("'{0}' is not a weight: write a whole number from 1 to 100")]
    Weight(String),
    /// A server is there twice.
    #[error("the server {0} is there twice: give it a weight, such as {0}*2")]
    Twice(String),
    /// Too many servers.
    #[error("a group has at most 1024 servers, and this has {0}")]
    TooMany(usize),
    /// There is no such setting.
    #[error(
        "'{0}' is not a setting of a group: there are balance, http, max-requests, max-connections, \
         max-queue, queue-timeout, max-fails, fail-timeout, slow-start, retry-after, sticky, \
         sticky-key, proxy-protocol, tls-name, tls-authority, tls-identity, check, check-host, \
         check-status, check-interval, check-timeout, rise and fall"
    )]
    Setting(String),
    /// A setting needs another one.
    #[error("'{setting}' has no effect without {needed}: add that, or leave it out")]
    Without {
        /// The setting's name.
        setting: &'static str,
        /// Header to add.
        needed: &'static str,
    },
    /// The PROXY protocol with HTTP/2.
    #[error(
        "proxy-protocol tells one client of each connection, and with HTTP/2 clients share them: \
         leave out proxy-protocol, or http and h2c://"
    )]
    ProxiedHttp2,
    /// The value of a setting is none.
    #[error("'{value}' is not a valid {setting}: write {form}")]
    Value {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: String,
        /// Header to write.
        form: &'static str,
    },
}

impl FromStr for UpstreamGroup {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        let (name, rest) = text.split_once('=').ok_or(UpstreamError::Form)?;
        if !is_name(name) {
            return Err(UpstreamError::Name(name.to_owned()));
        }
        let mut parts = rest.split(';').map(str::trim);
        let mut servers: Vec<UpstreamServer> = Vec::new();
        let listed = parts.next().unwrap_or_default();
        if listed.is_empty() {
            return Err(UpstreamError::Form);
        }
        for text in listed.split(',').map(str::trim) {
            let server: UpstreamServer = text.parse()?;
            let twice =
                |it: &UpstreamServer| it.address == server.address && it.secure == server.secure;
            if servers.iter().any(twice) {
                return Err(UpstreamError::Twice(server.address.to_string()));
            }
            servers.push(server);
        }
        if servers.len() > MOST_SERVERS {
            return Err(UpstreamError::TooMany(servers.len()));
        }
        let mut settings = GroupSettings::default();
        let mut check = check::Draft::default();
        let mut sticky_key = None;
        for setting in parts.filter(|setting| !setting.is_empty()) {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            let (name, value) = (name.trim(), value.trim());
            if name == "sticky-key" {
                sticky_key = Some(PathBuf::from(value)).filter(|_| !value.is_empty());
            } else if !check.set(name, value)? {
                settings.set(name, value)?;
            }
        }
        settings.check = check.finish()?;
        match &mut settings.sticky {
            Some(sticky) => sticky.key = sticky_key,
            None if sticky_key.is_some() => {
                return Err(UpstreamError::Without {
                    setting: "sticky-key",
                    needed: "sticky=COOKIE",
                });
            }
            None => {}
        }
        if settings.tls != UpstreamTls::default() && !servers.iter().any(|it| it.secure) {
            return Err(UpstreamError::Without {
                setting: "tls-name, tls-authority or tls-identity",
                needed: "a server at https://",
            });
        }
        let http2 =
            settings.http != HttpVersion::Http1 || servers.iter().any(|it| it.prior_knowledge);
        if settings.proxy_protocol.is_some() && http2 {
            return Err(UpstreamError::ProxiedHttp2);
        }
        Ok(Self {
            name: name.to_owned(),
            servers,
            settings,
        })
    }
}

/// True if a text can name a group in a line of the log.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

impl FromStr for UpstreamServer {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        let wrong = || UpstreamError::Server(text.to_owned());
        let (place, weight) = match text.rsplit_once('*') {
            Some((place, weight)) => {
                let weighs = weight.parse().ok();
                let weighs = weighs.filter(|weight| (1..=MOST_WEIGHT).contains(weight));
                (
                    place,
                    weighs.ok_or_else(|| UpstreamError::Weight(weight.to_owned()))?,
                )
            }
            None => (text, 1),
        };
        let (scheme, place) = place.split_once("://").unwrap_or(("http", place));
        let (secure, prior_knowledge) = match scheme {
            "http" => (false, false),
            "https" => (true, false),
            "h2c" => (false, true),
            _ => return Err(wrong()),
        };
        let address = address(place).ok_or_else(wrong)?;
        if secure && matches!(address, UpstreamAddress::Unix(_)) {
            // A certificate names a host, and a path has none.
            return Err(wrong());
        }
        Ok(Self {
            address,
            secure,
            prior_knowledge,
            weight,
        })
    }
}

fn address(text: &str) -> Option<UpstreamAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        return (!path.is_empty()).then(|| UpstreamAddress::Unix(path.into()));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0).then_some(UpstreamAddress::Socket(address));
    }
    let (host, port) = text.rsplit_once(':')?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port
        .parse()
        .ok()
        .filter(|&port: &u16| digits && port != 0)?;
    let is_host = crate::policy::is_host_name(host) && host.parse::<IpAddr>().is_err();
    is_host.then(|| UpstreamAddress::Name(host.to_ascii_lowercase(), port))
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::proxy::ProxyProtocol;

    fn parsed(text: &str) -> UpstreamGroup {
        text.parse().expect(text)
    }

    #[test]
    fn a_group_has_servers_with_weights_and_settings() {
        let group = parsed(
            "api=10.0.0.1:80, [::1]:81*3,https://Back.example:443,unix:/run/a.sock*2; \
             balance=hash;max-connections=8;queue-timeout=250ms;max-fails=0;max-requests=9;\
             slow-start=30s;retry-after=1m;sticky=SRV;sticky-key=/run/key",
        );
        assert_eq!(group.name, "api");
        let servers: Vec<_> = group
            .servers
            .iter()
            .map(|it| (it.address.to_string(), it.secure, it.weight))
            .collect();
        let server = |address: &str, secure, weight| (address.to_owned(), secure, weight);
        assert_eq!(
            servers,
            [
                server("10.0.0.1:80", false, 1),
                server("[::1]:81", false, 3),
                server("back.example:443", true, 1),
                server("unix:/run/a.sock", false, 2),
            ]
        );
        let expected = GroupSettings {
            balance: Balance::Hash,
            max_connections: Some(8),
            queue_timeout: Duration::from_millis(250),
            max_fails: 0,
            max_requests: Some(9),
            slow_start: Some(Duration::from_secs(30)),
            retry_after: Some(Duration::from_mins(1)),
            sticky: Some(Sticky {
                cookie: "SRV".to_owned(),
                key: Some("/run/key".into()),
            }),
            ..GroupSettings::default()
        };
        assert_eq!(group.settings, expected);
    }

    #[test]
    fn a_group_says_which_header_it_sends() {
        for (setting, version) in [
            ("", None),
            ("proxy-protocol=v1", Some(ProxyProtocol::Version1)),
            ("send-proxy", Some(ProxyProtocol::Version1)),
            ("proxy-protocol=v2", Some(ProxyProtocol::Version2)),
            ("send-proxy-v2", Some(ProxyProtocol::Version2)),
        ] {
            let group = parsed(&format!("api=https://a:1;{setting}"));
            assert_eq!(group.settings.proxy_protocol, version, "{setting}");
        }
    }

    #[test]
    fn a_group_says_which_version_it_speaks() {
        for (text, version, prior_knowledge) in [
            ("api=a:1", HttpVersion::Http1, false),
            ("api=h2c://a:1", HttpVersion::Http1, true),
            ("api=h2c://unix:/run/a.sock", HttpVersion::Http1, true),
            ("api=https://a:1;http=2", HttpVersion::Http2, false),
            ("api=https://a:1;http=auto", HttpVersion::Auto, false),
        ] {
            let group = parsed(text);
            let only = &group.servers[0];
            let told = (group.settings.http, only.prior_knowledge);
            assert_eq!(told, (version, prior_knowledge), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_group_is_told() {
        for (text, told) in [
            ("api", "NAME=SERVER"),
            ("api=", "NAME=SERVER"),
            ("=a:1", "is not a group name"),
            ("a b=a:1", "is not a group name"),
            ("api=a", "'a' is not a server"),
            ("api=a:0", "'a:0' is not a server"),
            ("api=a:+1", "is not a server"),
            ("api=a:1,", "'' is not a server"),
            ("api=https://unix:/a", "is not a server"),
            ("api=unix:", "is not a server"),
            ("api=a:1*0", "'0' is not a weight"),
            ("api=a:1*101", "'101' is not a weight"),
            ("api=a:1,a:1", "there twice"),
            ("api=a:1;weight=2", "is not a setting"),
            ("api=a:1;balance=best", "least-requests"),
            ("api=a:1;http=h2", "write 1.1, 2 or auto"),
            ("api=a:1;proxy-protocol=2", "write v1 or v2"),
            ("api=a:1;send-proxy=v2", "is not a setting"),
            ("api=h2c://a:1;proxy-protocol=v2", "clients share them"),
            ("api=https://a:1;send-proxy;http=auto", "clients share them"),
            ("api=h3://a:1", "is not a server"),
            ("api=a:1;fail-timeout=5", "with a unit"),
            ("api=a:1;max-connections=0", "1 or more"),
            ("api=a:1;max-requests=0", "1 or more"),
            ("api=a:1;sticky=a b", "the name of a cookie"),
            ("api=a:1;sticky-key=/k", "without sticky=COOKIE"),
            ("api=a:1;tls-name=b", "without a server at https://"),
            ("api=https://a:1;tls-name=b c", "the name of a certificate"),
        ] {
            let error = text.parse::<UpstreamGroup>().expect_err(text);
            assert!(error.to_string().contains(told), "{text}: {error}");
        }
    }
}
