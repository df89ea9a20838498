//! Start of a request. For some requests, only polling the body shows whether
//! there is one.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use http_body::{Body, Frame};

use netwasm_exchange::failure::Failure;
use netwasm_exchange::outgoing::WireBody;

use crate::response;

/// Time for which a request is held back while its body has neither begun nor
/// ended, for methods that rarely have one.
const RARELY: Duration = Duration::from_secs(1);

/// Like [`RARELY`], for the other methods. A guest without a body may not have
/// said so yet, and a guest that sends one later may first wait for the
/// response's head.
const MOSTLY: Duration = Duration::from_millis(20);

/// Knowledge of a request's body before its head is sent.
pub(super) struct Beginning {
    /// Content-Length of the head.
    pub(super) told: Option<u64>,
    /// A frame that was taken already.
    pub(super) first: Option<Frame<Bytes>>,
    /// True if there is no body.
    pub(super) empty: bool,
}

/// Finds out whether there is a body, and makes the head say so.
///
/// # Errors
/// Fails if the head tells another length, the body fails before it begins, or
/// the method does not allow the target.
pub(super) async fn begin(head: &mut Parts, body: &mut WireBody) -> Result<Beginning, Failure> {
    check_target(head)?;
    let told =
        response::content_length(&head.headers).map_err(|_| Failure::HttpRequestBodySize(None))?;
    // Hyper ignores a body of these methods, unless its length or coding is
    // told.
    let unasked = matches!(head.method, Method::GET | Method::HEAD);
    let unknown = told.is_none() || unasked && told == Some(0);
    let (first, empty) = match unknown && body.size_hint().exact().is_none() {
        true => match first_frame(body, patience(&head.method)).await? {
            First::End => (None, true),
            First::Frame(frame) if told.is_some() && frame.is_data() => {
                return Err(Failure::HttpRequestBodySize(None));
            }
            first => {
                if unasked && told.is_none() {
                    let chunked = HeaderValue::from_static("chunked");
                    head.headers.insert(TRANSFER_ENCODING, chunked);
                }
                (first.into_frame(), false)
            }
        },
        false => (None, body.is_end_stream()),
    };
    if empty {
        match told {
            Some(0) => {}
            Some(_) => return Err(Failure::HttpRequestBodySize(Some(0))),
            None => tell_none(&head.method, &mut head.headers),
        }
    }
    Ok(Beginning { told, first, empty })
}

/// Checks that only OPTIONS has the asterisk-form (RFC 9112, section 3.2.4).
fn check_target(head: &Parts) -> Result<(), Failure> {
    let path = head.uri.path_and_query().map(PathAndQuery::as_str);
    match path {
        Some("*") if head.method != Method::OPTIONS => Err(Failure::HttpRequestUriInvalid),
        _ => Ok(()),
    }
}

/// Sets a length of 0 if the method anticipates a body (RFC 9110, section 8.6).
fn tell_none(method: &Method, headers: &mut HeaderMap) {
    if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
}

/// Returns how long to wait for a body to begin.
fn patience(method: &Method) -> Duration {
    match *method {
        Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE => RARELY,
        _ => MOSTLY,
    }
}

/// Start of a body.
enum First {
    End,
    Frame(Frame<Bytes>),
    /// It has not begun in time.
    Nothing,
}

impl First {
    fn into_frame(self) -> Option<Frame<Bytes>> {
        match self {
            Self::Frame(frame) => Some(frame),
            Self::End | Self::Nothing => None,
        }
    }
}

/// Waits up to `patience` for a body to begin or to end.
async fn first_frame(body: &mut WireBody, patience: Duration) -> Result<First, Failure> {
    if body.is_end_stream() {
        return Ok(First::End);
    }
    let first = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
    Ok(match tokio::time::timeout(patience, first).await {
        Ok(None) => First::End,
        Ok(Some(frame)) => First::Frame(frame?),
        Err(_) => First::Nothing,
    })
}
