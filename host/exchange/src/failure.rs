//! Reasons why an exchange failed, by the names of RFC 9209, section 2.3, which
//! `wasi:http` uses too.

use std::error::Error;
use std::fmt;

/// Reason why a request or a response is missing or incomplete.
#[derive(Debug)]
pub enum Failure {
    /// `DNS-timeout`.
    DnsTimeout,
    /// `DNS-error`, with the answer's code, such as `NXDOMAIN`.
    DnsError(&'static str),
    /// `destination-unavailable`.
    DestinationUnavailable,
    /// `destination-IP-prohibited`: the policy forbids the address of a name.
    DestinationIpProhibited,
    /// `destination-IP-unroutable`.
    DestinationIpUnroutable,
    /// `connection-refused`.
    ConnectionRefused,
    /// `connection-terminated`.
    ConnectionTerminated,
    /// `connection-timeout`: no connection in time.
    ConnectionTimeout,
    /// `connection-read-timeout`: nothing arrived in time.
    ConnectionReadTimeout,
    /// `connection-write-timeout`: the peer read nothing in time.
    ConnectionWriteTimeout,
    /// `connection-limit-reached`.
    ConnectionLimitReached,
    /// `TLS-protocol-error`.
    TlsProtocolError,
    /// `TLS-certificate-error`.
    TlsCertificateError,
    /// `TLS-alert-received`, with the alert's number and name: RFC 8446,
    /// section 6.
    TlsAlertReceived(u8, String),
    /// `HTTP-request-body-size`, with the size in bytes, if known.
    HttpRequestBodySize(Option<u64>),
    /// `HTTP-request-method-invalid`.
    HttpRequestMethodInvalid,
    /// `HTTP-request-URI-invalid`.
    HttpRequestUriInvalid,
    /// `HTTP-response-incomplete`.
    HttpResponseIncomplete,
    /// `HTTP-response-header-section-size`: the section is too large.
    HttpResponseHeaderSectionSize,
    /// `HTTP-response-body-size`, with the size in bytes, if known.
    HttpResponseBodySize(Option<u64>),
    /// `HTTP-response-transfer-coding`, with the coding's name.
    HttpResponseTransferCoding(&'static str),
    /// `HTTP-upgrade-failed`.
    HttpUpgradeFailed,
    /// `HTTP-protocol-error`.
    HttpProtocolError,
    /// `configuration-error`: no TLS authority is known.
    ConfigurationError,
    /// A handler's own error about a body that it made.
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
