//! Responses that an event instance has begun and not ended: deferred ones, and
//! bodies that it sends piece by piece.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use http::{HeaderMap, HeaderName, HeaderValue};

use netwasm_exchange::answer::{Fields, StreamedBody};
use netwasm_exchange::chunked::is_dropped;
use netwasm_exchange::content::Content;
use netwasm_exchange::deferred::Deferred;
use netwasm_exchange::outlet::{Outlet, OutletGuest};
use netwasm_exchange::topics::events::Reader;
use netwasm_net::guest::Gone;
use netwasm_net::turns::Turn;

use crate::served::request_lines;

/// A guest that responds later or piece by piece. Each call may fail with
/// [`Gone`].
pub(crate) trait Responds {
    /// Announces that there is room for more of a body.
    fn response_writable(&self, token: u64) -> Result<(), Gone>;

    /// Announces that a response needs nothing more, after which its token is
    /// free.
    fn abandoned(&self, token: u64) -> Result<(), Gone>;
}

/// Responses of an instance by the guest's tokens. Dropping them tells the
/// connections that nothing more comes.
#[derive(Debug, Default)]
pub(crate) struct Responses {
    open: HashMap<u64, OpenResponse>,
    /// Bytes queued by all bodies of the instance.
    pub(crate) held: Rc<Cell<usize>>,
}

/// The client that a response is for.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    /// Turns of its connection.
    pub(crate) turn: Rc<Turn>,
    /// The client as one that reads events.
    pub(crate) reader: Reader,
}

/// A request that is answered later.
#[derive(Clone, Debug)]
pub(crate) struct DeferredRequest {
    /// Place for the guest's decision.
    pub(crate) decision: Rc<Deferred>,
    /// The client.
    pub(crate) asker: Asker,
    /// True if the guest reads the request's body.
    pub(crate) is_read: bool,
    /// The request as the log shows it.
    pub(crate) line: Rc<str>,
}

#[derive(Debug)]
enum OpenResponse {
    Deferred(DeferredRequest),
    Body(Rc<Outlet>),
}

impl Responses {
    /// Returns the number of responses.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// True if a token is in use.
    pub(crate) fn has(&self, token: u64) -> bool {
        self.open.contains_key(&token)
    }

    /// Adds a deferred request under a token that is not in use.
    pub(crate) fn add_deferred(&mut self, token: u64, deferred: DeferredRequest) {
        self.open.insert(token, OpenResponse::Deferred(deferred));
    }

    /// Adds a body under a token that is not in use.
    pub(crate) fn add_body(&mut self, token: u64, outlet: Rc<Outlet>) {
        self.open.insert(token, OpenResponse::Body(outlet));
    }

    /// Returns the deferred request of a token.
    pub(crate) fn deferred(&self, token: u64) -> Option<&DeferredRequest> {
        match self.open.get(&token)? {
            OpenResponse::Deferred(deferred) => Some(deferred),
            OpenResponse::Body(_) => None,
        }
    }

    /// Returns the deferred requests with their clients for a log line; `None` if
    /// there are none.
    pub(crate) fn deferred_requests(&self) -> Option<String> {
        let deferred = self.open.iter().filter_map(|(token, it)| match it {
            OpenResponse::Deferred(deferred) => Some((token, deferred)),
            OpenResponse::Body(_) => None,
        });
        let mut deferred: Vec<_> = deferred.collect();
        deferred.sort_unstable_by_key(|(token, _)| **token);
        request_lines(deferred.into_iter().map(|(_, it)| {
            let transport = it.asker.reader.transport.as_ref();
            (it.line.to_string(), transport.map(|it| it.peer().clone()))
        }))
    }

    /// Returns the body of a token.
    pub(crate) fn body(&self, token: u64) -> Option<&Rc<Outlet>> {
        match self.open.get(&token)? {
            OpenResponse::Deferred(..) => None,
            OpenResponse::Body(outlet) => Some(outlet),
        }
    }

    /// Frees a token.
    pub(crate) fn remove(&mut self, token: u64) {
        self.open.remove(&token);
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        for response in self.open.values() {
            match response {
                OpenResponse::Deferred(deferred) => deferred.decision.give(None),
                OpenResponse::Body(outlet) => outlet.cut(),
            }
        }
    }
}

/// The guest of a streamed body.
pub(crate) struct BodyOfGuest<G> {
    pub(crate) instance: Weak<G>,
    pub(crate) token: u64,
}

impl<G: Responds> OutletGuest for BodyOfGuest<G> {
    fn writable(&self) {
        if let Some(instance) = self.instance.upgrade() {
            // A trap is already logged.
            let _ = instance.response_writable(self.token);
        }
    }

    fn abandoned(&self) {
        if let Some(instance) = self.instance.upgrade() {
            let _ = instance.abandoned(self.token);
        }
    }
}

/// Wraps a body, or the connection's end of one.
pub(crate) fn streamed(
    content: impl Content + Unpin + 'static,
    length: Option<u64>,
) -> StreamedBody {
    StreamedBody {
        content: Box::new(content),
        length,
    }
}

/// Converts a guest's trailers. Returns `None` if one of them is malformed or
/// must not be a trailer.
pub(crate) fn trailers(fields: &Fields) -> Option<Option<HeaderMap>> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(value).ok()?;
        if is_dropped(name.as_str()) {
            return None;
        }
        map.try_append(name, value).ok()?;
    }
    Some((!map.is_empty()).then_some(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_neither_frames_nor_breaks_a_line() {
        let field = |name: &str, value: &str| vec![(name.to_owned(), value.into())];
        assert_eq!(trailers(&Vec::new()), Some(None));
        assert!(trailers(&field("x-sum", "1")).flatten().is_some());
        for (name, value) in [("x sum", "1"), ("x", "1\r\n"), ("content-length", "1")] {
            assert_eq!(trailers(&field(name, value)), None, "{name}");
        }
    }
}
