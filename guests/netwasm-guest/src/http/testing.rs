//! A client of handlers in memory.

use std::borrow::Cow;

use super::{Answered, App, Forward, Later, Method, Prepared, Request};
use crate::host::Body;
use crate::host::memory::{Answer as RawAnswer, File, RawRequest, RequestData};

/// Sends requests to a handler or a router: to what `export!(http: ...)` takes.
///
/// ```
/// use netwasm_guest::testing::Client;
///
/// async fn hello() -> &'static str {
///     "Hello!"
/// }
///
/// let client = Client::new(hello);
/// let answer = client.get("/").header("accept", "text/plain").send();
/// assert_eq!(answer.status(), 200);
/// assert_eq!(answer.text(), "Hello!");
/// ```
pub struct Client(Prepared);

impl Client {
    /// Makes a client of an app.
    pub fn new<M>(app: impl App<M>) -> Self {
        Self(app.prepare())
    }

    /// Begins a request by GET.
    pub fn get(&self, target: &str) -> RequestBuilder<'_> {
        self.request("GET", target)
    }

    /// Begins a request by POST, with a body.
    pub fn post(&self, target: &str, body: impl AsRef<[u8]>) -> RequestBuilder<'_> {
        self.request("POST", target).body(body)
    }

    /// Begins a request by POST, with a body of JSON and its `Content-Type`.
    ///
    /// ```
    /// use netwasm_guest::http::{Json, Router};
    /// use netwasm_guest::testing::Client;
    ///
    /// async fn sum(Json(numbers): Json<Vec<i64>>) -> Json<i64> {
    ///     Json(numbers.iter().sum())
    /// }
    ///
    /// let client = Client::new(Router::new().post("/sum", sum));
    /// let answer = client.post_json("/sum", &[1, 2, 3]).send();
    /// assert_eq!(answer.json::<i64>(), 6);
    /// ```
    ///
    /// # Panics
    /// Panics as [`RequestBuilder::json`] does.
    #[cfg(feature = "json")]
    #[track_caller]
    pub fn post_json(
        &self,
        target: &str,
        value: &(impl serde::Serialize + ?Sized),
    ) -> RequestBuilder<'_> {
        self.request("POST", target).json(value)
    }

    /// Begins a request by PUT, with a body.
    pub fn put(&self, target: &str, body: impl AsRef<[u8]>) -> RequestBuilder<'_> {
        self.request("PUT", target).body(body)
    }

    /// Begins a request by DELETE, without a body.
    pub fn delete(&self, target: &str) -> RequestBuilder<'_> {
        self.request("DELETE", target)
    }

    /// Begins a request by any method.
    pub fn request(&self, method: &str, target: &str) -> RequestBuilder<'_> {
        RequestBuilder {
            client: self,
            method: method.into(),
            target: target.to_owned(),
            data: RequestData {
                headers: vec![("host".to_owned(), b"test.example".to_vec())],
                body: Vec::new(),
            },
        }
    }
}

/// A request that is being made; sent by [`send`](Self::send).
#[must_use = "a request is sent by `send`"]
pub struct RequestBuilder<'a> {
    client: &'a Client,
    method: Method,
    target: String,
    data: RequestData,
}

impl RequestBuilder<'_> {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref().to_vec();
        self.data.headers.push((name.to_owned(), value));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.data.body = body.as_ref().to_vec();
        self
    }

    /// Sets a body of JSON, with its `Content-Type`.
    ///
    /// # Panics
    /// Panics if the value cannot be written as JSON.
    #[cfg(feature = "json")]
    #[track_caller]
    pub fn json(self, value: &(impl serde::Serialize + ?Sized)) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.header("content-type", "application/json").body(body),
            Err(error) => panic!("the value cannot be written as JSON: {error}"),
        }
    }

    /// Sends the request, and returns the response.
    pub fn send(self) -> Answer {
        let is_head = self.method == Method::Head;
        let (answered, accept) = super::within(&self.data, || {
            let request = Request::new(self.method, &self.target, RawRequest(&self.data), true);
            let answered = match &self.client.0 {
                Prepared::Router(router) => router.respond(request),
                Prepared::Handler(handler) => handler(request),
            };
            if let Answered::Later(Later {
                request: Some(held),
                ..
            }) = &answered
            {
                held.keep(0);
            }
            (answered, super::accepted())
        });
        let response = match answered {
            Answered::Ready(response) => response,
            Answered::Later(later) => crate::testing::block_on(later.answer),
            Answered::Collect => unreachable!("in memory, every request is whole"),
        };
        let response = response.in_form(|| accept);
        Answer::new(response.into_raw(), is_head)
    }
}

/// A response, as a client sees it.
pub struct Answer {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    whole: bool,
    forwarded: Option<Forward>,
    topic: Option<String>,
}

impl Answer {
    /// Returns a handler's response.
    pub(crate) fn of(response: super::Response) -> Self {
        Self::new(response.into_raw(), false)
    }

    pub(super) fn new(raw: RawAnswer, is_head: bool) -> Self {
        let (mut status, mut whole) = (raw.status, true);
        let (mut forwarded, mut topic) = (None, None);
        let body = match raw.body {
            Body::Empty => Vec::new(),
            Body::Bytes(bytes) => bytes,
            // It was told before.
            Body::Told(told) => told.into_reason().into(),
            Body::Forward(forward) => {
                forwarded = Some(Forward::from_raw(*forward));
                Vec::new()
            }
            Body::Stream(maker) => {
                let (bytes, is_whole) = super::stream::memory::make(maker);
                whole = is_whole;
                bytes
            }
            Body::Events(events) => {
                topic = Some(events.topic);
                Vec::new()
            }
            Body::File(file) => file.content().to_vec(),
            Body::Path(path) => match File::open(&path) {
                Ok(file) => file.content().to_vec(),
                Err(_) => {
                    status = 404;
                    Vec::new()
                }
            },
        };
        Self {
            status,
            headers: raw.headers,
            body: if is_head { Vec::new() } else { body },
            whole,
            forwarded,
            topic,
        }
    }

    /// Returns the status.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Returns the topic whose messages the client gets as events
    /// ([`TopicEvents`](super::TopicEvents)), if it does.
    pub fn topic(&self) -> Option<&str> {
        self.topic.as_deref()
    }

    /// Returns the decision to forward the request, if it is one.
    pub const fn forwarded(&self) -> Option<&Forward> {
        self.forwarded.as_ref()
    }

    /// Returns the first value of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        let named = |(other, _): &&(String, Vec<u8>)| other.eq_ignore_ascii_case(name);
        let (_, value) = self.headers.iter().find(named)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// Returns the body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns true unless the body was cut off.
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Returns the body as text.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// Returns the body as a type that serde deserializes, such as
    /// `serde_json::Value`.
    ///
    /// # Panics
    /// Panics if the body is no JSON of that type.
    #[cfg(feature = "json")]
    #[track_caller]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("the body is not that JSON: {error}; {}", self.text()),
        }
    }
}
