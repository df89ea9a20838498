//! The handlers of requests, as the HTTP drivers see them.
//!
//! A handler gets a request that has arrived, or whose body it may read as events
//! ([`Handler::handle`]), or a request whose body it reads as a stream
//! ([`Handler::begin`]). Each request is one call
//! through a vtable. A connection without requests has no handler.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use netwasm_net::guest::NoGuest;
use netwasm_net::transport::Transport;
use netwasm_net::turns::Turn;

use crate::answer::Answer;
use crate::content::RequestBody;
use crate::deferred::Deferred;
use crate::forward::Forward;
use crate::reply::Reply;
use crate::request::Request;
use crate::websocket::Accepted;

/// The handlers of a worker.
pub trait Handlers {
    /// Returns the service that a request is for, and when it goes to its
    /// handler. `wanted` tells what the client wants, if that matters.
    fn takes<'a>(&self, wanted: &dyn Fn() -> Wanted<'a>) -> (Site, Takes);

    /// Returns the handler for a connection. The handler decides which requests
    /// share an instance.
    fn connection(&self, transport: &Rc<Transport>) -> Box<dyn Handler>;

    /// True if a handler may open WebSocket connections.
    fn opens_websockets(&self) -> bool {
        false
    }

    /// Runs periodic work. Called on each tick of the clock.
    fn tick(&self) {}
}

/// Host and target that a request is for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Host, perhaps with a port.
    pub authority: Option<&'a str>,
    /// Path and query.
    pub target: &'a str,
}

/// The service that a request is for, of those that share its listener.
#[derive(Clone, Debug, Default)]
pub enum Site {
    /// The one whose listener it is.
    #[default]
    Own,
    /// Another one.
    Other(Rc<Neighbor>),
    /// No service has the host.
    UnknownHost,
    /// A service has the host, and none the path there.
    UnknownPath,
    /// None, since the client has sent too many requests.
    Limited,
}

/// A service on the listener of another one, in one generation. Each request holds
/// it until the request is done with, its records included.
pub struct Neighbor {
    /// Its handlers; `None` once nobody waits for its guests any more.
    handlers: RefCell<Option<Rc<dyn Handlers>>>,
    /// Records of its requests, of a type that the HTTP driver knows.
    pub account: Rc<dyn Any>,
}

impl Neighbor {
    /// Returns a service with these handlers and records.
    pub fn new(handlers: Rc<dyn Handlers>, account: Rc<dyn Any>) -> Rc<Self> {
        Rc::new(Self {
            handlers: RefCell::new(Some(handlers)),
            account,
        })
    }

    /// Returns its handlers, unless it has ended.
    pub fn handlers(&self) -> Option<Rc<dyn Handlers>> {
        self.handlers.borrow().clone()
    }

    /// Notes that nobody waits for its guests any more.
    pub(crate) fn end(&self) {
        let handlers = self.handlers.take();
        // Its instances may have to say something in their end.
        drop(handlers);
    }
}

impl fmt::Debug for Neighbor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Neighbor").finish_non_exhaustive()
    }
}

/// Time at which a request goes to its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Once all of it has arrived, by [`Handler::handle`].
    Whole,
    /// Once its head has arrived, by [`Handler::handle`].
    Heads,
    /// Once its head has arrived, by [`Handler::begin`], for a handler that
    /// reads the body as a stream.
    Streams,
}

/// Answers the requests of a connection.
pub trait Handler: fmt::Debug {
    /// Answers a request, now or later, and gives the request back.
    fn handle(&mut self, request: Box<Request>) -> (Box<Request>, Result<Decision, NoAnswer>);

    /// Begins a request whose body is yet to arrive.
    fn begin(&mut self, call: Call) -> Rc<dyn Awaiting>;
}

/// A handler's decision about a request.
#[derive(Debug)]
pub enum Decision {
    /// The answer. Its body is no stream.
    Answer(Answer),
    /// The answer comes later, or its body does.
    Later(Rc<Deferred>),
    /// The driver forwards the request, and passes the response on.
    Forward(Box<Forward>),
    /// The connection becomes a WebSocket. Only for a request that [`asks`] for
    /// one.
    ///
    /// [`asks`]: crate::websocket::asks
    WebSocket(Box<Accepted>),
    /// The handler takes the request once its body has arrived, if that is no
    /// larger than this, in bytes. Only for a request whose body is arriving.
    Collect(Option<u64>),
}

/// Reason why a handler has no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// No guest is available.
    NoGuest(NoGuest),
    /// The guest is gone; the reason was logged.
    Gone,
}

/// A request for an async handler.
pub struct Call {
    /// The service that it is for.
    pub site: Site,
    /// The request. Its URI has scheme and authority, and its target is as
    /// [`for_uri`](crate::head::target::for_uri) returns it.
    pub head: http::Request<RequestBody>,
    /// True if the request arrived by TLS.
    pub secure: bool,
    /// Place for the answer.
    pub reply: Rc<Reply>,
    /// Turns of the request's connection.
    pub turn: Rc<Turn>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

/// An async handler that is working on a request.
pub trait Awaiting: fmt::Debug {
    /// Tells the handler that nobody waits for the answer any more.
    fn abandon(self: Rc<Self>, reply: &Rc<Reply>);
}

/// Placeholder for a handler where no guest works on the request.
#[derive(Debug)]
pub struct Nobody;

impl Awaiting for Nobody {
    fn abandon(self: Rc<Self>, reply: &Rc<Reply>) {
        reply.abandon();
    }
}
