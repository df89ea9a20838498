//! The types of the crate `http`.
//!
//! ```
//! use netwasm_guest::http::Router;
//!
//! async fn greet(request: http::Request<Vec<u8>>) -> http::Response<String> {
//!     let mut response = http::Response::new(format!("You sent {}.", request.method()));
//!     let language = http::HeaderValue::from_static("en");
//!     response.headers_mut().insert(http::header::CONTENT_LANGUAGE, language);
//!     response
//! }
//!
//! async fn missing() -> http::StatusCode {
//!     http::StatusCode::GONE
//! }
//!
//! let router = Router::new().get("/", greet).get("/old", missing);
//! # let client = netwasm_guest::testing::Client::new(router);
//! # let answer = client.get("/").send();
//! # assert_eq!(answer.text(), "You sent GET.");
//! # assert_eq!(answer.header("content-language").as_deref(), Some("en"));
//! # assert_eq!(client.get("/old").send().status(), 410);
//! ```

use ::http::method::InvalidMethod;
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};

use super::{FromRequest, Method, Request, Response};
use crate::host::Body;

impl From<::http::Method> for Method {
    fn from(method: ::http::Method) -> Self {
        method.as_str().into()
    }
}

impl TryFrom<&Method> for ::http::Method {
    type Error = InvalidMethod;

    fn try_from(method: &Method) -> Result<Self, InvalidMethod> {
        Self::from_bytes(method.as_str().as_bytes())
    }
}

/// A copy of the whole request, with its body.
impl TryFrom<&Request<'_>> for ::http::Request<Vec<u8>> {
    type Error = ::http::Error;

    fn try_from(request: &Request<'_>) -> Result<Self, ::http::Error> {
        let mut copy = Self::new(request.body());
        *copy.method_mut() = request.method().try_into()?;
        *copy.uri_mut() = request.target().try_into()?;
        *copy.headers_mut() = headers(request)?;
        Ok(copy)
    }
}

fn headers(request: &Request<'_>) -> Result<HeaderMap, ::http::Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers() {
        let name = HeaderName::try_from(name)?;
        headers.append(name, HeaderValue::try_from(value)?);
    }
    Ok(headers)
}

fn bad_request(error: impl Into<::http::Error>) -> Response {
    Response::error_because(400, &error.into().to_string())
}

impl FromRequest for ::http::Request<Vec<u8>> {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        request.try_into().map_err(bad_request)
    }
}

impl FromRequest for ::http::Method {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        request.method().try_into().map_err(bad_request)
    }
}

impl FromRequest for Uri {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        Self::try_from(request.target()).map_err(bad_request)
    }
}

impl FromRequest for HeaderMap {
    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        headers(request).map_err(bad_request)
    }
}

impl<B: Into<Vec<u8>>> From<::http::Response<B>> for Response {
    fn from(response: ::http::Response<B>) -> Self {
        let (head, body) = response.into_parts();
        let fields = head.headers.iter();
        let fields = fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        let mut raw = Self::new(head.status.as_u16()).into_raw();
        raw.headers = fields.collect();
        raw.body = Body::Bytes(body.into());
        Self::from_raw(raw)
    }
}

impl From<StatusCode> for Response {
    fn from(status: StatusCode) -> Self {
        Self::new(status.as_u16())
    }
}

impl<T: Into<Self>> From<(StatusCode, T)> for Response {
    fn from((status, rest): (StatusCode, T)) -> Self {
        rest.into().status(status.as_u16())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Router;
    use crate::testing::Client;

    #[test]
    fn a_request_and_its_response_pass_unchanged() {
        async fn echo(request: ::http::Request<Vec<u8>>) -> ::http::Response<Vec<u8>> {
            let (head, body) = request.into_parts();
            let mut response = ::http::Response::new(body);
            *response.status_mut() = StatusCode::ACCEPTED;
            *response.headers_mut() = head.headers;
            let target = head.uri.to_string();
            let target = target.try_into().expect("a header's value");
            response.headers_mut().insert("x-target", target);
            response
        }
        let client = Client::new(Router::new().post("/{*all}", echo));
        let answer = client.post("/a?b=c", "body").header("X-A", "1").send();
        assert_eq!(answer.status(), 202);
        assert_eq!(answer.text(), "body");
        assert_eq!(answer.header("x-a").as_deref(), Some("1"));
        assert_eq!(answer.header("x-target").as_deref(), Some("/a?b=c"));
    }

    #[test]
    fn methods_pass_unchanged() {
        for name in ["GET", "PROPFIND"] {
            let method = Method::from(name);
            let converted = ::http::Method::try_from(&method).expect("a method");
            assert_eq!(converted.as_str(), name);
            assert_eq!(Method::from(converted), method);
        }
        assert!(::http::Method::try_from(&Method::from("NO METHOD")).is_err());
    }

    #[test]
    fn parts_of_a_request_are_arguments() {
        let handler = async |method: ::http::Method, uri: Uri, headers: HeaderMap| {
            let both = headers.get_all("x-a").iter().count();
            (StatusCode::OK, format!("{method} {uri} {both}"))
        };
        let client = Client::new(Router::new().get("/x", handler));
        let request = client.get("/x?y").header("x-a", "1").header("X-A", "2");
        assert_eq!(request.send().text(), "GET /x?y 2");
        let answer = client.get("/x").header("x-a", "a\nb").send();
        assert_eq!(answer.status(), 400);
    }
}
