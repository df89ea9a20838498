//! How a request begins: whether it has a body shows with some only when that
//! is asked for its first piece.

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

/// How long a request is kept back whose body has neither begun nor ended, with
/// a method that has none mostly.
const RARELY: Duration = Duration::from_secs(1);

/// The same with others: who sends no body may not have said so yet, and who
/// sends one later may wait for the response's head before.
const MOSTLY: Duration = Duration::from_millis(100);

/// What is known of a request's body before its head is sent.
pub(super) struct Beginning {
    /// Bytes that the head tells.
    pub(super) told: Option<u64>,
    /// What was taken of it already.
    pub(super) first: Option<Frame<Bytes>>,
    /// True if there is none.
    pub(super) empty: bool,
}

/// Looks whether there is a body, and has the head say so.
///
/// # Errors
/// The head tells another length, the body has failed before it began, or the
/// target is none of the method.
pub(super) async fn begin(head: &mut Parts, body: &mut WireBody) -> Result<Beginning, Failure> {
    check_target(head)?;
    let told =
        response::content_length(&head.headers).map_err(|_| Failure::HttpRequestBodySize(None))?;
    // Hyper takes nothing of such a body, unless its length or coding is told.
    let unasked = matches!(head.method, Method::GET | Method::HEAD);
    let unknown = told.is_none() || unasked && told == Some(0);
    let (first, empty) = match unknown && body.size_hint().exact().is_none() {
        true => match first_frame(body, patience(&head.method)).await? {
            First::End => (None, true),
            first => {
                if unasked {
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

/// Asterisk-form is of OPTIONS alone (RFC 9112, section 3.2.4).
fn check_target(head: &Parts) -> Result<(), Failure> {
    let path = head.uri.path_and_query().map(PathAndQuery::as_str);
    match path {
        Some("*") if head.method != Method::OPTIONS => Err(Failure::HttpRequestUriInvalid),
        _ => Ok(()),
    }
}

/// Says that there is no body, where the method leads to expect one (RFC 9110,
/// section 8.6).
fn tell_none(method: &Method, headers: &mut HeaderMap) {
    if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
}

/// How long the beginning of a body is waited for.
fn patience(method: &Method) -> Duration {
    match *method {
        Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE => RARELY,
        _ => MOSTLY,
    }
}

/// What a body begins with.
enum First {
    End,
    Frame(Frame<Bytes>),
    /// It has not begun.
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

/// Waits for so long for a body to begin or to end.
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
