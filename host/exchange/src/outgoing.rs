//! Requests that guests send, as seen by their instances.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use send_wrapper::SendWrapper;
use tokio::sync::OwnedSemaphorePermit;

use netwasm_base::trace::Trace;
use netwasm_net::health::Health;
use netwasm_net::transport::Transport;

use crate::failure::Failure;
use crate::websocket::{ClientRequest, OpeningByClient};

/// Largest number of exchanges that an instance may have at once.
pub const MOST_EXCHANGES: usize = 128;

/// Body of a request that a guest sends, or of its response.
pub type WireBody = UnsyncBoxBody<Bytes, Failure>;

/// Time limits that a guest sets for an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendOptions {
    /// Limit until there is a connection.
    pub connect_timeout: Option<Duration>,
    /// Limit from then until the response begins.
    pub first_byte_timeout: Option<Duration>,
    /// Limit between two pieces of the response's body.
    pub between_bytes_timeout: Option<Duration>,
}

/// The guest's side of an exchange.
pub struct Exchange {
    /// Permit of the instance's limit, given back at the end of the exchange.
    pub place: OwnedSemaphorePermit,
    /// State of the instance. If the instance fails, what it sent is
    /// incomplete.
    pub health: SendWrapper<Rc<Health>>,
    /// Time limits.
    pub options: SendOptions,
    /// Span of the request that the guest handles meanwhile, if there is one
    /// alone and requests are traced.
    pub trace: Option<SendWrapper<Rc<Trace>>>,
}

/// A response, and a future that tells how the request's body ended.
pub type Received = (
    Response<WireBody>,
    Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>,
);

/// Future of a response.
pub type Sending = Pin<Box<dyn Future<Output = Result<Received, Failure>>>>;

/// Sends the requests of a worker's guests.
pub trait Outgoing: fmt::Debug {
    /// Sends a request, and waits for the head of its response. To abandon the
    /// exchange, drop this future, or the response's body before its end.
    ///
    /// The caller has checked the destination against the policy. The addresses
    /// of a name are checked when they are connected to.
    fn send(&self, request: Request<WireBody>, exchange: Exchange) -> Sending;

    /// Asks the server of a new connection for a WebSocket on it. To abandon that,
    /// drop the future. The caller limits its time.
    fn open_websocket(&self, transport: Rc<Transport>, request: ClientRequest) -> OpeningByClient;
}
