//! Requests whose handlers may wait.
//!
//! A request ends with the call of the host. A handler that waits goes on after
//! that, so what is left of the request is then copied into memory. One that
//! answers at once asks the host, and nothing is copied.

use std::cell::{Cell, OnceCell};

use scoped_tls::scoped_thread_local;

use crate::host::{self, RawRequest, RequestHandle};
use crate::{Info, ProxyInfo, Result};

scoped_thread_local! {
    /// The request of the current call of the host.
    static CURRENT: RequestHandle
}

/// Works within a call of the host.
pub(crate) fn within<T>(request: &RequestHandle, work: impl FnOnce() -> T) -> T {
    CURRENT.set(request, work)
}

/// Returns the first line of `Accept` of the current request, empty if there is
/// none.
pub(crate) fn accepted() -> Vec<u8> {
    let accept = CURRENT.with(|request| RawRequest::from(request).header("accept"));
    accept.unwrap_or_default()
}

/// A request, which is the current one unless it is kept.
#[derive(Default)]
pub(crate) struct Held {
    kept: OnceCell<Kept>,
    /// Token of the deferred request, once the call of the host is over.
    token: Cell<u64>,
}

impl Held {
    /// Copies the request, before its call of the host ends and it is deferred
    /// under a token.
    pub(crate) fn keep(&self, token: u64) {
        self.token.set(token);
        self.kept
            .get_or_init(|| CURRENT.with(|request| Kept::copy(RawRequest::from(request))));
    }

    /// Sends an interim response.
    pub(super) fn inform(&self, status: u16, headers: &[(String, Vec<u8>)]) -> Result<()> {
        match self.kept.get() {
            Some(_) => host::inform(self.token.get(), status, headers),
            None => CURRENT.with(|request| RawRequest::from(request).inform(status, headers)),
        }
    }

    pub(super) fn ask<T>(
        &self,
        host: impl FnOnce(RawRequest<'_>) -> T,
        memory: impl FnOnce(&Kept) -> T,
    ) -> T {
        match self.kept.get() {
            Some(kept) => memory(kept),
            None => CURRENT.with(|request| host(RawRequest::from(request))),
        }
    }
}

/// A copy of a request, apart from its method and target.
pub(super) struct Kept {
    /// True if the body had arrived.
    pub(super) whole: bool,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, Vec<u8>)>,
    pub(super) scheme: String,
    pub(super) authority: Option<String>,
    pub(super) info: Info,
    pub(super) proxied: Option<ProxyInfo>,
}

impl Kept {
    fn copy(raw: RawRequest<'_>) -> Self {
        Self {
            whole: raw.is_whole(),
            headers: raw.headers(),
            body: raw.body(),
            trailers: raw.trailers(),
            scheme: raw.scheme(),
            authority: raw.authority(),
            info: raw.info(),
            proxied: raw.proxied(),
        }
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Vec<u8>> + 'a {
        let fields = self.headers.iter();
        let named = fields.filter(move |(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.clone())
    }

    pub(super) fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.named(name).next()
    }

    pub(super) fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.named(name).collect()
    }
}
