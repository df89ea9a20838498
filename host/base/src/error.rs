//! Errors, grouped by who is at fault.
//!
//! [`Error`] ends a run before it begins, or refuses a command: the
//! configuration or the machine is at fault. [`ConnectionError`] ends one
//! connection or fails one request of a guest: mostly the peer or the network
//! is at fault.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::config::{Config, ConfigError};
use crate::identity::{AsUser, IdentityError};

/// Reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A given file cannot be read.
    #[error("cannot read {}{}: {source}", path.display(), AsUser(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The configuration is invalid, or does not fit the component.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A given file cannot be written.
    #[error("cannot write {}{}: {source}", path.display(), AsUser(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The run cannot go on as another user.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// The component cannot be used.
    #[error("{name}: {reason}")]
    Component {
        /// File or name of the component.
        name: String,
        /// The fault, and the remedy.
        reason: String,
    },
    /// A listener cannot be opened.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// Address as a URL, such as `tcp://127.0.0.1:80`.
        address: String,
        /// The failure, and the remedy.
        reason: String,
    },
    /// Certificates or keys cannot be used.
    #[error("{0}")]
    Tls(String),
    /// An upstream group cannot be made.
    #[error("{0}")]
    Upstream(String),
    /// A directory for the guest cannot be opened.
    #[error("{0}")]
    Directory(String),
    /// The store of a bucket cannot be opened.
    #[error("{0}")]
    Keyvalue(String),
    /// The machine lacks a resource.
    #[error("{what}: {source}")]
    System {
        /// The resource.
        what: &'static str,
        /// Error of the system.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error(
        "cannot start a thread: {0} (see `ulimit -u`, and the limit of processes that a \
         container or service has)"
    )]
    Thread(io::Error),
    /// A component of a registry cannot be pulled.
    #[error("{0}")]
    Registry(String),
    /// The process has no room for another generation of a service at present.
    #[error("{0}")]
    Room(String),
    /// The engine for components could not be set up.
    #[error("{0}")]
    Engine(String),
}

impl Error {
    /// Returns the error of a component that cannot be used.
    pub fn component(name: &(impl fmt::Display + ?Sized), reason: impl Into<String>) -> Self {
        Self::Component {
            name: name.to_string(),
            reason: reason.into(),
        }
    }

    /// Returns the keys of this configuration of a service that the error is
    /// about, the most important first.
    #[must_use]
    pub fn keys(&self, config: &Config) -> &'static [&'static str] {
        let is_component = |path: &PathBuf| config.component.file() == Some(path);
        match self {
            Self::Component { .. } | Self::Room(_) | Self::Engine(_) => &["component", "module"],
            Self::Read { path, .. } if config.plugs.contains(path) => &["plug"],
            Self::Read { path, .. } if is_component(path) => &["component", "module"],
            Self::Tls(_) | Self::Read { .. } => {
                &["cert", "client-ca", "ca", "tls-authority", "tls-identity"]
            }
            Self::Registry(_) => &["component", "plug"],
            Self::Upstream(_) => &["upstream"],
            Self::Directory(_) => &["dir", "blobstore"],
            Self::Keyvalue(_) => &["keyvalue"],
            Self::Write { .. } => &["access-log"],
            Self::Identity(_) => &["user", "group"],
            Self::Config(_) | Self::Listen { .. } | Self::System { .. } | Self::Thread(_) => &[],
        }
    }
}

/// Reason why a connection was lost, or why a guest's request failed:
/// `error-code` of the WIT package, which documents each case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The policy or the system does not allow it.
    #[error("access denied")]
    AccessDenied,
    /// The operation is not possible in this state.
    #[error("not possible in this state")]
    InvalidState,
    /// An argument is invalid.
    #[error("invalid argument")]
    InvalidArgument,
    /// This kind of connection does not support the operation.
    #[error("not supported")]
    NotSupported,
    /// A limit was exceeded; the text names the flag.
    #[error("{0}")]
    LimitExceeded(&'static str),
    /// A time limit was exceeded; the text names the flag.
    #[error("{0}")]
    Timeout(&'static str),
    /// No server listens there.
    #[error("connection refused")]
    Refused,
    /// The peer has reset the connection.
    #[error("reset by the peer")]
    Reset,
    /// The connection was ended from this side.
    #[error("aborted")]
    Aborted,
    /// The peer accepts no more.
    #[error("the peer no longer reads")]
    Broken,
    /// No route leads there.
    #[error("no route to the address")]
    Unreachable,
    /// The address is not of this machine, or is in use.
    #[error("the address cannot be bound")]
    NotBindable,
    /// The name does not exist: NXDOMAIN.
    #[error("no such name")]
    NameUnresolvable,
    /// The name exists, but has no address.
    #[error("the name has no address")]
    NoAddress,
    /// No DNS server has an answer.
    #[error("the resolver failed")]
    ResolverFailure,
    /// The file does not exist.
    #[error("not found")]
    NotFound,
    /// The handshake or a record failed, for this reason.
    #[error("TLS: {0}")]
    Tls(String),
    /// The stream ended without `close_notify` (RFC 8446, section 6.1).
    #[error("the TLS stream ended without close_notify")]
    TlsTruncated,
    /// The file became shorter while it was sent.
    #[error("the file became shorter while it was sent")]
    FileShortened,
    /// Another error, in the system's words.
    #[error("{0}")]
    Other(String),
}

impl From<Errno> for ConnectionError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::CONNREFUSED => Self::Refused,
            Errno::CONNRESET => Self::Reset,
            Errno::CONNABORTED => Self::Aborted,
            Errno::PIPE => Self::Broken,
            Errno::TIMEDOUT => Self::Timeout("the peer does not answer"),
            Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::NETDOWN | Errno::HOSTDOWN => {
                Self::Unreachable
            }
            Errno::ADDRINUSE | Errno::ADDRNOTAVAIL => Self::NotBindable,
            Errno::ACCESS | Errno::PERM => Self::AccessDenied,
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => Self::NotFound,
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
                Self::LimitExceeded("the system has no descriptors or memory left")
            }
            Errno::INVAL | Errno::MSGSIZE | Errno::NAMETOOLONG | Errno::AFNOSUPPORT => {
                Self::InvalidArgument
            }
            Errno::OPNOTSUPP | Errno::NOSYS => Self::NotSupported,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(errno) => errno.into(),
            None => match error.kind() {
                io::ErrorKind::TimedOut => Self::Timeout("the peer does not answer"),
                io::ErrorKind::UnexpectedEof => Self::Reset,
                _ => Self::Other(error.to_string()),
            },
        }
    }
}
