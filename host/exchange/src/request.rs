//! A request as a guest asks about it.

use std::rc::Rc;

use netwasm_net::transport::Transport;

use crate::head::Head;

/// What a body's buffer may keep for the next request, bytes.
const KEEP: usize = 64 << 10;

/// A request that has come whole.
#[derive(Debug, Default)]
pub struct Request {
    /// Its head.
    pub head: Head,
    /// What of the target a guest is given.
    pub target: String,
    /// Its body, without its coding.
    pub body: Vec<u8>,
    /// The fields that followed a chunked body.
    pub trailers: Vec<(String, Vec<u8>)>,
    /// Whose it is; `None` between requests.
    pub transport: Option<Rc<Transport>>,
    /// Whether it came in TLS.
    pub secure: bool,
}

impl Request {
    /// Forgets all but the buffers, which the next request uses.
    pub fn reset(&mut self) {
        self.head.clear();
        self.body.clear();
        self.body.shrink_to(KEEP);
        self.trailers.clear();
        self.transport = None;
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Whether only the head of the response is wanted.
    pub fn is_head(&self) -> bool {
        self.head.method() == "HEAD"
    }
}
