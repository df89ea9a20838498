//! Responses.

use super::error_form::{self, Told};
use super::{Cookie, Method};
use crate::host::{Body, RawResponse};
use crate::{Error, ErrorKind, File, log};

/// A response.
///
/// Many things can be turned into one:
///
/// | returned | response |
/// | --- | --- |
/// | `&str`, `String` | 200, plain text |
/// | `Vec<u8>` | 200, bytes |
/// | [`Html`] | 200, HTML |
/// | [`Json`](super::Json) | 200, JSON |
/// | [`File`] | 200, a file, or what is asked for of it |
/// | [`TopicEvents`](super::TopicEvents) | 200, the messages of a topic as events |
/// | `()` | 204, no content |
/// | `u16` | this status, without a body |
/// | `(u16, T)` | `T` with this status |
/// | `Option<T>` | `T`, or 404 |
/// | `Result<T, E>` | `T` or `E` |
/// | [`Error`] | 500, and the error goes to the log; 404 for `NotFound`, 403 for `AccessDenied` |
///
/// An error has its own words in the form that the client accepts: a page for
/// browsers, an object of JSON (RFC 9457) for programs, and a line of text for
/// those that send no `Accept`. The host's errors have the same forms.
pub struct Response(RawResponse);

impl Response {
    /// Makes a response without a body.
    pub const fn new(status: u16) -> Self {
        Self(RawResponse {
            status,
            headers: Vec::new(),
            body: Body::Empty,
            trailers: Vec::new(),
        })
    }

    /// Makes a response of plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::bytes("text/plain; charset=utf-8", text.into())
    }

    /// Makes a response of HTML. Text in it must be escaped; see
    /// [`escape`](super::escape).
    pub fn html(page: impl Into<String>) -> Self {
        Self::bytes("text/html; charset=utf-8", page.into())
    }

    /// Makes a response of bytes.
    pub fn bytes(media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut response = Self::new(200).header("content-type", media_type);
        response.0.body = Body::Bytes(body.into());
        response
    }

    /// Makes a response of JSON.
    #[cfg(feature = "json")]
    pub fn json(value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::bytes("application/json", body),
            Err(error) => {
                log::write(log::Level::Error, &format!("cannot write JSON: {error}"));
                Self::error(500)
            }
        }
    }

    /// Makes a response of a file below a `--dir`, by its path as the guest
    /// sees it. The host answers conditions and ranges, picks a compressed
    /// variant, and sends it by sendfile(2). If there is no such file, it
    /// answers 404.
    ///
    /// The path is a file's name, not a part of a URL. For requests by URL, see
    /// [`Router::files`](super::Router::files).
    pub fn file(path: impl Into<String>) -> Self {
        let mut response = Self::new(200);
        response.0.body = Body::Path(path.into());
        response
    }

    /// Redirects to another place for good, with the same method and body
    /// (308).
    pub fn redirect(location: impl AsRef<str>) -> Self {
        Self::new(308).header("location", location.as_ref())
    }

    /// Redirects to a place that is to be fetched by GET, as after a form
    /// (303).
    pub fn see_other(location: impl AsRef<str>) -> Self {
        Self::new(303).header("location", location.as_ref())
    }

    /// Says what went wrong, `404 Not Found`, in the form that the client accepts.
    pub fn error(status: u16) -> Self {
        Self::error_because(status, "")
    }

    /// Says what went wrong, and why, in the form that the client accepts.
    pub fn error_because(status: u16, reason: &str) -> Self {
        Self::new(status).body(Body::Told(Told::new(reason)))
    }

    /// Makes an object of JSON that says what went wrong, and why, whatever the
    /// client accepts: `application/problem+json` (RFC 9457).
    pub fn problem(status: u16, reason: &str) -> Self {
        let body = error_form::problem(status, reason);
        Self::bytes("application/problem+json", body).status(status)
    }

    /// Sets the status.
    ///
    /// ```
    /// use netwasm_guest::http::Response;
    ///
    /// async fn add() -> Response {
    ///     Response::text("It is made.\n").status(201).header("location", "/items/1")
    /// }
    /// # let answer = netwasm_guest::testing::Client::new(add).get("/").send();
    /// # assert_eq!((answer.status(), &*answer.text()), (201, "It is made.\n"));
    /// ```
    pub const fn status(mut self, status: u16) -> Self {
        self.0.status = status;
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref().to_vec();
        self.0.headers.push((name.into(), value));
        self
    }

    /// Sets a cookie.
    #[expect(clippy::needless_pass_by_value, reason = "it is a builder's result")]
    pub fn cookie(self, cookie: Cookie) -> Self {
        self.header("set-cookie", cookie.to_string())
    }

    /// Adds a trailer, which follows a body of bytes.
    pub fn trailer(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref().to_vec();
        self.0.trailers.push((name.into(), value));
        self
    }

    #[cfg(feature = "http")]
    pub(super) const fn from_raw(raw: RawResponse) -> Self {
        Self(raw)
    }

    /// Sets the body.
    pub(super) fn body(mut self, body: Body) -> Self {
        self.0.body = body;
        self
    }

    /// Makes the body of an error, in the form that the client accepts.
    pub(crate) fn in_form(self, accept: impl FnOnce() -> Vec<u8>) -> Self {
        match self.0.body {
            Body::Told(_) => self.tell(Some(&accept())).header("vary", "Accept"),
            _ => self,
        }
    }

    fn tell(mut self, accept: Option<&[u8]>) -> Self {
        let Body::Told(told) = &self.0.body else {
            return self;
        };
        let (media_type, text) = told.words(self.0.status, accept);
        self.0.body = Body::Bytes(text.into_bytes());
        self.header("content-type", media_type)
    }

    /// Returns the parts. An error whose client is not known is a page.
    pub(crate) fn into_raw(self) -> RawResponse {
        self.tell(None).0
    }
}

