//! Routes: which requests of a listener a service answers.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The argument of a `--route`: `HOST`, `HOST/PATH` or `/PATH`.
///
/// A request goes to the route whose host is nearest to its own: the host
/// itself, then the longest `*.SUFFIX`, then any. Of the routes with that host,
/// the longest path decides. A path is a prefix that ends at a `/`: `/api` is
/// `/api`, `/api/` and `/api/x`, but not `/apix`. It is compared with the path
/// as [`plain_path`] returns it, so that another spelling leads to no other
/// service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The hosts.
    pub host: RouteHost,
    /// Prefix of the path, without a `/` at its end; empty for all.
    pub path: String,
}

/// The hosts of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RouteHost {
    /// All that no other route has.
    Any,
    /// One host, in lower case, without a port.
    Exactly(String),
    /// All names below this one.
    Below(String),
}

impl Route {
    /// The route of a service that has none: all requests.
    #[must_use]
    pub fn all() -> Self {
        Self {
            host: RouteHost::Any,
            path: String::new(),
        }
    }

    /// True if a path, as [`plain_path`] returns it, begins with the route's.
    #[must_use]
    pub fn has_path(&self, path: &[u8]) -> bool {
        let rest = path.strip_prefix(self.path.as_bytes());
        rest.is_some_and(|rest| matches!(rest, [] | [b'/', ..]) || self.path.is_empty())
    }
}

/// Returns a host as routes have it: without its port, a dot at its end, and
/// capital letters. IPv6 addresses have their canonical form (RFC 5952).
#[must_use]
pub fn plain_host(authority: &str) -> Cow<'_, str> {
    if let Some(rest) = authority.strip_prefix('[') {
        let host = rest.split(']').next().unwrap_or_default();
        return match host.parse::<Ipv6Addr>() {
            Ok(ip) => ip.to_string().into(),
            Err(_) => host.to_ascii_lowercase().into(),
        };
    }
    let host = authority.split(':').next().unwrap_or_default();
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => host.to_ascii_lowercase().into(),
        false => host.into(),
    }
}

/// Returns the path of a target as routes have it: decoded once, without
/// repeated slashes, and without `.` and `..`, which lead nowhere beyond the
/// root (RFC 3986, sections 2.1 and 5.2.4). nginx compares the same. A guest gets
/// the target as the client has sent it.
#[must_use]
pub fn plain_path(target: &str) -> Cow<'_, [u8]> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let is_plain = !path.contains('%') && !path.contains("//") && !path.contains("/.");
    if is_plain || !path.starts_with('/') {
        return path.as_bytes().into();
    }
    let mut plain: Vec<u8> = Vec::with_capacity(path.len());
    let decoded = decode(path.as_bytes());
    let mut ends_in_slash = false;
    for part in decoded.split(|byte| *byte == b'/') {
        ends_in_slash = matches!(part, b"" | b"." | b"..");
        match part {
            b"" | b"." => {}
            b".." => {
                let parent = plain.iter().rposition(|byte| *byte == b'/');
                plain.truncate(parent.unwrap_or(0));
            }
            part => {
                plain.push(b'/');
                plain.extend_from_slice(part);
            }
        }
    }
    if ends_in_slash {
        plain.push(b'/');
    }
    plain.into()
}

/// Decodes each `%` with its two digits; another `%` stays.
fn decode(path: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let pair = match first {
            b'%' => digit(after.first()).zip(digit(after.get(1))),
            _ => None,
        };
        match pair {
            Some((high, low)) => {
                decoded.extend(u8::try_from(high * 16 + low));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            RouteHost::Any if self.path.is_empty() => f.write_str("*"),
            RouteHost::Any => Ok(()),
            RouteHost::Exactly(host) if host.contains(':') => write!(f, "[{host}]"),
            RouteHost::Exactly(host) => f.write_str(host),
            RouteHost::Below(suffix) => write!(f, "*.{suffix}"),
        }?;
        f.write_str(&self.path)
    }
}

