//! The handlers of a listener that several services share: each request goes to
//! the service of its host and path.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use netwasm_base::config::{HostPattern, Route, plain_host, plain_path};
use netwasm_net::thread::{Active, Thread};

use crate::answer::Answer;
use crate::handler::{
    Awaiting, Call, Decision, Handler, Handlers, NoAnswer, Nobody, Site, Takes, Wanted,
};
use crate::reply::NoResponse;
use crate::request::Request;

/// Answer to a request for a host that is another one's than TLS has named.
const MISDIRECTED: &str = "the connection is for another host";

/// Answer to a request that no service has.
const UNKNOWN: &str = "no service has this host and path";

/// The services of a listener.
pub struct Sites {
    routes: Routes,
    handlers: Rc<[Rc<dyn Handlers>]>,
    /// Keep the workers of other services until this is dropped, as they are
    /// needed for the connections here.
    _members: Vec<Active>,
}

/// A service of a listener.
pub struct Member {
    /// Its routes; none for all requests.
    pub routes: Vec<Route>,
    /// Its handlers.
    pub handlers: Rc<dyn Handlers>,
    /// Its worker's thread; `None` for the service whose listener it is.
    pub thread: Option<Rc<Thread>>,
}

impl fmt::Debug for Sites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sites")
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}

impl Sites {
    /// Joins services, the one whose listener it is first.
    #[must_use]
    pub fn new(services: Vec<Member>) -> Self {
        let mut routes = Routes::default();
        let mut handlers = Vec::new();
        let mut members = Vec::new();
        for (number, service) in services.into_iter().enumerate() {
            match service.routes.is_empty() {
                true => routes.add(Route::all(), number),
                false => service
                    .routes
                    .into_iter()
                    .for_each(|route| routes.add(route, number)),
            }
            handlers.push(service.handlers);
            members.extend(service.thread.map(|thread| thread.active()));
        }
        routes.sort();
        Self {
            routes,
            handlers: handlers.into(),
            _members: members,
        }
    }
}

impl Handlers for Sites {
    fn takes<'a>(&self, wanted: &dyn Fn() -> Wanted<'a>) -> (Site, Takes) {
        let site = self.routes.find(wanted());
        let takes = match site {
            Site::Service(number) => self.handlers.get(number).map(|it| it.takes(wanted).1),
            _ => None,
        };
        // Without a service, the host answers as soon as it knows.
        (site, takes.unwrap_or(Takes::Heads))
    }

    fn connection(&self) -> Box<dyn Handler> {
        Box::new(OfConnection {
            handlers: Rc::clone(&self.handlers),
            own: Vec::new(),
        })
    }
}

/// Answers the requests of a connection.
struct OfConnection {
    handlers: Rc<[Rc<dyn Handlers>]>,
    /// Handlers of this connection by the numbers of their services, made when
    /// they are first needed. Mostly there is one.
    own: Vec<(usize, Box<dyn Handler>)>,
}

impl fmt::Debug for OfConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfConnection").finish_non_exhaustive()
    }
}

impl OfConnection {
    fn handler(&mut self, site: Site) -> Option<&mut dyn Handler> {
        let Site::Service(number) = site else {
            return None;
        };
        let known = self.own.iter().position(|(of, _)| *of == number);
        let place = match known {
            Some(place) => place,
            None => {
                let made = self.handlers.get(number)?.connection();
                self.own.push((number, made));
                self.own.len() - 1
            }
        };
        match self.own.get_mut(place) {
            Some((_, own)) => Some(&mut **own),
            None => None,
        }
    }
}

impl Handler for OfConnection {
    fn handle(&mut self, request: Box<Request>) -> (Box<Request>, Result<Decision, NoAnswer>) {
        if let Some(handler) = self.handler(request.site) {
            return handler.handle(request);
        }
        let host = plain_host(request.head.authority().unwrap_or_default());
        let named = request.transport.as_ref().and_then(|it| it.session_info());
        let named = named.and_then(|info| info.server_name);
        let answer = match named {
            Some(named) if request.site == Site::UnknownHost && plain_host(&named) != host => {
                Answer::status(421, MISDIRECTED)
            }
            _ => Answer::status(404, UNKNOWN),
        };
        drop(host);
        (request, Ok(Decision::Answer(answer)))
    }

    fn begin(&mut self, call: Call) -> Rc<dyn Awaiting> {
        match self.handler(call.site) {
            Some(handler) => handler.begin(call),
            None => {
                // Such a request goes to `handle`.
                call.reply.fail(NoResponse::NoInstance);
                Rc::new(Nobody)
            }
        }
    }
}

/// Routes by their hosts.
#[derive(Debug, Default)]
struct Routes {
    exactly: HashMap<String, Paths>,
    below: HashMap<String, Paths>,
    any: Option<Paths>,
}

/// Routes of a host, the longest path first, each with its service.
type Paths = Vec<(Route, usize)>;

impl Routes {
    fn add(&mut self, route: Route, service: usize) {
        let paths = match &route.host {
            HostPattern::Any => self.any.get_or_insert_default(),
            HostPattern::Exactly(host) => self.exactly.entry(host.clone()).or_default(),
            HostPattern::Below(suffix) => self.below.entry(suffix.clone()).or_default(),
        };
        paths.push((route, service));
    }

    fn sort(&mut self) {
        let all = self.exactly.values_mut().chain(self.below.values_mut());
        for paths in all.chain(&mut self.any) {
            paths.sort_by_key(|(route, _)| std::cmp::Reverse(route.path.len()));
        }
    }

    /// Returns the service of a request.
    fn find(&self, wanted: Wanted<'_>) -> Site {
        let host: Cow<'_, str> = plain_host(wanted.authority.unwrap_or_default());
        let Some(paths) = self.of_host(&host) else {
            return Site::UnknownHost;
        };
        let path = plain_path(wanted.target);
        let found = paths.iter().find(|(route, _)| route.has_path(&path));
        found.map_or(Site::UnknownPath, |(_, service)| Site::Service(*service))
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

    fn find(routes: &Routes, authority: &str, target: &str) -> Site {
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
            ("example.org", "/", Site::Service(0)),
            ("EXAMPLE.org.:8080", "/apix", Site::Service(0)),
            ("example.org", "/api", Site::Service(1)),
            ("example.org", "/api/v1?x", Site::Service(2)),
            ("example.org", "/api/v1/x/y", Site::Service(1)),
            ("www.example.org", "/api", Site::Service(2)),
            ("a.b.example.org", "/", Site::Service(2)),
            ("x.deep.example.org", "/a/b", Site::Service(3)),
            // The host decides first.
            ("x.deep.example.org", "/b", Site::UnknownPath),
            ("notexample.org", "/", Site::Service(4)),
            ("[::1]:80", "/", Site::Service(4)),
            ("", "/", Site::Service(4)),
        ] {
            assert_eq!(find(&all, host, target), site, "{host}{target}");
        }
        let few = routes(&[&["a.example", "[::1]/x"]]);
        assert_eq!(find(&few, "b.example", "/"), Site::UnknownHost);
        assert_eq!(find(&few, "[::1]:80", "/x"), Site::Service(0));
        assert_eq!(find(&few, "[0:0::1]:80", "/x"), Site::Service(0));
        assert_eq!(find(&few, "[::1]:80", "/y"), Site::UnknownPath);
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
            assert_eq!(find(&all, "", target), Site::Service(1), "{target}");
        }
        for target in ["/API", "/api/..", "/%2561pi", "/x?/../api", "/ap%69x", "*"] {
            assert_eq!(find(&all, "", target), Site::Service(0), "{target}");
        }
    }
}
