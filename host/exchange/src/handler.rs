//! The handlers of requests, as the HTTP drivers see them.
//!
//! A handler gets a buffered request ([`Handler::handle`]), or a request whose
//! body it reads as a stream ([`Handler::begin`]). Each request is one call
//! through a vtable. A connection without requests has no handler.

use std::fmt;
use std::rc::Rc;

use netwasm_net::guest::NoGuest;
use netwasm_net::turns::Turn;

use crate::answer::Answer;
use crate::content::RequestBody;
use crate::deferred::Deferred;
use crate::reply::Reply;
use crate::request::Request;

/// The handlers of a worker.
pub trait Handlers {
    /// True if the handlers read requests' bodies as streams, and take calls by
    /// [`Handler::begin`].
    fn awaits(&self) -> bool;

    /// Returns the handler for a connection. The handler decides which requests
    /// share an instance.
    fn connection(&self) -> Box<dyn Handler>;
}

/// Answers the requests of a connection.
pub trait Handler: fmt::Debug {
    /// Answers a buffered request, now or later, and gives the request back.
    fn handle(&mut self, request: Box<Request>) -> (Box<Request>, Result<Decision, NoAnswer>);

    /// Begins a request whose body is yet to arrive.
    fn begin(&mut self, call: Call) -> Rc<dyn Awaiting>;
}

/// A handler's decision about a buffered request.
#[derive(Debug)]
pub enum Decision {
    /// The answer.
    Answer(Answer),
    /// The answer comes later.
    Later(Rc<Deferred>),
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
