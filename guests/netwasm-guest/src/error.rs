//! Errors.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// The result of most functions of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something did not work, or why a connection was lost.
///
/// It prints as a sentence for a person: `connecting failed: connection
/// refused`. A program decides by [`kind`](Self::kind).
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    operation: Operation,
    text: Cow<'static, str>,
}

/// The kind of a failure, for a program to decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The command line does not allow it. The host's log names the flag that
    /// would.
    AccessDenied,
    /// The connection is not in a state that allows the operation: it is
    /// closing, say.
    InvalidState,
    /// An argument cannot be used: an empty name, a port of 0.
    InvalidArgument,
    /// This kind of connection does not support the operation.
    NotSupported,
    /// A limit of the host was reached.
    LimitExceeded,
    /// It took longer than allowed.
    Timeout,
    /// Nobody listens at the address.
    ConnectionRefused,
    /// The peer reset the connection.
    ConnectionReset,
    /// The connection was ended by `abort`, by the host, or by a failure of
    /// the connection it was relayed to.
    ConnectionAborted,
    /// The connection is closed, or the peer no longer reads.
    ConnectionBroken,
    /// No route leads to the address.
    RemoteUnreachable,
    /// The address is in use, or is not one of this machine.
    AddressNotBindable,
    /// The name does not exist, or is invalid.
    NameUnresolvable,
    /// The name exists, but has no address.
    NoAddress,
    /// The resolver failed, refused, or cannot be reached.
    ResolverFailure,
    /// There is no such file.
    NotFound,
    /// The TLS session failed. The error's text says why.
    Tls,
    /// The peer's TLS stream ended without `close_notify`: it may have been cut
    /// short.
    TlsTruncated,
    /// Anything else.
    Other,
    // The order up to here is that of the interface, so that no table is
    // needed to translate a code.
    /// The stream ended before all that was awaited had come.
    UnexpectedEnd,
    /// A line or record is longer than allowed.
    TooLong,
    /// The data is not what it should be: not UTF-8, say.
    InvalidData,
    /// The other side of a channel is gone.
    Closed,
}

/// The operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// A function that was called just now.
    Call,
    /// Looking up a name.
    Resolve,
    /// Connecting to an address.
    Connect,
    /// A TLS handshake.
    Handshake,
    /// Receiving from the peer, or waiting for it.
    Receive,
    /// Sending to the peer.
    Send,
    /// The connection as a whole: it was aborted, or closed by the host.
    Connection,
}

impl Error {
    /// Makes an error of a handler's own.
    pub fn new(kind: ErrorKind, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            operation: Operation::Call,
            text: text.into(),
        }
    }

    /// Makes an error of the kind [`Other`](ErrorKind::Other).
    pub fn other(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Other, text)
    }

    /// True if the peer or the network is at fault: it left, was too slow, or
    /// sent too little.
    pub(crate) const fn is_of_peer(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Timeout
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::ConnectionBroken
                | ErrorKind::Tls
                | ErrorKind::TlsTruncated
                | ErrorKind::UnexpectedEnd
        )
    }

    pub(crate) const fn fixed(kind: ErrorKind, operation: Operation, text: &'static str) -> Self {
        Self {
            kind,
            operation,
            text: Cow::Borrowed(text),
        }
    }

    #[cfg(target_family = "wasm")]
    pub(crate) const fn of_host(kind: ErrorKind, operation: Operation, text: String) -> Self {
        Self {
            kind,
            operation,
            text: Cow::Owned(text),
        }
    }

    pub(crate) const fn closed() -> Self {
        Self::fixed(
            ErrorKind::ConnectionBroken,
            Operation::Send,
            "the connection is closed",
        )
    }

    pub(crate) const fn unexpected_end() -> Self {
        Self::fixed(
            ErrorKind::UnexpectedEnd,
            Operation::Receive,
            "the stream ended too early",
        )
    }

    pub(crate) const fn too_long(text: &'static str) -> Self {
        Self::fixed(ErrorKind::TooLong, Operation::Receive, text)
    }

    pub(crate) const fn not_text() -> Self {
        Self::fixed(
            ErrorKind::InvalidData,
            Operation::Receive,
            "the text is not UTF-8",
        )
    }

    pub(crate) const fn timed_out() -> Self {
        Self::fixed(ErrorKind::Timeout, Operation::Call, "timed out")
    }

    pub(crate) const fn gone() -> Self {
        Self::fixed(
            ErrorKind::Closed,
            Operation::Call,
            "the other side of the channel is gone",
        )
    }

    /// Returns the kind of the failure.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the operation that failed.
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// Returns what went wrong, without the operation: `connection refused`.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One text and no table, which each instance would pay for.
        const OPERATIONS: &str =
            "looking up the name|connecting|the TLS handshake|receiving|sending|the connection";
        if self.operation != Operation::Call {
            let mut place = Operation::Resolve as u8;
            for letter in OPERATIONS.chars() {
                if letter == '|' {
                    place += 1;
                } else if place == self.operation as u8 {
                    f.write_char(letter)?;
                }
            }
            f.write_str(if self.operation == Operation::Connection {
                " ended: "
            } else {
                " failed: "
            })?;
        }
        f.write_str(&self.text)
    }
}

