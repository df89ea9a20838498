//! Routes: which service of a listener has a host and a path.

use std::borrow::Cow;
use std::collections::HashMap;

use netwasm_base::config::{Route, RouteHost, plain_host, plain_path};

use crate::handler::Wanted;

/// Result of a search among routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A service by its number; 0 is the one whose listener it is.
    Service(usize),
    /// No service has the host.
    UnknownHost,
    /// A service has the host, and none the path there.
    UnknownPath,
}

/// Routes by their hosts.
#[derive(Debug, Default)]
pub(super) struct Routes {
    exactly: HashMap<String, Paths>,
    below: HashMap<String, Paths>,
    any: Option<Paths>,
}

/// Routes of a host, the longest path first, each with its service.
type Paths = Vec<(Route, usize)>;

impl Routes {
    /// Adds the routes of a service; without any, it has all requests.
    pub(super) fn add_all(&mut self, routes: Vec<Route>, service: usize) {
        match routes.is_empty() {
            true => self.add(Route::all(), service),
            false => routes
                .into_iter()
                .for_each(|route| self.add(route, service)),
        }
    }

    fn add(&mut self, route: Route, service: usize) {
        let paths = match &route.host {
            RouteHost::Any => self.any.get_or_insert_default(),
            RouteHost::Exactly(host) => self.exactly.entry(host.clone()).or_default(),
            RouteHost::Below(suffix) => self.below.entry(suffix.clone()).or_default(),
        };
        paths.push((route, service));
    }

    pub(super) fn sort(&mut self) {
        let all = self.exactly.values_mut().chain(self.below.values_mut());
        for paths in all.chain(&mut self.any) {
            paths.sort_by_key(|(route, _)| std::cmp::Reverse(route.path.len()));
        }
    }

    /// Returns the service of a request.
    pub(super) fn find(&self, wanted: Wanted<'_>) -> Found {
        let host: Cow<'_, str> = plain_host(wanted.authority.unwrap_or_default());
        let Some(paths) = self.of_host(&host) else {
            return Found::UnknownHost;
        };
        let path = plain_path(wanted.target);
        let found = paths.iter().find(|(route, _)| route.has_path(&path));
        found.map_or(Found::UnknownPath, |(_, service)| Found::Service(*service))
    }

    fn of_host(&self, host: &str) -> Option<&Paths> {
        if let Some(paths) = self.exactly.get(host) {
            return Some(paths);
        }
        if !self.below.is_empty() {
            let mut rest = host;
            while let Some((_, suffix)) = rest.split_once('.') {
                if let Some(paths) = self.below.get(suffix) {
                    return Some(paths);
                }
                rest = suffix;
            }
        }
        self.any.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(services: &[&[&str]]) -> Routes {
        let mut routes = Routes::default();
        for (number, service) in services.iter().enumerate() {
            for route in *service {
                routes.add(route.parse().expect("a route"), number);
            }
        }
        routes.sort();
        routes
    }

    fn find(routes: &Routes, authority: &str, target: &str) -> Found {
        let authority = Some(authority);
        routes.find(Wanted { authority, target })
    }

    #[test]
    fn the_nearest_host_and_then_the_longest_path_decide() {
        let all = routes(&[
            &["example.org"],
            &["example.org/api", "example.org/api/v1/x"],
            &["*.example.org", "example.org/api/v1"],
            &["*.deep.example.org/a"],
            &["*"],
        ]);
        for (host, target, site) in [
            ("example.org", "/", Found::Service(0)),
            ("EXAMPLE.org.:8080", "/apix", Found::Service(0)),
            ("example.org", "/api", Found::Service(1)),
            ("example.org", "/api/v1?x", Found::Service(2)),
            ("example.org", "/api/v1/x/y", Found::Service(1)),
            ("www.example.org", "/api", Found::Service(2)),
            ("a.b.example.org", "/", Found::Service(2)),
            ("x.deep.example.org", "/a/b", Found::Service(3)),
            // The host decides first.
            ("x.deep.example.org", "/b", Found::UnknownPath),
            ("notexample.org", "/", Found::Service(4)),
            ("[::1]:80", "/", Found::Service(4)),
            ("", "/", Found::Service(4)),
        ] {
            assert_eq!(find(&all, host, target), site, "{host}{target}");
        }
        let few = routes(&[&["a.example", "[::1]/x"]]);
        assert_eq!(find(&few, "b.example", "/"), Found::UnknownHost);
        assert_eq!(find(&few, "[::1]:80", "/x"), Found::Service(0));
        assert_eq!(find(&few, "[0:0::1]:80", "/x"), Found::Service(0));
        assert_eq!(find(&few, "[::1]:80", "/y"), Found::UnknownPath);
    }

    #[test]
    fn a_path_is_found_however_it_is_written() {
        let all = routes(&[&["*"], &["/api"]]);
        for target in [
            "/%61pi",
            "/x/../api",
            "//api",
            "/./api/x",
            "/api%2Fx",
            "/x/%2e%2E/api?a",
            "/%41/..//api/",
        ] {
            assert_eq!(find(&all, "", target), Found::Service(1), "{target}");
        }
        for target in ["/API", "/api/..", "/%2561pi", "/x?/../api", "/ap%69x", "*"] {
            assert_eq!(find(&all, "", target), Found::Service(0), "{target}");
        }
    }
}