/// Name of a status (RFC 9110, section 15).
pub(super) const fn reason_phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}

/// HTML, as a response. Text in it must be escaped; see [`escape`](super::escape).
pub struct Html<T>(pub T);

impl<T: Into<String>> From<Html<T>> for Response {
    fn from(Html(page): Html<T>) -> Self {
        Self::html(page)
    }
}

impl From<&str> for Response {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Response {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<Vec<u8>> for Response {
    fn from(body: Vec<u8>) -> Self {
        Self::bytes("application/octet-stream", body)
    }
}

impl From<File> for Response {
    fn from(file: File) -> Self {
        let mut response = Self::new(200);
        response.0.body = Body::File(file.into_raw());
        response
    }
}

impl From<()> for Response {
    fn from((): ()) -> Self {
        Self::new(204)
    }
}

impl From<u16> for Response {
    fn from(status: u16) -> Self {
        Self::new(status)
    }
}

impl<T: Into<Self>> From<(u16, T)> for Response {
    fn from((status, rest): (u16, T)) -> Self {
        rest.into().status(status)
    }
}

impl<T: Into<Self>> From<Option<T>> for Response {
    fn from(value: Option<T>) -> Self {
        value.map_or_else(|| Self::error(404), Into::into)
    }
}

impl<T: Into<Self>, E: Into<Self>> From<Result<T, E>> for Response {
    fn from(result: Result<T, E>) -> Self {
        result.map_or_else(Into::into, Into::into)
    }
}

impl From<Error> for Response {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::error(404),
            ErrorKind::AccessDenied => Self::error(403),
            _ => {
                log::write(log::Level::Error, &error.to_string());
                Self::error(500)
            }
        }
    }
}

/// Answers `OPTIONS`, with the methods that are allowed.
pub(super) fn options(allow: &str) -> Response {
    Response::new(204).header("allow", allow)
}

/// True if a handler of GET answers this method. The host sends the same to
/// HEAD without the body.
pub(super) const fn is_reading(method: &Method) -> bool {
    matches!(method, Method::Get | Method::Head)
}
