//! Failures, for the guest.

use std::io;

use rustix::io::Errno as SystemErrno;

use netwasm_base::error::ConnectionError;
use netwasm_base::policy::Denied;
use netwasm_net::posix::PosixError;

use crate::concurrent::bindings::netwasm::net::sockets::{Errno, Failure};

impl Failure {
    pub(super) fn new(code: Errno, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    /// A number of something that is not open, or of another kind.
    pub(super) fn bad_descriptor() -> Self {
        Errno::BadDescriptor.into()
    }

    /// A number of something that is open, and no socket.
    pub(super) fn not_socket() -> Self {
        Errno::NotSocket.into()
    }

    /// The failure of a look-up.
    pub(super) fn of_name(error: &ConnectionError) -> Self {
        let code = match error {
            ConnectionError::NameUnresolvable | ConnectionError::InvalidArgument => Errno::NoName,
            ConnectionError::NoAddress => Errno::NoData,
            ConnectionError::Timeout(_) => Errno::TimedOut,
            _ => Errno::ResolverFailed,
        };
        Self::new(code, error.to_string())
    }

    /// The failure of opening a file.
    pub(super) fn of_file(error: &ConnectionError, path: &str, held: bool) -> Self {
        match error {
            ConnectionError::AccessDenied if !held => {
                Self::new(Errno::NoEntry, format!("no --dir has {path}"))
            }
            ConnectionError::AccessDenied => {
                Self::new(Errno::Access, "the system does not allow reading it")
            }
            ConnectionError::NotFound => Errno::NoEntry.into(),
            ConnectionError::LimitExceeded(text) => Self::new(Errno::TooManyFiles, *text),
            error => Self::new(Errno::Io, error.to_string()),
        }
    }
}

impl From<Errno> for Failure {
    fn from(code: Errno) -> Self {
        Self::new(code, "")
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Self::new(Errno::Access, denied.to_string())
    }
}

impl From<PosixError> for Failure {
    fn from(error: PosixError) -> Self {
        match error {
            PosixError::System(errno) => errno.into(),
            PosixError::Limit(text) => Self::new(Errno::TooManyFiles, text),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match SystemErrno::from_io_error(&error) {
            Some(errno) => errno.into(),
            None => Self::new(Errno::Io, error.to_string()),
        }
    }
}

impl From<SystemErrno> for Failure {
    fn from(errno: SystemErrno) -> Self {
        match errno {
            SystemErrno::ACCESS => Self::new(Errno::Access, "the system does not allow it"),
            SystemErrno::ADDRINUSE => Errno::AddrInUse.into(),
            SystemErrno::ADDRNOTAVAIL => Errno::AddrNotAvailable.into(),
            SystemErrno::AFNOSUPPORT => Errno::AfNotSupported.into(),
            SystemErrno::AGAIN => Errno::Again.into(),
            SystemErrno::ALREADY => Errno::Already.into(),
            SystemErrno::BADF => Errno::BadDescriptor.into(),
            SystemErrno::NOTSOCK => Errno::NotSocket.into(),
            SystemErrno::NOPROTOOPT => Errno::NoProtocolOption.into(),
            SystemErrno::CONNABORTED => Errno::ConnectionAborted.into(),
            SystemErrno::CONNREFUSED => Errno::ConnectionRefused.into(),
            SystemErrno::CONNRESET => Errno::ConnectionReset.into(),
            SystemErrno::DESTADDRREQ => Errno::DestAddressRequired.into(),
            SystemErrno::HOSTUNREACH | SystemErrno::HOSTDOWN => Errno::HostUnreachable.into(),
            SystemErrno::INPROGRESS => Errno::InProgress.into(),
            SystemErrno::INVAL | SystemErrno::RANGE | SystemErrno::DOM | SystemErrno::LOOP => {
                Errno::Invalid.into()
            }
            SystemErrno::ISCONN => Errno::IsConnected.into(),
            SystemErrno::MSGSIZE => Errno::MessageSize.into(),
            SystemErrno::MFILE | SystemErrno::NFILE => {
                Self::new(Errno::TooManyFiles, "the system has no descriptor left")
            }
            SystemErrno::NAMETOOLONG => Errno::NameTooLong.into(),
            SystemErrno::NETUNREACH | SystemErrno::NETDOWN => Errno::NetworkUnreachable.into(),
            SystemErrno::NOENT | SystemErrno::NOTDIR => Errno::NoEntry.into(),
            SystemErrno::NOMEM | SystemErrno::NOBUFS | SystemErrno::NOSPC => Errno::NoMemory.into(),
            SystemErrno::NOTCONN => Errno::NotConnected.into(),
            SystemErrno::OPNOTSUPP
            | SystemErrno::PROTONOSUPPORT
            | SystemErrno::PROTOTYPE
            | SystemErrno::NOSYS => Errno::NotSupported.into(),
            SystemErrno::PIPE => Errno::BrokenPipe.into(),
            SystemErrno::PERM => Errno::Permission.into(),
            SystemErrno::TIMEDOUT => Errno::TimedOut.into(),
            other => Self::new(Errno::Io, other.to_string()),
        }
    }
}
