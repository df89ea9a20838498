//! Requests.

use std::cell::Cell;
use std::rc::Rc;

use super::held::{Held, Kept};
use super::percent::{Pairs, decode};
use super::{Cookies, Method};
use crate::host::RawRequest;
use crate::{Address, Info, ProxyInfo};

/// A request. It asks the host for what is wanted of it, and so costs no more
/// than that. If its handler waits, the whole request is kept until it answers.
pub struct Request<'a> {
    method: Method,
    target: &'a str,
    source: Source<'a>,
    /// True if the body has arrived; `None` until the host is asked.
    whole: Option<bool>,
    /// The parameters of the path, as they were sent, in their order.
    parameters: &'a [(&'a str, &'a str)],
    /// How many of them were given to arguments of the handler.
    taken: Cell<usize>,
}

/// Where the rest of a request comes from.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// The host, within its call.
    Host(RawRequest<'a>),
    /// The host or memory, for a handler that may wait.
    Held(&'a Rc<Held>),
}

/// Parts of a request for a handler that may wait.
pub(super) struct Parts {
    method: Method,
    target: String,
    held: Rc<Held>,
    whole: Option<bool>,
    parameters: Vec<(String, String)>,
}

impl Parts {
    /// Calls a handler, which may wait.
    pub(super) async fn call<R>(self, handler: impl AsyncFnOnce(Request<'_>) -> R) -> R {
        let parameters = self.parameters.iter();
        let parameters: Vec<_> = parameters.map(|(name, it)| (&**name, &**it)).collect();
        let request = Request {
            method: self.method,
            target: &self.target,
            source: Source::Held(&self.held),
            whole: self.whole,
            parameters: &parameters,
            taken: Cell::new(0),
        };
        handler(request).await
    }
}

impl<'a> Request<'a> {
    /// Makes a request, which has arrived whole if `whole` is true. The host knows
    /// if that is `None`.
    pub(crate) fn new(
        method: Method,
        target: &'a str,
        raw: RawRequest<'a>,
        whole: impl Into<Option<bool>>,
    ) -> Self {
        Self {
            method,
            target,
            source: Source::Host(raw),
            whole: whole.into(),
            parameters: &[],
            taken: Cell::new(0),
        }
    }

    pub(crate) fn with_parameters<'b>(self, parameters: &'b [(&'b str, &'b str)]) -> Request<'b>
    where
        'a: 'b,
    {
        Request {
            method: self.method,
            target: self.target,
            source: self.source,
            whole: self.whole,
            parameters,
            taken: Cell::new(0),
        }
    }

    /// Returns the parts of the request, which outlive it, and what must be
    /// kept if it ends first.
    pub(super) fn into_parts(self) -> (Parts, Rc<Held>) {
        let held = match self.source {
            Source::Host(_) => Rc::default(),
            // A layer hands it on, which may have waited.
            Source::Held(held) => held.clone(),
        };
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let parts = Parts {
            method: self.method,
            target: self.target.to_owned(),
            held: held.clone(),
            whole: self.whole,
            parameters: self.parameters.iter().map(own).collect(),
        };
        (parts, held)
    }

    /// Asks the host, or the memory if the call of the host is over.
    fn ask<T>(&self, host: impl FnOnce(RawRequest<'_>) -> T, memory: impl FnOnce(&Kept) -> T) -> T {
        match self.source {
            Source::Host(raw) => host(raw),
            Source::Held(held) => held.ask(host, memory),
        }
    }

    /// Returns the method.
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// Returns the path and the query as the client sent them, percent signs
    /// and all; `*` for `OPTIONS *`.
    pub const fn target(&self) -> &'a str {
        self.target
    }

    /// Returns the path as the client sent it.
    pub fn path(&self) -> &'a str {
        self.split().0
    }

    /// Returns the query as the client sent it: what follows the question
    /// mark, empty if there is none.
    pub fn query(&self) -> &'a str {
        self.split().1
    }

    fn split(&self) -> (&'a str, &'a str) {
        self.target.split_once('?').unwrap_or((self.target, ""))
    }

    /// Returns the decoded names and values of the query.
    pub fn pairs(&self) -> Pairs {
        Pairs::parse(self.query())
    }

    /// Returns a parameter of the path, decoded: `name` of `/hello/{name}`.
    /// Returns `None` if the path has no such parameter, or if it is not
    /// UTF-8.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let found = self.parameters.iter().find(|(other, _)| *other == name);
        decode(found?.1).map(Into::into)
    }

    /// The next parameter that no argument of the handler has got.
    pub(super) fn next_parameter(&self) -> Option<(&'a str, &'a str)> {
        let at = self.taken.get();
        self.taken.set(at + 1);
        self.parameters.get(at).copied()
    }

    /// The last parameter, which is the rest of the path if the pattern ends so.
    pub(super) fn last_parameter(&self) -> Option<&'a str> {
        self.parameters.last().map(|(_, value)| *value)
    }

    /// Returns the first value of a header; `None` if it was not sent, or is
    /// not UTF-8.
    pub fn header(&self, name: &str) -> Option<String> {
        String::from_utf8(self.raw_header(name)?).ok()
    }

    fn raw_header(&self, name: &str) -> Option<Vec<u8>> {
        self.ask(|raw| raw.header(name), |kept| kept.header(name))
    }

    /// Returns all values of a header, one for each line in which it was sent.
    pub fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.ask(
            |raw| raw.header_values(name),
            |kept| kept.header_values(name),
        )
    }

    /// Returns all headers, in the order in which they were sent.
    pub fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.ask(|raw| raw.headers(), |kept| kept.headers.clone())
    }

    /// Returns the cookies.
    pub fn cookies(&self) -> Cookies {
        Cookies::parse(&self.header_values("cookie"))
    }

    /// True if the body has arrived: always, unless an argument of the handler
    /// is an [`Upload`](super::Upload).
    pub(super) fn is_whole(&self) -> bool {
        self.whole
            .unwrap_or_else(|| self.ask(|raw| raw.is_whole(), |kept| kept.whole))
    }

    /// Begins to read a body that has yet to arrive.
    #[cfg(target_family = "wasm")]
    pub(super) fn begin_reading(&self, token: u64) -> crate::Result<()> {
        self.ask(
            |raw| raw.read_body(token, super::CREDIT),
            |_| Err(crate::Error::other("the body cannot be read any more")),
        )
    }

    /// Sends an interim response, such as 103 (Early Hints, RFC 8297), to be
    /// followed by the response. HTTP/2 clients get it; HTTP/1.1 clients get it
    /// only with `--send-informational`, since some take it for the answer.
    ///
    /// A handler that answers without waiting for anything has nothing to send
    /// before it: the host then drops the interim response.
    ///
    /// ```
    /// use netwasm_guest::http::{Request, Response};
    ///
    /// async fn page(request: Request<'_>) -> Response {
    ///     // The browser fetches it while the page is being made.
    ///     let _ = request.inform(103, [("link", "</style.css>; rel=preload; as=style")]);
    ///     # async fn slow() -> &'static str { "" }
    ///     Response::html(slow().await)
    /// }
    /// # let client = netwasm_guest::testing::Client::new(page);
    /// # assert_eq!(client.get("/").send().status(), 200);
    /// ```
    ///
    /// # Errors
    /// - `InvalidArgument`: the status is not 102 to 199.
    /// - `InvalidState`: the client has left.
    /// - `LimitExceeded`: 16 of them wait to be sent.
    pub fn inform<N: Into<String>, V: Into<Vec<u8>>>(
        &self,
        status: u16,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> crate::Result<()> {
        let headers = headers.into_iter();
        let headers: Vec<_> = headers
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        match self.source {
            Source::Host(raw) => raw.inform(status, &headers),
            Source::Held(held) => held.inform(status, &headers),
        }
    }

    /// Returns the whole body. A body beyond `--max-body` never comes here. Of a
    /// handler with an [`Upload`](super::Upload), it is what that has.
    pub fn body(&self) -> Vec<u8> {
        self.ask(|raw| raw.body(), |kept| kept.body.clone())
    }

    /// Returns the trailers.
    pub fn trailers(&self) -> Vec<(String, Vec<u8>)> {
        self.ask(|raw| raw.trailers(), |kept| kept.trailers.clone())
    }

    /// Returns `http` or `https`.
    pub fn scheme(&self) -> String {
        self.ask(|raw| raw.scheme(), |kept| kept.scheme.clone())
    }

    /// Returns the requested host and port; `None` only if an HTTP/1.0 client
    /// named none.
    pub fn authority(&self) -> Option<String> {
        self.ask(|raw| raw.authority(), |kept| kept.authority.clone())
    }

    /// Returns the addresses and the TLS session of the connection.
    pub fn info(&self) -> Info {
        self.ask(|raw| raw.info(), |kept| kept.info.clone())
    }

    /// Returns what a proxy has told of the connection; `None` if it did not come
    /// through one that sends a PROXY header (`--proxy-protocol-from`).
    pub fn proxied(&self) -> Option<ProxyInfo> {
        self.ask(|raw| raw.proxied(), |kept| kept.proxied.clone())
    }

    /// Returns the address of the client.
    pub fn peer(&self) -> Address {
        self.info().peer
    }

    /// Answers with what went wrong, and why, in the form that the client accepts, as
    /// [`Response::error_because`](super::Response::error_because) does. Without a
    /// reason, the text of the status has to do.
    pub fn refuse(&self, status: u16, reason: &str) -> super::Response {
        super::Response::error_because(status, reason)
    }

    /// Returns true if the request's `Content-Type` is this one, with
    /// parameters or without (RFC 9110, section 8.3.1).
    pub fn has_type(&self, media_type: &str) -> bool {
        let value = self.raw_header("content-type").unwrap_or_default();
        let essence = value.split(|&byte| byte == b';').next();
        let essence = essence.unwrap_or_default().trim_ascii();
        essence.eq_ignore_ascii_case(media_type.as_bytes())
    }
}
