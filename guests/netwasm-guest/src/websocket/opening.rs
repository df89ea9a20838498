//! Decisions about connections that clients want.

use std::rc::Rc;

use super::{SharedWebSocket, WebSocket, serve};
use crate::executor::Outcome;
use crate::http::{Request, Response};

/// A decision about a connection.
pub struct Opening(Decided);

pub(crate) enum Decided {
    Accept(Accepted),
    Refuse(Response),
}

/// A connection that is accepted.
pub(crate) struct Accepted {
    pub(crate) protocol: Option<String>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) start: Start,
}

/// Starts the task of a connection.
type Start = Box<dyn FnOnce(&Rc<SharedWebSocket>)>;

impl Opening {
    /// Accepts the connection, which is given to an async function.
    pub fn accept<F>(handler: impl FnOnce(WebSocket) -> F + 'static) -> Self
    where
        F: Future + 'static,
        F::Output: Outcome,
    {
        Self(Decided::Accept(Accepted {
            protocol: None,
            headers: Vec::new(),
            start: Box::new(move |shared| serve(shared, handler)),
        }))
    }

    /// Refuses the connection with a response.
    pub fn refuse(response: impl Into<Response>) -> Self {
        Self(Decided::Refuse(response.into()))
    }

    /// Chooses a protocol, which must be one of those that the client offers in
    /// `Sec-WebSocket-Protocol`. Otherwise the client gets a 500.
    #[must_use]
    pub fn protocol(mut self, name: impl Into<String>) -> Self {
        if let Decided::Accept(accepted) = &mut self.0 {
            accepted.protocol = Some(name.into());
        }
        self
    }

    /// Adds a header to the answer, `Set-Cookie` for example.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        if let Decided::Accept(accepted) = &mut self.0 {
            accepted.headers.push((name.into(), value.into()));
        }
        self
    }

    pub(crate) fn into_decided(self) -> Decided {
        self.0
    }
}

/// The argument of `export!(websocket: ...)`: an async function of a [`WebSocket`], or a
/// function of a `&`[`Request`] that returns an [`Opening`].
pub trait Opens<Marker> {
    /// Decides about a connection.
    #[doc(hidden)]
    fn open(self, request: &Request<'_>) -> Opening;
}

/// Marks a function of connections.
#[doc(hidden)]
pub struct ByConnection<F>(std::marker::PhantomData<F>);

/// Marks a function of requests.
#[doc(hidden)]
pub struct ByRequest;

impl<H, F> Opens<ByConnection<F>> for H
where
    H: FnOnce(WebSocket) -> F + 'static,
    F: Future + 'static,
    F::Output: Outcome,
{
    fn open(self, _: &Request<'_>) -> Opening {
        Opening::accept(self)
    }
}

impl<H> Opens<ByRequest> for H
where
    H: FnOnce(&Request<'_>) -> Opening,
{
    fn open(self, request: &Request<'_>) -> Opening {
        self(request)
    }
}
