//! Routes of the command line.

use netwasm_guest::shared::Limit;

/// A route: requests with this host and path go to a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Number for the route in keys of shared state: the hash of host and path,
    /// so that it stays if other routes are added.
    pub number: u64,
    /// Host in lower case, without a port; empty for any.
    host: String,
    /// Prefix of the path, without a slash at its end.
    path: String,
    group: String,
    /// Another group, and the share of clients that goes there, in percent.
    canary: Option<(String, u8)>,
    /// True if requests must carry the token.
    pub needs_token: bool,
    /// Requests of a client, if there is a limit.
    pub limit: Option<Limit>,
    /// Maximum size of a request's body, in bytes.
    pub max_body: Option<u64>,
}

const FORM: &str =
    "write [HOST]/PATH=GROUP[,CANARY:PERCENT][,token][,rate:N/s|m|h[:BURST]][,max-body:SIZE]";

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
        let wrong = || format!("'{text}' is not a route: {FORM}");
        let (place, to) = text.split_once('=').ok_or_else(wrong)?;
        let slash = place.find('/').ok_or_else(wrong)?;
        let (host, path) = place.split_at(slash);
        let mut parts = to.split(',');
        let group = parts.next().filter(|group| !group.is_empty());
        let mut route = Self {
            number: hash(place.to_ascii_lowercase().as_bytes()),
            host: host.to_ascii_lowercase(),
            path: path.trim_end_matches('/').to_owned(),
            group: group.ok_or_else(wrong)?.to_owned(),
            canary: None,
            needs_token: false,
            limit: None,
            max_body: None,
        };
        for part in parts {
            match part.split_once(':') {
                None if part == "token" => route.needs_token = true,
                Some(("rate", rate)) => route.limit = Some(limit(rate).ok_or_else(wrong)?),
                Some(("max-body", most)) => route.max_body = Some(size(most).ok_or_else(wrong)?),
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
    /// longest path. Asks for the host, which is a call of its own, only if a route
    /// has one.
    pub fn find<'a>(
        routes: &'a [Self],
        authority: impl FnOnce() -> String,
        path: &str,
    ) -> Option<&'a Self> {
        let authority = match routes.iter().any(|route| !route.host.is_empty()) {
            true => authority(),
            false => String::new(),
        };
        let port = authority
            .rsplit_once(':')
            .filter(|(_, port)| !port.ends_with(']'));
        let host = port.map_or(&*authority, |(host, _)| host);
        let fits = |route: &&Self| {
            let below = path.strip_prefix(&*route.path);
            let below = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            let here = route.host.is_empty() || route.host.eq_ignore_ascii_case(host);
            here && (below || route.path.is_empty())
        };
        let fitting = routes.iter().filter(fits);
        fitting.max_by_key(|route| (!route.host.is_empty(), route.path.len()))
    }

    /// Returns the group for a client whose share, from 0 to 99, is asked for if
    /// it matters.
    pub fn group(&self, share: impl FnOnce() -> u8) -> &str {
        match &self.canary {
            Some((canary, percent)) if share() < *percent => canary,
            _ => &self.group,
        }
    }
}

/// Reads a limit: `N/s`, `N/m` or `N/h`, for as many requests at once or so many
/// as follow a colon.
fn limit(text: &str) -> Option<Limit> {
    let (rate, burst) = match text.split_once(':') {
        Some((rate, burst)) => (rate, Some(burst.parse().ok()?)),
        None => (text, None),
    };
    let (number, unit) = rate.split_once('/')?;
    let number = number.parse().ok().filter(|number| *number > 0)?;
    let limit = match unit {
        "s" => Limit::per_second(number),
        "m" => Limit::per_minute(number),
        "h" => Limit::per_hour(number),
        _ => return None,
    };
    match burst {
        Some(0) => None,
        Some(burst) => Some(limit.burst(burst)),
        None => Some(limit),
    }
}

/// Reads a number of bytes, perhaps with `KiB`, `MiB` or `GiB` after it.
fn size(text: &str) -> Option<u64> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let unit = units
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let (number, bytes) = unit.unwrap_or((text, 1));
    number.parse::<u64>().ok()?.checked_mul(bytes)
}

/// Returns the hash of some bytes (FNV-1a).
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_clients_goes_to_the_canary() {
        let route = Route::parse("/=site,next:5").expect("a route");
        assert_eq!((route.group(|| 4), route.group(|| 5)), ("next", "site"));
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
            let found = Route::find(&routes, || authority.to_owned(), path);
            assert_eq!(found.map(|it| it.group(|| 0)), group, "{authority}{path}");
        }
    }

    #[test]
    fn a_rate_allows_as_many_at_once_unless_it_says_how_many() {
        for (text, limit) in [
            ("/=a", None),
            ("/=a,rate:10/s", Some(Limit::new(10.0, 10))),
            ("/=a,rate:90/m:5", Some(Limit::new(1.5, 5))),
            ("/=a,token,rate:7200/h:1", Some(Limit::new(2.0, 1))),
        ] {
            let route = Route::parse(text).expect("a route");
            assert_eq!(route.limit, limit, "{text}");
        }
    }

    #[test]
    fn a_body_has_a_limit_if_the_route_says_so() {
        for (text, most) in [
            ("/=a", None),
            ("/=a,max-body:0", Some(0)),
            ("/=a,max-body:100", Some(100)),
            ("/=a,rate:1/s,max-body:16KiB", Some(16 << 10)),
            ("/=a,max-body:2GiB,token", Some(2 << 30)),
        ] {
            let route = Route::parse(text).expect("a route");
            assert_eq!(route.max_body, most, "{text}");
        }
    }

    #[test]
    fn what_is_no_route_is_told() {
        let wrong = ["", "/", "/=", "a=b", "/=a,b", "/=a,b:101", "/=a,:5"];
        let rates = ["5", "5/d", "0/s", "-1/s", "5/s:", "5/s:0", "/s"];
        let rates = rates.map(|rate| format!("/=a,rate:{rate}"));
        let sizes = ["", "1kB", "-1", "1.5MiB", "99999999999GiB"];
        let sizes = sizes.map(|size| format!("/=a,max-body:{size}"));
        let numbers = rates.iter().chain(&sizes).map(|it| &**it);
        for text in wrong.into_iter().chain(numbers) {
            assert!(Route::parse(text).is_err(), "{text}");
        }
    }
}
