//! Plan for the response of an async guest, made once and written by HTTP/1.1
//! and HTTP/2.

use http::response::Parts;

use crate::response::{bodiless, content_length};

/// Plan for the response of an async guest, made before a byte of it is
/// written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) status: u16,
    /// Length of the body in bytes, if known before its end.
    pub(crate) length: Option<u64>,
    /// Content-Length to send.
    pub(crate) told: Option<u64>,
    /// True if the body follows the head.
    pub(crate) has_body: bool,
}

/// Why the response of an async guest cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnsendableResponse {
    #[error("{0} is not a status of a response")]
    Status(u16),
    #[error("its content-length is not one number")]
    Length,
    #[error("its content-length is {told}, and its file has {file} bytes")]
    File { told: u64, file: u64 },
}

impl Plan {
    /// Plans a response. `head` is true if the request is HEAD. `file` is the
    /// length of the body in bytes if that is a file. `ended` is true if
    /// another body has already ended.
    ///
    /// # Errors
    /// Fails if the response must not be sent.
    pub(crate) fn new(
        parts: &Parts,
        head: bool,
        file: Option<u64>,
        ended: bool,
    ) -> Result<Self, UnsendableResponse> {
        let status = parts.status.as_u16();
        let given = content_length(&parts.headers).map_err(|_| UnsendableResponse::Length)?;
        if !(200..600).contains(&status) {
            return Err(UnsendableResponse::Status(status));
        }
        if let (Some(told), Some(file)) = (given, file)
            && told != file
            && !head
        {
            return Err(UnsendableResponse::File { told, file });
        }
        let bodiless = bodiless(status);
        let nothing = (bodiless || ended).then_some(0);
        let length = given.or(file).or(nothing);
        Ok(Self {
            status,
            length: if bodiless { Some(0) } else { length },
            told: match status {
                // RFC 9110, section 8.6.
                204 | 304 => None,
                205 => Some(0),
                // To HEAD, the length of the body is unknown.
                _ if head && given.is_none() && file.is_none() => None,
                _ => length,
            },
            has_body: !head && !bodiless,
        })
    }
}
