//! Requests that guests send, as their instances see it.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use send_wrapper::SendWrapper;
use tokio::sync::OwnedSemaphorePermit;

use netwasm_net::health::Health;

use crate::failure::Failure;

/// Exchanges that an instance may have under way at once.
pub const MOST_EXCHANGES: usize = 128;

/// A body on its way from a guest or to it.
pub type WireBody = UnsyncBoxBody<Bytes, Failure>;

/// How long an exchange may take, where the guest says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendOptions {
    /// Until there is a connection.
    pub connect_timeout: Option<Duration>,
    /// From then until the response begins.
    pub first_byte_timeout: Option<Duration>,
    /// Between two pieces of its body.
    pub between_bytes_timeout: Option<Duration>,
}

/// What an exchange is of its guest.
pub struct Exchange {
    /// Given back at its end.
    pub place: OwnedSemaphorePermit,
    /// How the instance fares: where it fails, what it sent is not whole.
    pub health: SendWrapper<Rc<Health>>,
    /// Its time-outs.
    pub options: SendOptions,
}

/// A response, and what tells how the request's body has ended.
pub type Received = (
    Response<WireBody>,
    Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>,
);

/// Waits for a response.
pub type Sending = Pin<Box<dyn Future<Output = Result<Received, Failure>>>>;

/// Sends the requests of a worker's guests.
pub trait Outgoing: fmt::Debug {
    /// Sends a request, and waits for the head of its response. Dropping this,
    /// or the response's body before its end, gives the exchange up.
    ///
    /// What may be reached was judged before; an address that a name leads to is
    /// judged when it is connected to.
    fn send(&self, request: Request<WireBody>, exchange: Exchange) -> Sending;
}
