//! Limits of a head, and refusals of requests.

use netwasm_base::config::HttpLimits;

/// Limits of a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Size of the whole head in bytes, with its line ends and the empty lines
    /// before it.
    pub bytes: usize,
    /// Number of header lines.
    pub fields: usize,
    /// Length of the request line in bytes, without its line end.
    pub line: usize,
}

impl From<&HttpLimits> for HeadLimits {
    fn from(limits: &HttpLimits) -> Self {
        Self {
            bytes: limits.max_head,
            fields: limits.max_headers,
            line: limits.max_request_line,
        }
    }
}

/// Refusal of a request, as the client gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status of the response.
    pub status: u16,
    /// Reason, for the log and the response's body.
    pub reason: &'static str,
    /// Flag of the limit that the request exceeds, for the log; `None` if it is
    /// refused for another reason.
    pub limit: Option<&'static str>,
}

impl Refusal {
    /// Returns a refusal that no limit is the reason of.
    #[must_use]
    pub const fn new(status: u16, reason: &'static str) -> Self {
        Self {
            status,
            reason,
            limit: None,
        }
    }

    /// Returns a refusal of a request that exceeds the limit of this flag.
    #[must_use]
    pub const fn over(limit: &'static str, status: u16, reason: &'static str) -> Self {
        Self {
            status,
            reason,
            limit: Some(limit),
        }
    }
}

pub(super) const LINE_TOO_LONG: Refusal =
    Refusal::over("--max-request-line", 414, "request line too long");

pub(super) const HEAD_TOO_LARGE: Refusal =
    Refusal::over("--max-head", 431, "request head too large");

pub(super) const TOO_MANY_FIELDS: Refusal =
    Refusal::over("--max-headers", 431, "too many header lines");

/// Makes the refusal of a malformed request: 400.
pub const fn bad(reason: &'static str) -> Refusal {
    Refusal::new(400, reason)
}
