//! Requests and responses, and the clients of HTTP/1.1 and HTTP/2.

/// Requests of a method that need no headers, of a client with `request`.
macro_rules! simple_requests {
    () => {
        /// Sends a GET request for `target`, such as `/search?q=tea`.
        ///
        /// # Panics
        /// Panics as [`Request::send`] does.
        #[track_caller]
        #[must_use]
        pub fn get(&mut self, target: &str) -> Response {
            self.request("GET", target).send()
        }

        /// Sends a POST request with a body of any type: it has no `Content-Type`,
        /// which handlers of JSON and forms want. For JSON, there is
        /// [`Self::post_json`]; for other types, [`Self::request`] with a header.
        ///
        /// # Panics
        /// Panics as [`Request::send`] does.
        #[track_caller]
        #[must_use]
        pub fn post(&mut self, target: &str, body: impl Into<Vec<u8>>) -> Response {
            self.request("POST", target).body(body).send()
        }

        /// Sends a POST request with a body of JSON, and its `Content-Type`.
        ///
        /// # Panics
        /// Panics as [`Request::json`] and [`Request::send`] do.
        #[track_caller]
        #[must_use]
        pub fn post_json(&mut self, target: &str, value: &(impl Serialize + ?Sized)) -> Response {
            self.request("POST", target).json(value).send()
        }

        /// Sends a PUT request with a body, like [`Self::post`].
        ///
        /// # Panics
        /// Panics as [`Request::send`] does.
        #[track_caller]
        #[must_use]
        pub fn put(&mut self, target: &str, body: impl Into<Vec<u8>>) -> Response {
            self.request("PUT", target).body(body).send()
        }

        /// Sends a PUT request with a body of JSON, and its `Content-Type`.
        ///
        /// # Panics
        /// Panics as [`Request::json`] and [`Request::send`] do.
        #[track_caller]
        #[must_use]
        pub fn put_json(&mut self, target: &str, value: &(impl Serialize + ?Sized)) -> Response {
            self.request("PUT", target).json(value).send()
        }

        /// Sends a PATCH request with a body of JSON, and its `Content-Type`.
        ///
        /// # Panics
        /// Panics as [`Request::json`] and [`Request::send`] do.
        #[track_caller]
        #[must_use]
        pub fn patch_json(&mut self, target: &str, value: &(impl Serialize + ?Sized)) -> Response {
            self.request("PATCH", target).json(value).send()
        }

        /// Sends a DELETE request, without a body.
        ///
        /// # Panics
        /// Panics as [`Request::send`] does.
        #[track_caller]
        #[must_use]
        pub fn delete(&mut self, target: &str) -> Response {
            self.request("DELETE", target).send()
        }
    };
}

mod framing;
mod http1;
#[cfg(feature = "http2")]
mod http2;

use serde::Serialize;
use serde_json::Value;

use crate::log::Log;

pub use http1::HttpClient;
#[cfg(feature = "http2")]
pub use http2::{Http2Client, Pending};

/// Length of a body that a note of it shows, in bytes.
const EXCERPT: usize = 300;

/// A request under construction, of a client `C`.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request<'a, C = HttpClient> {
    client: &'a mut C,
    message: Message,
}

/// The parts of a request.
#[derive(Clone, Debug)]
struct Message {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl<'a, C> Request<'a, C> {
    fn new(client: &'a mut C, method: &str, target: &str) -> Self {
        let message = Message {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
        };
        Self { client, message }
    }

    /// Adds a header line. Over HTTP/1.1, name and value are sent as they are.
    ///
    /// A `Host`, `Content-Length` or `Transfer-Encoding` of the test replaces
    /// the client's own. Over HTTP/2, `Host` is sent as `:authority`.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let header = (name.to_owned(), value.to_owned());
        self.message.headers.push(header);
        self
    }

    /// Sets the body, whose length is sent as `Content-Length`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.message.body = Some(body.into());
        self
    }

    /// Sets a body of JSON, with its `Content-Type`: of a [`json!`](crate::json!), or
    /// of a type that serde serializes.
    ///
    /// # Panics
    /// Panics if the value cannot be written as JSON.
    #[track_caller]
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.header("Content-Type", "application/json").body(body),
            Err(error) => panic!("the value cannot be written as JSON: {error}"),
        }
    }
}

impl Message {
    fn has(&self, name: &str) -> bool {
        value(&self.headers, name).is_some()
    }

    /// Notes a response that says why the request is refused. A test that compares
    /// its status shows only that.
    fn note(&self, response: &Response, log: &Log) {
        let refused = (400..500).contains(&response.status) && response.status != 404;
        if refused && !response.body.is_empty() {
            let body = response.body.get(..EXCERPT).unwrap_or(&response.body);
            let (body, status) = (String::from_utf8_lossy(body), response.status.to_string());
            // The words of an error begin with the status, those of JSON do not.
            let words = body.trim();
            let words = words.strip_prefix(&status).unwrap_or(words).trim_start();
            log.note(format!("{} {}: {status} {words}", self.method, self.target));
        }
    }

    /// Fails the test, with the server's log.
    #[track_caller]
    fn fail(&self, fault: &str, log: &Log) -> ! {
        panic!("{} {}: {fault}\n{}", self.method, self.target, log.report())
    }
}

/// A response that was received to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// The status code, such as 200.
    pub status: u16,
    /// Names and values of the headers, as they were sent and in their order.
    /// Bytes of a value that are not UTF-8 are replaced by U+FFFD.
    pub headers: Vec<(String, String)>,
    /// The content, without the chunks of `Transfer-Encoding`.
    pub body: Vec<u8>,
    /// The trailers after a chunked body, like `headers`.
    pub trailers: Vec<(String, String)>,
}

impl Response {
    /// Returns the first value of a header. Case does not matter in its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }

    /// Returns the body as text.
    ///
    /// # Panics
    /// Panics if the body is not UTF-8.
    #[track_caller]
    #[must_use]
    pub fn text(&self) -> &str {
        match std::str::from_utf8(&self.body) {
            Ok(text) => text,
            Err(error) => panic!("the body is not UTF-8: {error}; {self:?}"),
        }
    }

    /// Returns the body as JSON. For a type of your own, give `body` to
    /// `serde_json::from_slice`.
    ///
    /// # Panics
    /// Panics if the body is not JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("the body is not JSON: {error}; {self:?}"),
        }
    }
}

fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut fields = fields.iter();
    let found = fields.find(|(other, _)| other.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}