impl FromStr for Route {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        if let Some((_, rest)) = text.split_once("://") {
            return Err(RouteError::Url(rest.to_owned()));
        }
        let (host, path) = match text.find('/') {
            Some(place) => text.split_at(place),
            None => (text, ""),
        };
        if text.is_empty() {
            return Err(RouteError::Empty);
        }
        if path.contains(['?', '#']) || path.contains(|letter: char| letter.is_whitespace()) {
            return Err(RouteError::Path(path.to_owned()));
        }
        let path = path.trim_end_matches('/').to_owned();
        if path.contains('%') || *plain_path(&path) != *path.as_bytes() {
            let plain = String::from_utf8_lossy(&plain_path(&path)).into_owned();
            return Err(RouteError::Spelling(plain));
        }
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        let host = match host {
            "" | "*" => RouteHost::Any,
            _ if let Ok(ip) = bare.parse::<IpAddr>() => RouteHost::Exactly(ip.to_string()),
            _ if host.contains(':') => {
                return Err(RouteError::Port(plain_host(host).into_owned()));
            }
            _ => match host.strip_prefix("*.") {
                Some(suffix) => RouteHost::Below(name(suffix)?),
                None => RouteHost::Exactly(name(host)?),
            },
        };
        Ok(Self { host, path })
    }
}

/// Returns a name as a client sends it.
fn name(text: &str) -> Result<String, RouteError> {
    let wrong = || RouteError::Host(text.to_owned());
    let text = text.strip_suffix('.').unwrap_or(text);
    let ascii = idna::domain_to_ascii(text).map_err(|_| wrong())?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match !ascii.is_empty() && ascii.bytes().all(plain) {
        true => Ok(ascii.to_ascii_lowercase()),
        false => Err(wrong()),
    }
}

/// Reason why a text is no `--route`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The text is empty.
    #[error("write HOST, HOST/PATH, /PATH, or * for all requests")]
    Empty,
    /// A URL in place of its parts.
    #[error("a route is no URL: write {0}")]
    Url(String),
    /// The host has a port.
    #[error("a route has no port, since its listener has one: write {0}")]
    Port(String),
    /// The host is no name.
    #[error("'{0}' is not a host: write a name, *.NAME, an IP address, or * for any")]
    Host(String),
    /// The path has more than a path.
    #[error("'{0}' is not a path: it begins with /, and has neither spaces nor a query")]
    Path(String),
    /// The path is not in its plain form.
    #[error("a route's path is plain, without %, // and dots, as requests are compared: write {0}")]
    Spelling(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> Route {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn routes_are_read_as_they_are_documented() {
        let exactly = |host: &str| RouteHost::Exactly(host.into());
        for (text, host, path, shown) in [
            ("*", RouteHost::Any, "", "*"),
            ("/", RouteHost::Any, "", "*"),
            ("/api/", RouteHost::Any, "/api", "/api"),
            ("*/api", RouteHost::Any, "/api", "/api"),
            ("Example.ORG.", exactly("example.org"), "", "example.org"),
            (
                "example.org/a/b",
                exactly("example.org"),
                "/a/b",
                "example.org/a/b",
            ),
            ("127.0.0.1", exactly("127.0.0.1"), "", "127.0.0.1"),
            ("[::1]/a", exactly("::1"), "/a", "[::1]/a"),
            ("[0:0:0::1]", exactly("::1"), "", "[::1]"),
            (
                "*.example.org",
                RouteHost::Below("example.org".into()),
                "",
                "*.example.org",
            ),
            (
                "bücher.example",
                exactly("xn--bcher-kva.example"),
                "",
                "xn--bcher-kva.example",
            ),
        ] {
            let path = path.to_owned();
            let found = route(text);
            assert_eq!(found, Route { host, path }, "{text}");
            assert_eq!(found.to_string(), shown);
            assert_eq!(route(shown), found);
        }
        for (text, error) in [
            ("", "write HOST, HOST/PATH, /PATH, or * for all requests"),
            ("http://a.example/b", "a route is no URL: write a.example/b"),
            (
                "a.example:80",
                "a route has no port, since its listener has one: write a.example",
            ),
            (
                "a b",
                "'a b' is not a host: write a name, *.NAME, an IP address, or * for any",
            ),
            (
                "a//b/%63/../d",
                "a route's path is plain, without %, // and dots, as requests are compared: write \
                 /b/d",
            ),
            (
                "a/b?c",
                "'/b?c' is not a path: it begins with /, and has neither spaces nor a query",
            ),
        ] {
            let found = text.parse::<Route>().expect_err(text);
            assert_eq!(found.to_string(), error);
        }
    }

    #[test]
    fn a_path_is_a_prefix_of_whole_segments() {
        let api = route("/api");
        for (target, has) in [
            ("/api", true),
            ("/api/", true),
            ("/api/x?y", true),
            ("/api?x=/", true),
            ("/apix", false),
            ("/", false),
            ("/x/api", false),
            ("*", false),
        ] {
            let path = plain_path(target);
            assert_eq!(api.has_path(&path), has, "{target}");
            assert!(Route::all().has_path(&path));
        }
    }
}
