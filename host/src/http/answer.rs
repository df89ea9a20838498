//! What a handler answers a request that came whole.

use std::rc::Rc;

use http::StatusCode;

use crate::error::ConnectionError;
use crate::files::File;

/// Names and values.
pub(crate) type Fields = Vec<(String, Vec<u8>)>;

/// A response as a guest gave it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Fields,
    pub(crate) body: Body,
    /// Sent after a body of bytes, to clients that asked for that.
    pub(crate) trailers: Fields,
}

/// What a response carries.
#[derive(Debug)]
pub(crate) enum Body {
    Empty,
    Bytes(Vec<u8>),
    File(Rc<File>),
    /// A file that could not be opened.
    Unopened(ConnectionError),
}

impl Answer {
    /// An answer in the host's own words.
    pub(crate) fn status(status: u16, reason: &str) -> Self {
        let name = canonical(status);
        let text = match reason {
            "" => format!("{status} {name}\n"),
            reason => format!("{status} {name}: {reason}\n"),
        };
        Self {
            status,
            headers: vec![("Content-Type".into(), b"text/plain; charset=utf-8".to_vec())],
            body: Body::Bytes(text.into_bytes()),
            trailers: Vec::new(),
        }
    }

    /// What a file that could not be opened is answered by.
    pub(crate) fn unopened(error: &ConnectionError) -> Self {
        Self::status(
            match error {
                ConnectionError::NotFound | ConnectionError::InvalidArgument => 404,
                ConnectionError::AccessDenied => 403,
                ConnectionError::LimitExceeded(_) => 503,
                _ => 500,
            },
            "",
        )
    }
}

/// What a status is called: RFC 9110, section 15.
pub(crate) fn canonical(status: u16) -> &'static str {
    StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("")
}
