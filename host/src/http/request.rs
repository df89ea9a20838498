//! A request as a guest asks about it.

use std::rc::Rc;

use crate::http::file_body::{Asked, Purpose};
use crate::http::head::Head;
use crate::transport::Transport;

/// What a body's buffer may keep for the next request, bytes.
const KEEP: usize = 64 << 10;

/// A request that has come whole.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) head: Head,
    /// What of the target a guest is given.
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
    /// The fields that followed a chunked body.
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    /// Whose it is; `None` between requests.
    pub(crate) transport: Option<Rc<Transport>>,
    /// Whether it came in TLS.
    pub(crate) secure: bool,
}

impl Request {
    /// Forgets all but the buffers, which the next request uses.
    pub(crate) fn reset(&mut self) {
        self.head.clear();
        self.body.clear();
        self.body.shrink_to(KEEP);
        self.trailers.clear();
        self.transport = None;
    }

    /// What a file is to be the answer to.
    pub(super) fn purpose(&self, status: u16) -> Purpose {
        match (status, self.head.method()) {
            (200, "GET") => Purpose::Get,
            (200, "HEAD") => Purpose::Head,
            _ => Purpose::Whole(status),
        }
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Whether only the head of the response is wanted.
    pub(crate) fn is_head(&self) -> bool {
        self.head.method() == "HEAD"
    }
}

impl Asked for Request {
    fn first(&self, name: &str) -> Option<&[u8]> {
        self.head.first(name)
    }

    fn all(&self, name: &str) -> Vec<&[u8]> {
        self.head
            .fields()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }
}
