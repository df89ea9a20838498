//! A request as a guest sees it.

use std::rc::Rc;

use netwasm_base::trace::Trace;
use netwasm_net::transport::Transport;

use crate::content::RequestBody;
use crate::handler::Site;
use crate::head::Head;
use crate::told::ErrorForm;

/// Largest capacity that a body's buffer keeps for the next request, in bytes.
const KEEP: usize = 64 << 10;

/// A request that an event guest gets: all of it has arrived, or all but its
/// body.
#[derive(Debug, Default)]
pub struct Request {
    /// Its head.
    pub head: Head,
    /// The service that it is for.
    pub site: Site,
    /// The part of the target that a guest gets.
    pub target: String,
    /// The body, decoded.
    pub body: Vec<u8>,
    /// Trailers of a chunked body.
    pub trailers: Vec<(String, Vec<u8>)>,
    /// True if the body has yet to arrive.
    pub arriving: bool,
    /// True if a response with status 2xx would say that the stream has changed
    /// to another protocol: RFC 8441.
    pub tunnels: bool,
    /// That body, unless it is being read.
    pub coming: Option<RequestBody>,
    /// The request's connection; `None` between requests.
    pub transport: Option<Rc<Transport>>,
    /// True if the request arrived by TLS.
    pub secure: bool,
    /// Its span, if requests are traced.
    pub trace: Option<Rc<Trace>>,
}

impl Request {
    /// Clears all but the buffers, which the next request uses.
    pub fn reset(&mut self) {
        self.head.clear();
        self.site = Site::default();
        self.body.clear();
        self.body.shrink_to(KEEP);
        self.trailers.clear();
        self.arriving = false;
        self.tunnels = false;
        self.coming = None;
        self.transport = None;
        self.trace = None;
    }

    /// Returns the size of the buffers that a later request may reuse, in bytes.
    pub fn room(&self) -> usize {
        self.head.room() + self.target.capacity() + self.body.capacity()
    }

    /// Returns `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Returns the form of an error for the client.
    pub fn error_form(&self) -> ErrorForm {
        ErrorForm::of(self.head.all("accept"))
    }

    /// True if the method is `HEAD`: only the head of the response is wanted.
    pub fn is_head(&self) -> bool {
        self.head.method() == "HEAD"
    }
}
