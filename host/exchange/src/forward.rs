//! A handler's decision to forward a request to an upstream.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use netwasm_net::upstream::Group;
use netwasm_net::worker::Worker;

use crate::answer::{Answer, Fields};

/// A request to be forwarded, unread, and the response to be passed on.
pub struct Forward {
    /// The worker of the handler's service, which makes and keeps connections.
    pub worker: Rc<Worker>,
    /// The servers, which the handler may reach.
    pub group: Arc<Group>,
    /// Key for the choice of a server.
    pub key: Option<Vec<u8>>,
    /// Method in place of the client's.
    pub method: Option<String>,
    /// Path and query in place of the client's.
    pub target: Option<String>,
    /// The `Host` field.
    pub host: ForwardedHost,
    /// Edits of the request's header.
    pub request: Edits,
    /// Edits of the response's header.
    pub response: Edits,
    /// Fields that tell the server of the client.
    pub tells: Tells,
    /// Time limit of connecting.
    pub connect_timeout: Option<Duration>,
    /// Limit of silence until the response begins.
    pub response_timeout: Option<Duration>,
    /// Maximum of further attempts.
    pub retries: u32,
    /// Decides about the response, if the handler wants that.
    pub judge: Option<Box<dyn Judge>>,
    /// Maximum size of the request's body, in bytes.
    pub max_body: u64,
}

/// Decides about the response to a forwarded request.
pub trait Judge {
    /// True if it decides about responses, and not only about their lack.
    fn sees_responses(&self) -> bool;

    /// Decides about a response whose head has come.
    fn responded(&self, status: u16, headers: &HeaderMap) -> Verdict;

    /// Decides what the client gets as there is no response: otherwise this
    /// status.
    fn failed(&self, status: u16) -> Verdict;
}

/// A decision about the response to a forwarded request.
pub enum Verdict {
    /// It passes, after these edits of its header.
    Pass(Edits),
    /// This is sent instead.
    Answer(Answer),
    /// The request is forwarded once more.
    Forward(Box<Forward>),
    /// The handler is gone; the reason was logged.
    Gone,
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdict").finish_non_exhaustive()
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").finish_non_exhaustive()
    }
}

/// The `Host` field of a forwarded request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHost {
    /// The client's.
    #[default]
    Kept,
    /// The server's name and port.
    OfServer,
    /// This one.
    Replaced(String),
}

/// Edits of a header, in the order of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Names of fields that are removed.
    pub remove: Vec<String>,
    /// Fields that replace all of their names.
    pub set: Fields,
    /// Fields that are added.
    pub add: Fields,
}

impl Edits {
    /// True if fields of this name, as they came, are not passed on.
    pub fn drops(&self, name: &str) -> bool {
        let is = |other: &str| other.eq_ignore_ascii_case(name);
        self.remove.iter().any(|it| is(it)) || self.set.iter().any(|(it, _)| is(it))
    }
}

/// Fields of a forwarded request that tell the server of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tells {
    /// `Via`: RFC 9110, section 7.6.3.
    pub via: bool,
    /// `Forwarded`: RFC 7239.
    pub forwarded: bool,
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    pub x_forwarded: bool,
    /// True if those that the client sent are believed, and extended. Otherwise
    /// they are removed.
    pub believes: bool,
}
