//! Decisions about the responses to forwarded requests.

use super::{Forward, Response};
use crate::host::{RawEdits, RawVerdict};

/// The response to a request that was forwarded with a token, for the function
/// that a component exports as `verdicts`.
///
/// ```
/// use netwasm_guest::http::{Forward, Forwarded, Request, Response, Verdict};
///
/// # #[cfg(not(doctest))]
/// netwasm_guest::export!(http: gateway, verdicts: decide);
///
/// async fn gateway(_: Request<'_>) -> Response {
///     Forward::to("site").token(0).into()
/// }
///
/// fn decide(response: &Forwarded) -> Verdict {
///     match (response.is_missing(), response.status()) {
///         (true, status) => Response::error_because(status, "Back soon.").into(),
///         (false, 404) => Forward::to("old-site").into(),
///         (false, _) => Verdict::pass().set("cache-control", "no-store"),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Forwarded {
    token: u64,
    status: u16,
    /// `None` if there is no response.
    headers: Option<Vec<(String, Vec<u8>)>>,
}

impl Forwarded {
    /// Makes one, for a test of a function that decides. `headers` is `None` if
    /// there is no response.
    pub const fn new(token: u64, status: u16, headers: Option<Vec<(String, Vec<u8>)>>) -> Self {
        Self {
            token,
            status,
            headers,
        }
    }

    /// Returns the token of [`Forward::token`] or [`Forward::token_if_missing`].
    pub const fn token(&self) -> u64 {
        self.token
    }

    /// Returns the status of the response; if there is none, the one that the
    /// client gets otherwise: 502, 503 or 504.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Returns true if no server has given a response.
    pub const fn is_missing(&self) -> bool {
        self.headers.is_none()
    }

    /// Returns the first value of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut headers = self.headers.iter().flatten();
        let (_, value) = headers.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// Returns all headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let headers = self.headers.iter().flatten();
        headers.map(|(name, value)| (&**name, &**value))
    }
}

/// A decision about the response to a forwarded request. A
/// [`Response`] can be turned into one, and so can a [`Forward`],
/// which forwards the request once more if its body is still at hand.
#[must_use = "a verdict counts once it is returned"]
pub struct Verdict(RawVerdict);

impl Verdict {
    /// Passes the response on.
    pub fn pass() -> Self {
        Self(RawVerdict::Pass(RawEdits::default()))
    }

    /// Replaces a field of the response that passes, or adds it.
    pub fn set(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        if let RawVerdict::Pass(edits) = &mut self.0 {
            let value = value.as_ref().to_vec();
            edits.set.push((name.into(), value));
        }
        self
    }

    /// Adds a field to the response that passes.
    pub fn add(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        if let RawVerdict::Pass(edits) = &mut self.0 {
            let value = value.as_ref().to_vec();
            edits.add.push((name.into(), value));
        }
        self
    }

    /// Removes a field from the response that passes.
    pub fn remove(mut self, name: impl Into<String>) -> Self {
        if let RawVerdict::Pass(edits) = &mut self.0 {
            edits.remove.push(name.into());
        }
        self
    }

    /// Returns what is sent instead of the response, for tests; `None` if that
    /// passes.
    #[cfg(not(target_family = "wasm"))]
    pub fn answer(self) -> Option<crate::testing::Answer> {
        match self.0 {
            RawVerdict::Pass(_) => None,
            RawVerdict::Instead(response) => Some(crate::testing::Answer::new(response, false)),
        }
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn into_raw(self) -> RawVerdict {
        self.0
    }
}

impl From<Response> for Verdict {
    fn from(response: Response) -> Self {
        Self(RawVerdict::Instead(response.into_raw()))
    }
}

impl From<Forward> for Verdict {
    fn from(forward: Forward) -> Self {
        Response::from(forward).into()
    }
}
