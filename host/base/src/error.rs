//! Errors, by whose fault they are.
//!
//! [`Error`] ends a run before it has begun, or refuses a command: the
//! configuration or the machine. [`ConnectionError`] ends one connection or
//! fails one request of a guest: mostly the peer or the network.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::config::ConfigError;

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that was named cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The configuration does not go with the component.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A file that was named cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The component cannot be used.
    #[error("{name}: {reason}")]
    Component {
        /// The component's file or name.
        name: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A listener cannot be opened.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address as a URL, such as `tcp://127.0.0.1:80`.
        address: String,
        /// What happened, and what to do about it.
        reason: String,
    },
    /// Certificates or keys cannot be used.
    #[error("{0}")]
    Tls(String),
    /// A directory for the guest cannot be opened.
    #[error("{0}")]
    Directory(String),
    /// The machine does not give what is needed.
    #[error("{what}: {source}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error(
        "cannot start a thread: {0} (see `ulimit -u`, and the limit of processes that a \
         container or service has)"
    )]
    Thread(io::Error),
    /// The runtime for components could not be set up.
    #[error("{0}")]
    Engine(String),
}

/// Why a connection was lost, or a guest's request failed: `error-code` of
/// the WIT package, where each case is documented.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The policy, or the system, does not allow it.
    #[error("access denied")]
    AccessDenied,
    /// It is not the time for that.
    #[error("not possible in this state")]
    InvalidState,
    /// Nobody could do that.
    #[error("invalid argument")]
    InvalidArgument,
    /// This kind of connection cannot do that.
    #[error("not supported")]
    NotSupported,
    /// Too much of something; the text names the flag.
    #[error("{0}")]
    LimitExceeded(&'static str),
    /// It took too long; the text names the flag.
    #[error("{0}")]
    Timeout(&'static str),
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// The peer has reset the connection.
    #[error("reset by the peer")]
    Reset,
    /// It was ended from this side.
    #[error("aborted")]
    Aborted,
    /// The peer takes no more.
    #[error("the peer no longer reads")]
    Broken,
    /// No network leads there.
    #[error("no route to the address")]
    Unreachable,
    /// The address is none of this machine, or in use.
    #[error("the address cannot be bound")]
    NotBindable,
    /// There is no such name: NXDOMAIN.
    #[error("no such name")]
    NameUnresolvable,
    /// There is the name, and no address of it.
    #[error("the name has no address")]
    NoAddress,
    /// No name server has an answer.
    #[error("the resolver failed")]
    ResolverFailure,
    /// There is no such file.
    #[error("not found")]
    NotFound,
    /// The handshake or a record failed; why.
    #[error("TLS: {0}")]
    Tls(String),
    /// The stream ended without `close_notify` (RFC 8446, section 6.1).
    #[error("the TLS stream ended without close_notify")]
    TlsTruncated,
    /// The file became shorter while it was sent.
    #[error("the file became shorter while it was sent")]
    FileShortened,
    /// Anything else, in the words of the system.
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
