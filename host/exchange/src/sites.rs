//! The handlers of a listener that several services share: each request goes to
//! the service of its host and path.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use netwasm_base::config::{HostPattern, Route, plain_host};
use netwasm_net::thread::{Active, Thread};

use crate::answer::Answer;
use crate::handler::{Awaiting, Call, Decision, Handler, Handlers, NoAnswer, Takes, Wanted};
use crate::reply::{NoResponse, Reply};
use crate::request::Request;

/// Answer to a request for a host that is another one's than TLS has named.
const MISDIRECTED: &str = "the connection is for another host";

/// Answer to a request that no service has.
const UNKNOWN: &str = "no service has this host and path";

/// The services of a listener.
pub struct Sites {
    routes: Rc<Routes>,
    handlers: Vec<Rc<dyn Handlers>>,
    /// Keep the workers of other services until this is dropped, as they are
    /// needed for the connections here.
    _members: Vec<Active>,
}

/// A service of a listener.
pub struct Site {
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
    /// Joins services.
    #[must_use]
    pub fn new(sites: Vec<Site>) -> Self {
        let mut routes = Routes::default();
        let mut handlers = Vec::new();
        let mut members = Vec::new();
        for (number, site) in sites.into_iter().enumerate() {
            match site.routes.is_empty() {
                true => routes.add(Route::all(), number),
                false => site
                    .routes
                    .into_iter()
                    .for_each(|route| routes.add(route, number)),
            }
            handlers.push(site.handlers);
            members.extend(site.thread.map(|thread| thread.active()));
        }
        routes.sort();
        Self {
            routes: Rc::new(routes),
            handlers,
            _members: members,
        }
    }

    fn of(&self, wanted: Wanted<'_>) -> Option<&Rc<dyn Handlers>> {
        self.handlers.get(self.routes.find(wanted).ok()?)
    }
}

impl Handlers for Sites {
    fn takes<'a>(&self, wanted: &dyn Fn() -> Wanted<'a>) -> Takes {
        match self.of(wanted()) {
            Some(handlers) => handlers.takes(wanted),
            // The host answers as soon as it knows.
            None => Takes::Heads,
        }
    }

    fn connection(&self) -> Box<dyn Handler> {
        Box::new(OfConnection {
            routes: Rc::clone(&self.routes),
            handlers: self.handlers.clone(),
            own: self.handlers.iter().map(|_| None).collect(),
        })
    }
}

/// Answers the requests of a connection.
struct OfConnection {
    routes: Rc<Routes>,
    handlers: Vec<Rc<dyn Handlers>>,
    /// Handlers of this connection, made when they are first needed.
    own: Vec<Option<Box<dyn Handler>>>,
}

impl fmt::Debug for OfConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfConnection").finish_non_exhaustive()
    }
}

impl OfConnection {
    fn handler(&mut self, number: usize) -> Option<&mut dyn Handler> {
        let handlers = self.handlers.get(number)?;
        let own = self.own.get_mut(number)?;
        Some(&mut **own.get_or_insert_with(|| handlers.connection()))
    }
}

impl Handler for OfConnection {
    fn handle(&mut self, request: Box<Request>) -> (Box<Request>, Result<Decision, NoAnswer>) {
        let wanted = Wanted {
            authority: request.head.authority(),
            target: request.head.target(),
        };
        let found = self.routes.find(wanted);
        if let Ok(number) = found
            && let Some(handler) = self.handler(number)
        {
            return handler.handle(request);
        }
        let host = plain_host(wanted_host(&request));
        let named = request.transport.as_ref().and_then(|it| it.session_info());
        let named = named.and_then(|info| info.server_name);
        let answer = match named {
            Some(named) if found == Err(NoRoute::Host) && plain_host(&named) != host => {
                Answer::status(421, MISDIRECTED)
            }
            _ => Answer::status(404, UNKNOWN),
        };
        (request, Ok(Decision::Answer(answer)))
    }

