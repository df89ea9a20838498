//! The handlers of a listener of HTTP, which several services may share: each
//! request goes to the service of its host and path.
//!
//! A reload may replace a service here, add one or take one away, while the
//! listener's own service goes on ([`Sites::replace`]). Requests that have begun stay
//! with the generation that they were for; the next ones, on open connections too,
//! go where the new routes lead.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::{Rc, Weak};

use netwasm_base::config::{HostPattern, Route, plain_host, plain_path};
use netwasm_net::thread::{Active, Thread};
use netwasm_net::transport::Transport;

use crate::answer::Answer;
use crate::handler::{
    Awaiting, Call, Decision, Handler, Handlers, Neighbor, NoAnswer, Nobody, Site, Takes, Wanted,
};
use crate::reply::NoResponse;
use crate::request::Request;

/// Answer to a request for a host that is another one's than TLS has named.
const MISDIRECTED: &str = "the connection is for another host";

/// Answer to a request that no service has.
const UNKNOWN: &str = "no service has this host and path";

/// The services of a listener.
pub struct Sites {
    /// Handlers of the service whose listener it is.
    own: Rc<dyn Handlers>,
    /// Its routes; none for all requests.
    own_routes: Vec<Route>,
    table: RefCell<Table>,
    connections: Rc<RefCell<Vec<Weak<OpenConnection>>>>,
    /// Services that were replaced.
    leaving: RefCell<Vec<Leaving>>,
}

/// A service on the listener of another one.
pub struct Member {
    /// Its routes; none for all requests.
    pub routes: Vec<Route>,
    /// Its handlers, and records of its requests.
    pub neighbor: Rc<Neighbor>,
    /// Its worker's thread.
    pub thread: Rc<Thread>,
}

/// The services as they are now.
struct Table {
    /// True if the service whose listener it is has all requests.
    is_alone: bool,
    routes: Routes,
    /// The other services; the first has the number 1.
    others: Vec<Joined>,
}

/// Another service, whose worker goes on until this is dropped.
struct Joined {
    neighbor: Rc<Neighbor>,
    thread: Rc<Thread>,
    active: Active,
}

/// A service that was replaced, whose worker goes on until this is dropped.
struct Leaving {
    /// Held by requests that have begun.
    neighbor: Weak<Neighbor>,
    thread: Rc<Thread>,
    _active: Active,
}

impl fmt::Debug for Sites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sites").finish_non_exhaustive()
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").finish_non_exhaustive()
    }
}

impl Sites {
    /// Joins the service whose listener it is, with these handlers and routes, and
    /// others.
    #[must_use]
    pub fn new(own: Rc<dyn Handlers>, own_routes: Vec<Route>, others: Vec<Member>) -> Self {
        let table = Table::new(&own_routes, others);
        Self {
            own,
            own_routes,
            table: RefCell::new(table),
            connections: Rc::default(),
            leaving: RefCell::default(),
        }
    }

    /// True if no other service shares the listener.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.table.borrow().others.is_empty()
    }

    /// Replaces the other services. Those that are the same stay as they are.
    pub fn replace(&self, others: Vec<Member>) {
        let next = Table::new(&self.own_routes, others);
        let old = self.table.replace(next);
        let table = self.table.borrow();
        let stays = |old: &Joined| {
            let mut others = table.others.iter();
            others.any(|it| Rc::ptr_eq(&it.neighbor, &old.neighbor))
        };
        let left = old.others.into_iter().filter(|old| !stays(old));
        let left = left.map(|old| Leaving {
            neighbor: Rc::downgrade(&old.neighbor),
            thread: old.thread,
            _active: old.active,
        });
        self.leaving.borrow_mut().extend(left);
        drop(table);
        self.release();
    }

    /// Returns the service whose worker has this thread state, if it is here.
    #[must_use]
    pub fn neighbor(&self, thread: &Rc<Thread>) -> Option<Rc<Neighbor>> {
        let table = self.table.borrow();
        let mut others = table.others.iter();
        let found = others.find(|it| Rc::ptr_eq(&it.thread, thread))?;
        Some(Rc::clone(&found.neighbor))
    }

    /// Releases services that were replaced and have no request left, and what
    /// idle connections have of others.
    fn release(&self) {
        let mut released = Vec::new();
        let mut ended = Vec::new();
        self.leaving.borrow_mut().retain(|leaving| {
            let is_aborting = leaving.thread.is_aborting();
            if is_aborting {
                ended.extend(leaving.neighbor.upgrade());
            }
            let is_over = is_aborting || leaving.neighbor.strong_count() == 0;
            let connections = self.connections.borrow();
            for connection in connections.iter().filter_map(Weak::upgrade) {
                if is_over || connection.transport.idle.get() {
                    released.extend(connection.take(&leaving.neighbor));
                }
            }
            !is_over
        });
        // Their instances may have to say something in their end.
        drop(released);
        for neighbor in ended {
            neighbor.end();
        }
    }
}

