//! Routes of the command line.

/// A route: requests with this host and path go to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Host in lower case, without a port; empty for any.
    host: String,
    /// Prefix of the path, without a slash at its end.
    path: String,
    group: String,
    /// Another group, and the share of clients that goes there, in percent.
    canary: Option<(String, u8)>,
    /// True if requests must carry the token.
    pub needs_token: bool,
}

const FORM: &str = "write [HOST]/PATH=GROUP[,CANARY:PERCENT][,token]";

impl Route {
    /// Reads all routes.
    ///
    /// # Errors
    /// Fails with what is wrong, for a person.
    pub fn parse_all(texts: impl Iterator<Item = String>) -> Result<Vec<Self>, String> {
        let routes: Result<Vec<_>, _> = texts.map(|text| Self::parse(&text)).collect();
        match routes {
            Ok(routes) if routes.is_empty() => Err(format!("no route: {FORM} after --")),
            routes => routes,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no route: {FORM}");
        let (place, to) = text.split_once('=').ok_or_else(wrong)?;
        let slash = place.find('/').ok_or_else(wrong)?;
        let (host, path) = place.split_at(slash);
        let mut parts = to.split(',');
        let group = parts.next().filter(|group| !group.is_empty());
        let mut route = Self {
            host: host.to_ascii_lowercase(),
            path: path.trim_end_matches('/').to_owned(),
            group: group.ok_or_else(wrong)?.to_owned(),
            canary: None,
            needs_token: false,
        };
        for part in parts {
            match part.split_once(':') {
                None if part == "token" => route.needs_token = true,
                Some((group, percent)) if !group.is_empty() => {
                    let percent = percent.parse().ok().filter(|percent| *percent <= 100);
                    route.canary = Some((group.to_owned(), percent.ok_or_else(wrong)?));
                }
                _ => return Err(wrong()),
            }
        }
        Ok(route)
    }

    /// Returns the route of a request: of its host before any, and then with the
    /// longest path.
    pub fn find<'a>(routes: &'a [Self], authority: &str, path: &str) -> Option<&'a Self> {
        let port = authority
            .rsplit_once(':')
            .filter(|(_, port)| !port.ends_with(']'));
        let host = port.map_or(authority, |(host, _)| host);
        let host = host.to_ascii_lowercase();
        let fits = |route: &&Self| {
            let below = path.strip_prefix(&*route.path);
            let below = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            (route.host.is_empty() || route.host == host) && (below || route.path.is_empty())
        };
        let fitting = routes.iter().filter(fits);
        fitting.max_by_key(|route| (!route.host.is_empty(), route.path.len()))
    }

    /// Returns the group for a client with this share, from 0 to 99.
    pub fn group(&self, share: u8) -> &str {
        match &self.canary {
            Some((canary, percent)) if share < *percent => canary,
            _ => &self.group,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_clients_goes_to_the_canary() {
        let route = Route::parse("/=site,next:5").expect("a route");
        assert_eq!((route.group(4), route.group(5)), ("next", "site"));
    }

    #[test]
    fn the_host_decides_before_the_path() {
        let texts = ["/a/b=1", "Host.example/=2", "host.example/a=3,token"];
        let routes = Route::parse_all(texts.map(str::to_owned).into_iter()).expect("routes");
        for (authority, path, group) in [
            ("other.example", "/a/b", Some("1")),
            ("other.example", "/a", None),
            ("HOST.example:80", "/a/b", Some("3")),
            ("host.example", "/ab", Some("2")),
        ] {
            let found = Route::find(&routes, authority, path);
            assert_eq!(found.map(|it| it.group(0)), group, "{authority}{path}");
        }
    }

    #[test]
    fn what_is_no_route_is_told() {
        for text in ["", "/", "/=", "a=b", "/=a,b", "/=a,b:101", "/=a,:5"] {
            assert!(Route::parse(text).is_err(), "{text}");
        }
    }
}