    fn begin(&mut self, call: Call) -> Rc<dyn Awaiting> {
        let uri = call.head.uri();
        let wanted = Wanted {
            authority: uri.authority().map(http::uri::Authority::as_str),
            target: uri.path(),
        };
        let found = self.routes.find(wanted);
        match found.ok().and_then(|number| self.handler(number)) {
            Some(handler) => handler.begin(call),
            None => {
                // `takes` said otherwise.
                call.reply.fail(NoResponse::NoInstance);
                Rc::new(Nobody)
            }
        }
    }
}

fn wanted_host(request: &Request) -> &str {
    request.head.authority().unwrap_or_default()
}

/// Placeholder where there is no service.
#[derive(Debug)]
struct Nobody;

impl Awaiting for Nobody {
    fn abandon(self: Rc<Self>, reply: &Rc<Reply>) {
        reply.abandon();
    }
}

/// Reason why no route fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoRoute {
    /// No service has the host.
    Host,
    /// No service has the path there.
    Path,
}

/// Routes by their hosts.
#[derive(Debug, Default)]
struct Routes {
    exactly: HashMap<String, Paths>,
    below: HashMap<String, Paths>,
    any: Option<Paths>,
    /// Host of the last request, with the text that it was made from: mostly
    /// the next one has the same.
    last: RefCell<(String, String)>,
}

/// Routes of a host, the longest path first, each with its service.
type Paths = Vec<(Route, usize)>;

impl Routes {
    fn add(&mut self, route: Route, site: usize) {
        let paths = match &route.host {
            HostPattern::Any => self.any.get_or_insert_default(),
            HostPattern::Exactly(host) => self.exactly.entry(host.clone()).or_default(),
            HostPattern::Below(suffix) => self.below.entry(suffix.clone()).or_default(),
        };
        paths.push((route, site));
    }

    fn sort(&mut self) {
        let all = self.exactly.values_mut().chain(self.below.values_mut());
        for paths in all.chain(&mut self.any) {
            paths.sort_by_key(|(route, _)| std::cmp::Reverse(route.path.len()));
        }
    }

    /// Returns the service of a request.
    fn find(&self, wanted: Wanted<'_>) -> Result<usize, NoRoute> {
        let authority = wanted.authority.unwrap_or_default();
        let mut last = self.last.borrow_mut();
        if last.0 != authority {
            *last = (authority.to_owned(), plain_host(authority));
        }
        let paths = self.of_host(&last.1).ok_or(NoRoute::Host)?;
        let found = paths
            .iter()
            .find(|(route, _)| route.has_path(wanted.target));
        found.map(|(_, site)| *site).ok_or(NoRoute::Path)
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

    fn routes(sites: &[&[&str]]) -> Routes {
        let mut routes = Routes::default();
        for (number, site) in sites.iter().enumerate() {
            for route in *site {
                routes.add(route.parse().expect("a route"), number);
            }
        }
        routes.sort();
        routes
    }

    fn find(routes: &Routes, authority: &str, target: &str) -> Result<usize, NoRoute> {
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
            ("example.org", "/", Ok(0)),
            ("EXAMPLE.org.:8080", "/apix", Ok(0)),
            ("example.org", "/api", Ok(1)),
            ("example.org", "/api/v1?x", Ok(2)),
            ("example.org", "/api/v1/x/y", Ok(1)),
            ("www.example.org", "/api", Ok(2)),
            ("a.b.example.org", "/", Ok(2)),
            ("x.deep.example.org", "/a/b", Ok(3)),
            // The host decides first.
            ("x.deep.example.org", "/b", Err(NoRoute::Path)),
            ("notexample.org", "/", Ok(4)),
            ("[::1]:80", "/", Ok(4)),
            ("", "/", Ok(4)),
        ] {
            assert_eq!(find(&all, host, target), site, "{host}{target}");
        }
        let few = routes(&[&["a.example", "[::1]/x"]]);
        assert_eq!(find(&few, "b.example", "/"), Err(NoRoute::Host));
        assert_eq!(find(&few, "[::1]:80", "/x"), Ok(0));
        assert_eq!(find(&few, "[::1]:80", "/y"), Err(NoRoute::Path));
    }
}