impl Table {
    fn new(own_routes: &[Route], others: Vec<Member>) -> Self {
        let mut routes = Routes::default();
        routes.add_all(own_routes.to_vec(), 0);
        let mut joined = Vec::new();
        for (number, other) in others.into_iter().enumerate() {
            let Member {
                routes: its,
                neighbor,
                thread,
            } = other;
            routes.add_all(its, number + 1);
            joined.push(Joined {
                neighbor,
                active: thread.active(),
                thread,
            });
        }
        routes.sort();
        Self {
            is_alone: own_routes.is_empty() && joined.is_empty(),
            routes,
            others: joined,
        }
    }
}

impl Handlers for Sites {
    fn takes<'a>(&self, wanted: &dyn Fn() -> Wanted<'a>) -> (Site, Takes) {
        let table = self.table.borrow();
        if table.is_alone {
            return (Site::Own, self.own.takes(wanted).1);
        }
        let number = match table.routes.find(wanted()) {
            Found::Service(0) => return (Site::Own, self.own.takes(wanted).1),
            Found::Service(number) => number,
            // Without a service, the host answers as soon as it knows.
            Found::UnknownHost => return (Site::UnknownHost, Takes::Heads),
            Found::UnknownPath => return (Site::UnknownPath, Takes::Heads),
        };
        match table.others.get(number - 1) {
            Some(Joined { neighbor, .. }) => {
                let takes = neighbor.handlers().map(|it| it.takes(wanted).1);
                let takes = takes.unwrap_or(Takes::Heads);
                (Site::Other(Rc::clone(neighbor)), takes)
            }
            None => (Site::UnknownPath, Takes::Heads),
        }
    }

    fn connection(&self, transport: &Rc<Transport>) -> Box<dyn Handler> {
        let open = Rc::new(OpenConnection {
            transport: Rc::clone(transport),
            others: RefCell::default(),
        });
        let mut connections = self.connections.borrow_mut();
        if connections.len() == connections.capacity() {
            connections.retain(|connection| connection.strong_count() > 0);
            // The next look is after as many again.
            let most = connections.len();
            connections.reserve(most);
        }
        connections.push(Rc::downgrade(&open));
        Box::new(OfConnection {
            handlers: Rc::clone(&self.own),
            own: None,
            open,
        })
    }

    fn opens_websockets(&self) -> bool {
        let opens = |it: &Joined| {
            it.neighbor
                .handlers()
                .is_some_and(|it| it.opens_websockets())
        };
        self.own.opens_websockets() || self.table.borrow().others.iter().any(opens)
    }

    fn tick(&self) {
        if !self.leaving.borrow().is_empty() {
            self.release();
        }
    }
}

/// A connection to the listener, and its handlers of other services.
struct OpenConnection {
    transport: Rc<Transport>,
    /// Made when they are first needed. Mostly there is none or one.
    others: RefCell<Vec<OfNeighbor>>,
}

/// The handler of another service, for a connection.
type OfNeighbor = (Weak<Neighbor>, Box<dyn Handler>);

