//! Errors of this crate, each with what was wanted, what happened, and what to
//! do.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;

/// Reason why an artifact cannot be pulled or pushed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry cannot be reached, or cannot answer at present.
    #[error("the registry {host} is away: {reason}")]
    Away {
        /// Host of the registry.
        host: String,
        /// Reason.
        reason: String,
    },
    /// The connection to the registry is not secure.
    #[error("no secure connection to {host}: {reason}")]
    Tls {
        /// Host of the registry.
        host: String,
        /// Reason.
        reason: String,
    },
    /// The registry wants other credentials, or any.
    #[error("the registry {host} does not allow it ({status}){told}: {looked}")]
    Login {
        /// Host of the registry.
        host: String,
        /// Status of its answer.
        status: u16,
        /// Message of the registry, after a colon.
        told: String,
        /// Place of the credentials that were used, or places where none are.
        looked: String,
    },
    /// Credentials could not be found out.
    #[error("credentials for {host}: {reason}")]
    Credentials {
        /// Host of the registry.
        host: String,
        /// Reason.
        reason: String,
    },
    /// The registry does not have it.
    #[error("the registry {host} has no {what} (404){told}")]
    Missing {
        /// Host of the registry.
        host: String,
        /// The missing thing.
        what: String,
        /// Message of the registry, after a colon.
        told: String,
    },
    /// The registry answers otherwise than the protocol says.
    #[error("the registry {host} answers {what} otherwise than expected: {reason}")]
    Answer {
        /// Host of the registry.
        host: String,
        /// The request.
        what: String,
        /// Reason.
        reason: String,
    },
    /// The content is not that of its digest.
    #[error(
        "the registry {host} sent content other than {wanted}: {found}. It is damaged, or \
         somebody changed it; nothing of it is kept"
    )]
    Digest {
        /// Host of the registry.
        host: String,
        /// The digest asked for.
        wanted: Digest,
        /// The digest that came, or the length.
        found: String,
    },
    /// It has more bytes than allowed.
    #[error("{what} has {size} bytes, and at most {most} are allowed{flag}")]
    TooLarge {
        /// The large thing.
        what: String,
        /// Its size, in bytes.
        size: u64,
        /// Limit in bytes.
        most: u64,
        /// The flag that allows more, in parentheses.
        flag: &'static str,
    },
    /// The artifact is not a component.
    #[error("{reference} is not a component: {reason}")]
    NotComponent {
        /// The artifact.
        reference: String,
        /// Description of the artifact.
        reason: String,
    },
    /// It is not signed by a key that is trusted.
    #[error("{reference} ({digest}) is not signed by a key of --verify-key: {reason}")]
    Signature {
        /// The artifact.
        reference: String,
        /// Digest of its manifest.
        digest: Digest,
        /// The missing or wrong thing.
        reason: String,
    },
    /// It is not cached, and the network must not be used.
    #[error("{0} is not in the cache, and --offline forbids pulling it")]
    Offline(String),
    /// It took too long.
    #[error("{what} takes longer than {limit} (--registry-timeout)")]
    Slow {
        /// The operation.
        what: String,
        /// The limit.
        limit: humantime::Duration,
    },
    /// Plain HTTP to a host that is not this machine.
    #[error(
        "{0} is to be reached by plain HTTP, which anybody on the way can read and change: \
         --registry-plain-http {0} allows it"
    )]
    Plain(String),
    /// A setting or variable is wrong.
    #[error("{0}")]
    Setting(String),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
}

impl Error {
    /// True if the artifact may be pulled at another time, and the cached one be
    /// used meanwhile.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Slow { .. })
    }

    /// Returns the error of a file.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
