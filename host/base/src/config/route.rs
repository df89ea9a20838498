//! Routes: which requests of a listener a service answers.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The argument of a `--route`: `HOST`, `HOST/PATH` or `/PATH`.
///
/// A request goes to the route whose host is nearest to its own: the host
/// itself, then the longest `*.SUFFIX`, then any. Of the routes with that host,
/// the longest path decides. A path is a prefix that ends at a `/`: `/api` is
/// `/api`, `/api/` and `/api/x`, but not `/apix`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The hosts.
    pub host: HostPattern,
    /// Prefix of the path, without a `/` at its end; empty for all.
    pub path: String,
}

/// The hosts of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
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
            host: HostPattern::Any,
            path: String::new(),
        }
    }

    /// True if the path of a target begins with the route's.
    #[must_use]
    pub fn has_path(&self, target: &str) -> bool {
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let rest = path.strip_prefix(&*self.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.path.is_empty())
    }
}

/// Returns a host as routes have it: without its port, a dot at its end, and
/// capital letters.
#[must_use]
pub fn plain_host(authority: &str) -> String {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostPattern::Any if self.path.is_empty() => f.write_str("*"),
            HostPattern::Any => Ok(()),
            HostPattern::Exactly(host) if host.contains(':') => write!(f, "[{host}]"),
            HostPattern::Exactly(host) => f.write_str(host),
            HostPattern::Below(suffix) => write!(f, "*.{suffix}"),
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
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        let host = match host {
            "" | "*" => HostPattern::Any,
            _ if bare.parse::<IpAddr>().is_ok() => HostPattern::Exactly(bare.to_ascii_lowercase()),
            _ if host.contains(':') => return Err(RouteError::Port(plain_host(host))),
            _ => match host.strip_prefix("*.") {
                Some(suffix) => HostPattern::Below(name(suffix)?),
                None => HostPattern::Exactly(name(host)?),
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
    #[error("'{0}' is no host: write a name, *.NAME, an IP address, or * for any")]
    Host(String),
    /// The path has more than a path.
    #[error("'{0}' is no path: it begins with /, and has neither spaces nor a query")]
    Path(String),
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
        let exactly = |host: &str| HostPattern::Exactly(host.into());
        for (text, host, path, shown) in [
            ("*", HostPattern::Any, "", "*"),
            ("/", HostPattern::Any, "", "*"),
            ("/api/", HostPattern::Any, "/api", "/api"),
            ("*/api", HostPattern::Any, "/api", "/api"),
            ("Example.ORG.", exactly("example.org"), "", "example.org"),
            (
                "example.org/a/b",
                exactly("example.org"),
                "/a/b",
                "example.org/a/b",
            ),
            ("127.0.0.1", exactly("127.0.0.1"), "", "127.0.0.1"),
            ("[::1]/a", exactly("::1"), "/a", "[::1]/a"),
            (
                "*.example.org",
                HostPattern::Below("example.org".into()),
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
                "'a b' is no host: write a name, *.NAME, an IP address, or * for any",
            ),
            (
                "a/b?c",
                "'/b?c' is no path: it begins with /, and has neither spaces nor a query",
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
            assert_eq!(api.has_path(target), has, "{target}");
            assert!(Route::all().has_path(target));
        }
    }
}