impl OpenConnection {
    /// Takes the handler of a service.
    fn take(&self, of: &Weak<Neighbor>) -> Option<Box<dyn Handler>> {
        // It is borrowed only while a handler is called.
        let mut others = self.others.try_borrow_mut().ok()?;
        let place = others.iter().position(|(known, _)| known.ptr_eq(of))?;
        Some(others.swap_remove(place).1)
    }
}

/// Answers the requests of a connection.
struct OfConnection {
    handlers: Rc<dyn Handlers>,
    /// Handler of the service whose listener it is, made when it is first needed.
    own: Option<Box<dyn Handler>>,
    open: Rc<OpenConnection>,
}

impl fmt::Debug for OfConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfConnection").finish_non_exhaustive()
    }
}

impl OfConnection {
    /// Calls the handler of a service. Returns `None` if there is no service, or if
    /// it has ended.
    fn with<T>(&mut self, site: &Site, call: impl FnOnce(&mut dyn Handler) -> T) -> Option<T> {
        let transport = &self.open.transport;
        let neighbor = match site {
            Site::Own => {
                let make = || self.handlers.connection(transport);
                return Some(call(&mut **self.own.get_or_insert_with(make)));
            }
            Site::Other(neighbor) => neighbor,
            Site::UnknownHost | Site::UnknownPath | Site::Limited => return None,
        };
        let mut others = self.open.others.borrow_mut();
        let is_its = |of: &Weak<Neighbor>| of.as_ptr() == Rc::as_ptr(neighbor);
        let known = others.iter().position(|(of, _)| is_its(of));
        let place = match known {
            Some(place) => place,
            None => {
                let made = neighbor.handlers()?.connection(transport);
                others.push((Rc::downgrade(neighbor), made));
                others.len() - 1
            }
        };
        let (_, handler) = others.get_mut(place)?;
        Some(call(&mut **handler))
    }
}

impl Handler for OfConnection {
    fn handle(&mut self, request: Box<Request>) -> (Box<Request>, Result<Decision, NoAnswer>) {
        let site = request.site.clone();
        let mut request = Some(request);
        let handle = |handler: &mut dyn Handler| request.take().map(|it| handler.handle(it));
        if let Some(Some(answered)) = self.with(&site, handle) {
            return answered;
        }
        let request = request.unwrap_or_default();
        if matches!(site, Site::Other(_)) {
            return (request, Err(NoAnswer::Gone));
        }
        let host = plain_host(request.head.authority().unwrap_or_default());
        let named = request.transport.as_ref().and_then(|it| it.session_info());
        let named = named.and_then(|info| info.server_name);
        let answer = match named {
            Some(named) if matches!(site, Site::UnknownHost) && plain_host(&named) != host => {
                Answer::status(421, MISDIRECTED)
            }
            _ => Answer::status(404, UNKNOWN),
        };
        drop(host);
        (request, Ok(Decision::Answer(answer)))
    }

    fn begin(&mut self, call: Call) -> Rc<dyn Awaiting> {
        let (site, reply) = (call.site.clone(), Rc::clone(&call.reply));
        let begun = self.with(&site, |handler| handler.begin(call));
        begun.unwrap_or_else(|| {
            // Such a request goes to `handle`.
            reply.fail(NoResponse::NoInstance);
            Rc::new(Nobody)
        })
    }
}

/// Result of a search among routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// A service by its number; 0 is the one whose listener it is.
    Service(usize),
    /// No service has the host.
    UnknownHost,
    /// A service has the host, and none the path there.
    UnknownPath,
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
    /// Adds the routes of a service; without any, it has all requests.
    fn add_all(&mut self, routes: Vec<Route>, service: usize) {
        match routes.is_empty() {
            true => self.add(Route::all(), service),
            false => routes
                .into_iter()
                .for_each(|route| self.add(route, service)),
        }
    }

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
    fn find(&self, wanted: Wanted<'_>) -> Found {
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
