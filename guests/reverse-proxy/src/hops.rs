//! `Max-Forwards`: how many proxies may still pass a request on (RFC 9110,
//! section 7.6.2).

use wasip3::http::types::{Fields, Method, Request, Response};
use wasip3::{wit_future, wit_stream};

use crate::later;

const MAX_FORWARDS: &str = "max-forwards";

/// Fields that a TRACE does not show to whom a script sends it for (RFC 9110,
/// section 9.3.8).
const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Decision about a request.
pub(crate) enum Hops {
    /// It is passed on, with so many hops left where they are counted.
    Forward(Option<u64>),
    /// This proxy is the last one, and answers.
    Last,
    /// The number of hops cannot be read.
    Malformed,
}

impl Hops {
    /// Decides about a request of a method.
    pub(crate) fn of(request: &Request, method: &Method) -> Self {
        // With other methods it means nothing.
        if !matches!(method, Method::Options | Method::Trace) {
            return Self::Forward(None);
        }
        let values = request.get_headers().get(MAX_FORWARDS);
        let [value] = values.as_slice() else {
            return match values.is_empty() {
                true => Self::Forward(None),
                false => Self::Malformed,
            };
        };
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Self::Malformed;
        }
        let text = String::from_utf8_lossy(value);
        // More than fits is more than there are proxies.
        match text.parse().unwrap_or(u64::MAX) {
            0 => Self::Last,
            left => Self::Forward(Some(left - 1)),
        }
    }
}

/// Writes how many hops are left.
pub(crate) fn write(left: u64, headers: &Fields) {
    let _ = headers.set(MAX_FORWARDS, &[left.to_string().into_bytes()]);
}

/// The answer of the last proxy: the request itself to a TRACE, and nothing to
/// OPTIONS.
pub(crate) fn answer(request: &Request, method: &Method) -> Response {
    let headers = Fields::new();
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    if !matches!(method, Method::Trace) {
        let _ = headers.append("content-length", b"0");
        return Response::new(headers, None, no_trailers).0;
    }
    let _ = headers.append("content-type", b"message/http");
    let (mut out, body) = wit_stream::new();
    let text = shown(request);
    later::begin(async move {
        out.write_all(text).await;
    });
    Response::new(headers, Some(body), no_trailers).0
}

/// The head of a request, as HTTP/1.1 has it.
fn shown(request: &Request) -> Vec<u8> {
    let target = request.get_path_with_query().unwrap_or_default();
    let authority = request.get_authority().unwrap_or_default();
    let mut text = format!("TRACE {target} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes();
    for (name, value) in request.get_headers().copy_all() {
        if !SECRET.contains(&name.as_str()) {
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(&value);
            text.extend_from_slice(b"\r\n");
        }
    }
    text.extend_from_slice(b"\r\n");
    text
}
