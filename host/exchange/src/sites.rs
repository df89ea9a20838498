//! The handlers of a listener of HTTP, which several services may share: each
//! request goes to the service of its host and path.
//!
//! A reload may replace a service here, add one or take one away, while the
//! listener's own service goes on ([`Sites::replace`]). Requests that have begun stay
//! with the generation that they were for; the next ones, on open connections too,
//! go where the new routes lead.

mod routes;

use std::cell::RefCell;
use std::fmt;
use std::rc::{Rc, Weak};

use netwasm_base::config::{Route, plain_host};
use netwasm_net::thread::{Active, Thread};
use netwasm_net::transport::Transport;

use crate::answer::Answer;
use crate::handler::{
    Awaiting, Call, Decision, Handler, Handlers, Neighbor, NoAnswer, Nobody, Site, Takes, Wanted,
};
use crate::reply::NoResponse;
use crate::request::Request;

use self::routes::{Found, Routes};

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