/// Prints as [`Display`](fmt::Display) does: what `main` and `unwrap` show is
/// for people too.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind, kind.text())
    }
}

impl From<std::str::Utf8Error> for Error {
    fn from(_: std::str::Utf8Error) -> Self {
        Self::not_text()
    }
}

impl From<std::string::FromUtf8Error> for Error {
    fn from(_: std::string::FromUtf8Error) -> Self {
        Self::not_text()
    }
}

/// The standard library's errors, of files for example.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::PermissionDenied => ErrorKind::AccessDenied,
            Io::InvalidInput => ErrorKind::InvalidArgument,
            Io::InvalidData => ErrorKind::InvalidData,
            Io::UnexpectedEof => ErrorKind::UnexpectedEnd,
            Io::TimedOut => ErrorKind::Timeout,
            Io::Unsupported => ErrorKind::NotSupported,
            _ => ErrorKind::Other,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind {
            ErrorKind::AccessDenied => Io::PermissionDenied,
            ErrorKind::InvalidArgument => Io::InvalidInput,
            ErrorKind::NotSupported => Io::Unsupported,
            ErrorKind::Timeout => Io::TimedOut,
            ErrorKind::ConnectionRefused => Io::ConnectionRefused,
            ErrorKind::ConnectionReset => Io::ConnectionReset,
            ErrorKind::ConnectionAborted => Io::ConnectionAborted,
            ErrorKind::ConnectionBroken | ErrorKind::Closed => Io::BrokenPipe,
            ErrorKind::RemoteUnreachable => Io::HostUnreachable,
            ErrorKind::NotFound => Io::NotFound,
            ErrorKind::TlsTruncated | ErrorKind::UnexpectedEnd => Io::UnexpectedEof,
            ErrorKind::TooLong | ErrorKind::InvalidData => Io::InvalidData,
            _ => Io::Other,
        };
        Self::new(kind, error)
    }
}

impl ErrorKind {
    /// Returns the kind in words: `connection refused`.
    pub const fn text(self) -> &'static str {
        match self {
            Self::AccessDenied => "the command line does not allow it",
            Self::InvalidState => "not possible in this state",
            Self::InvalidArgument => "an argument cannot be used",
            Self::NotSupported => "not supported",
            Self::LimitExceeded => "a limit was reached",
            Self::Timeout => "timed out",
            Self::ConnectionRefused => "connection refused",
            Self::ConnectionReset => "connection reset by peer",
            Self::ConnectionAborted => "connection aborted",
            Self::ConnectionBroken => "the connection is closed",
            Self::RemoteUnreachable => "no route to it",
            Self::AddressNotBindable => "the address cannot be used",
            Self::NameUnresolvable => "no such name",
            Self::NoAddress => "the name has no address",
            Self::ResolverFailure => "the resolver failed",
            Self::NotFound => "no such file",
            Self::Tls => "the TLS session failed",
            Self::TlsTruncated => "the TLS stream was cut short",
            Self::UnexpectedEnd => "the stream ended too early",
            Self::TooLong => "too long",
            Self::InvalidData => "invalid data",
            Self::Closed => "the other side of the channel is gone",
            Self::Other => "another error",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
