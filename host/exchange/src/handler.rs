//! Who answers requests, as the drivers of HTTP see it.
//!
//! A handler gets a request that came whole ([`Handler::handle`]), or one whose
//! body it reads as it comes ([`Handler::begin`]). One call for each request, by
//! a vtable; a connection that asks for nothing has none.

use std::fmt;
use std::rc::Rc;

use netwasm_net::guest::NoGuest;
use netwasm_net::turns::Turn;

use crate::answer::Answer;
use crate::content::RequestBody;
use crate::reply::Reply;
use crate::request::Request;

/// The handlers of a worker.
pub trait Handlers {
    /// Whether they read the bodies of requests by themselves, and take calls by
    /// [`Handler::begin`].
    fn awaits(&self) -> bool;

    /// The one for a connection. Who shares an instance is decided there.
    fn connection(&self) -> Box<dyn Handler>;
}

/// Answers the requests of a connection.
pub trait Handler: fmt::Debug {
    /// Has it answer a request that came whole, and gives that back.
    fn handle(&mut self, request: Box<Request>) -> (Box<Request>, Result<Answer, NoAnswer>);

    /// Gives it a request whose body is yet to come.
    fn begin(&mut self, call: Call) -> Rc<dyn Awaiting>;
}

/// Why a handler has no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// There is none.
    NoGuest(NoGuest),
    /// It is no more; why was logged.
    Gone,
}

/// A request for a handler that awaits.
pub struct Call {
    /// The request; its URI has scheme and authority, and the target as
    /// [`for_uri`](crate::head::target::for_uri) has it.
    pub head: http::Request<RequestBody>,
    /// Whether it came in TLS.
    pub secure: bool,
    /// Where the answer goes.
    pub reply: Rc<Reply>,
    /// The turns of the connection that it came on.
    pub turn: Rc<Turn>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

/// A handler that is at a request.
pub trait Awaiting: fmt::Debug {
    /// Nobody waits for the answer any more.
    fn abandon(self: Rc<Self>, reply: &Rc<Reply>);
}
