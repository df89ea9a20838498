//! Why an exchange failed, by the names of RFC 9209, section 2.3, which are
//! those of `wasi:http`.

use std::error::Error;
use std::fmt;

/// Why there is no request or response, or not all of it.
#[derive(Debug)]
pub(crate) enum Failure {
    DnsTimeout,
    /// The code of the answer, such as `NXDOMAIN`.
    DnsError(&'static str),
    DestinationUnavailable,
    DestinationIpProhibited,
    DestinationIpUnroutable,
    ConnectionRefused,
    ConnectionTerminated,
    ConnectionTimeout,
    ConnectionReadTimeout,
    ConnectionWriteTimeout,
    ConnectionLimitReached,
    TlsProtocolError,
    TlsCertificateError,
    /// The alert's number and name: RFC 8446, section 6.
    TlsAlertReceived(u8, String),
    /// Bytes, where that is known.
    HttpRequestBodySize(Option<u64>),
    HttpRequestMethodInvalid,
    HttpRequestUriInvalid,
    HttpResponseIncomplete,
    HttpResponseHeaderSectionSize,
    /// Bytes, where that is known.
    HttpResponseBodySize(Option<u64>),
    /// The coding's name.
    HttpResponseTransferCoding(&'static str),
    HttpUpgradeFailed,
    HttpProtocolError,
    ConfigurationError,
    /// What a handler itself says of a body that it made.
    Handler(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handler(error) => error.fmt(f),
            other => fmt::Debug::fmt(other, f),
        }
    }
}

impl Error for Failure {}
