//! Why an exchange failed, by the names of RFC 9209, section 2.3, which are
//! those of `wasi:http`.

use std::error::Error;
use std::fmt;

/// Why there is no request or response, or not all of it.
#[derive(Debug)]
pub enum Failure {
    /// `DNS-timeout`.
    DnsTimeout,
    /// The code of the answer, such as `NXDOMAIN`.
    DnsError(&'static str),
    /// `destination-unavailable`.
    DestinationUnavailable,
    /// `destination-IP-prohibited`: the policy does not allow where a name
    /// leads.
    DestinationIpProhibited,
    /// `destination-IP-unroutable`.
    DestinationIpUnroutable,
    /// `connection-refused`.
    ConnectionRefused,
    /// `connection-terminated`.
    ConnectionTerminated,
    /// `connection-timeout`: none in time.
    ConnectionTimeout,
    /// `connection-read-timeout`: nothing came in time.
    ConnectionReadTimeout,
    /// `connection-write-timeout`: the peer took nothing in time.
    ConnectionWriteTimeout,
    /// `connection-limit-reached`.
    ConnectionLimitReached,
    /// `TLS-protocol-error`.
    TlsProtocolError,
    /// `TLS-certificate-error`.
    TlsCertificateError,
    /// The alert's number and name: RFC 8446, section 6.
    TlsAlertReceived(u8, String),
    /// Bytes, where that is known.
    HttpRequestBodySize(Option<u64>),
    /// `HTTP-request-method-invalid`.
    HttpRequestMethodInvalid,
    /// `HTTP-request-URI-invalid`.
    HttpRequestUriInvalid,
    /// `HTTP-response-incomplete`.
    HttpResponseIncomplete,
    /// `HTTP-response-header-section-size`: it is too large.
    HttpResponseHeaderSectionSize,
    /// Bytes, where that is known.
    HttpResponseBodySize(Option<u64>),
    /// The coding's name.
    HttpResponseTransferCoding(&'static str),
    /// `HTTP-upgrade-failed`.
    HttpUpgradeFailed,
    /// `HTTP-protocol-error`.
    HttpProtocolError,
    /// `configuration-error`: no authority of TLS is known.
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
