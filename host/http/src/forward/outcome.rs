//! Outcomes of a forwarded request.

use http::{HeaderMap, HeaderValue};

use netwasm_base::error::ConnectionError;
use netwasm_exchange::answer::Answer;
use netwasm_exchange::reply::Answered;
use netwasm_net::upstream::NoPlace;

use crate::forward::compose::UnsendableRequest;
use crate::forward::line::Line;
use crate::forward::reading::Malformed;
use crate::forward::relay::StreamEnd;
use crate::forward::upload::Unsent;

/// Why an attempt gave no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoResponse {
    #[error("no connection: {0}")]
    Connect(ConnectionError),
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    #[error("the connection was lost before a response: {0}")]
    Lost(ConnectionError),
    #[error("the server has closed the connection before a response")]
    Ended,
    #[error("the server has reset the stream: {0}")]
    Reset(h2::Reason),
    #[error("the server has not processed the request: it takes no more on this connection")]
    Unprocessed,
    #[error("nothing of a response has come in time")]
    Silent,
    #[error("the response cannot be passed on: {0}")]
    Malformed(#[from] Malformed),
    #[error("too many interim responses")]
    Interims,
    #[error("the client has left")]
    Client,
    #[error("the request's body is larger than the guest allows")]
    TooLarge,
    #[error("the request or its response cannot pass as the guest wants it: {0}")]
    Unsendable(#[from] UnsendableRequest),
}

impl From<Unsent> for NoResponse {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Client => Self::Client,
            Unsent::TooLarge => Self::TooLarge,
        }
    }
}

/// Outcome for the client.
pub(crate) enum Passed {
    Response(Answered),
    /// The handler's own response.
    Answer(Answer),
    /// The connection changes to another protocol.
    Upgrade(Upgrade),
}

/// A connection to a server, or a stream there, that changes to another protocol.
#[derive(Debug)]
pub(crate) struct Upgrade {
    /// Fields of the response, without those of the connection.
    pub(crate) headers: HeaderMap,
    pub(crate) protocol: HeaderValue,
    /// The server's end.
    pub(super) end: ServerEnd,
}

/// The server's end of a tunnel.
#[derive(Debug)]
pub(super) enum ServerEnd {
    Line(Line),
    Stream(StreamEnd),
}

/// Outcome for the client, or the status to send instead, which was logged.
pub(crate) type PassedOn = Result<Passed, u16>;

impl NoResponse {
    /// Returns the kind of failure, for spans: OpenTelemetry's `error.type`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Connect(ConnectionError::Timeout(_)) => "connect_timeout",
            Self::Connect(_) => "connect",
            Self::NoPlace(_) => "no_place",
            Self::Lost(_) | Self::Ended => "connection_lost",
            Self::Reset(_) => "reset",
            Self::Unprocessed => "unprocessed",
            Self::Silent => "timeout",
            Self::Malformed(_) | Self::Interims => "malformed_response",
            Self::Client => "client_left",
            Self::TooLarge => "request_too_large",
            Self::Unsendable(_) => "unsendable",
        }
    }

    /// Returns the status for the client.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::NoPlace(_) | Self::Connect(ConnectionError::LimitExceeded(_)) => 503,
            Self::Connect(ConnectionError::Timeout(_)) | Self::Silent => 504,
            Self::Unsendable(_) => 500,
            Self::TooLarge => 413,
            _ => 502,
        }
    }
}
