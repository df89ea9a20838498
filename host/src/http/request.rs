//! A request as a guest asks about it.

use std::rc::Rc;

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

    pub(crate) fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Whether only the head of the response is wanted.
    pub(crate) fn is_head(&self) -> bool {
        self.head.method() == "HEAD"
    }
}
