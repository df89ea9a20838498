//! A handler's answer to a buffered request.

use std::fmt;
use std::rc::Rc;

use http::StatusCode;

use netwasm_base::error::ConnectionError;
use netwasm_net::files::File;

use crate::content::BoxContent;
use crate::told::ErrorForm;

/// Names and values of fields.
pub type Fields = Vec<(String, Vec<u8>)>;

/// A response as a guest gave it.
#[derive(Debug)]
pub struct Answer {
    /// Status, 200 to 599.
    pub status: u16,
    /// Header fields, in order.
    pub headers: Fields,
    /// See [`Body`].
    pub body: Body,
    /// Trailers: sent after a body of bytes, to clients that asked for them.
    pub trailers: Fields,
}

/// A response's body.
#[derive(Debug)]
pub enum Body {
    /// No body.
    Empty,
    /// Bytes in memory.
    Bytes(Vec<u8>),
    /// A whole file.
    File(Rc<File>),
    /// A file that could not be opened.
    Unopened(ConnectionError),
    /// A body that is yet to be made.
    Stream(StreamedBody),
    /// The host's own words on an error, or no more than its status says: see
    /// [`Answer::told_in`].
    Told(String),
}

/// A body that is yet to be made.
pub struct StreamedBody {
    /// The body.
    pub content: BoxContent,
    /// Its length in bytes, if known.
    pub length: Option<u64>,
}

impl fmt::Debug for StreamedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamedBody").finish_non_exhaustive()
    }
}

/// An interim response: RFC 9110, section 15.2.
#[derive(Debug)]
pub struct Interim {
    /// Status, 102 to 199.
    pub status: u16,
    /// Header fields, in order.
    pub headers: Fields,
}

impl Answer {
    /// Returns an answer in the host's own words.
    pub fn status(status: u16, reason: &str) -> Self {
        let answer = Self {
            status,
            headers: Vec::new(),
            body: Body::Told(reason.to_owned()),
            trailers: Vec::new(),
        };
        match status {
            400.. => answer,
            _ => answer.told_in(|| ErrorForm::Text).unwrap_or(answer),
        }
    }

    /// Returns an answer in the host's own words as the client wants them; `None` if
    /// they are a handler's.
    pub fn told_in(&self, form: impl FnOnce() -> ErrorForm) -> Option<Self> {
        let Body::Told(reason) = &self.body else {
            return None;
        };
        let (media_type, text) = form().tell(self.status, canonical(self.status), reason);
        let mut headers = vec![("Content-Type".to_owned(), media_type.into())];
        if self.status >= 400 {
            headers.push(("Vary".to_owned(), b"Accept".to_vec()));
        }
        headers.extend(self.headers.iter().cloned());
        Some(Self {
            status: self.status,
            headers,
            body: Body::Bytes(text.into_bytes()),
            trailers: Vec::new(),
        })
    }

    /// Returns the answer for a file that could not be opened.
    pub fn unopened(error: &ConnectionError) -> Self {
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

/// Returns the name of a status: RFC 9110, section 15.
pub fn canonical(status: u16) -> &'static str {
    StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("")
}
