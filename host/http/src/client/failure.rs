//! Errors by the names that `wasi:http` has for them, which are those of RFC
//! 9209, section 2.3.

use std::error::Error as StdError;
use std::io;

use hyper_util::client::legacy;
use rustls::{AlertDescription, Error as TlsError};

use netwasm_base::error::ConnectionError;
use netwasm_exchange::failure::Failure;
use netwasm_net::{dns, trust};

/// Why a connection could not be made.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ConnectFailure {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("TLS: {}", trust::describe(.0))]
    Tls(TlsError),
}

impl From<io::Error> for ConnectFailure {
    fn from(error: io::Error) -> Self {
        match tls_error(&error) {
            Some(error) => Self::Tls(error.clone()),
            None => Self::Connection(error.into()),
        }
    }
}

impl From<&ConnectFailure> for Failure {
    fn from(failure: &ConnectFailure) -> Self {
        match failure {
            ConnectFailure::Connection(error) => of_connection(error),
            ConnectFailure::Tls(error) => of_tls(error),
        }
    }
}

/// Returns why there is no response.
pub(super) fn of_exchange(error: &legacy::Error) -> Failure {
    for cause in causes(error) {
        if let Some(failure) = cause.downcast_ref::<ConnectFailure>() {
            tracing::debug!(error = %failure, "cannot connect");
            return failure.into();
        }
        if let Some(error) = cause.downcast_ref::<hyper::Error>()
            && let Some(named) = of_head(error)
        {
            return named;
        }
        if let Some(error) = cause.downcast_ref::<h2::Error>()
            && error.is_remote()
        {
            return Failure::ConnectionTerminated;
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return match tls_error(error) {
                Some(error) => of_tls(error),
                None => of_connection(&ConnectionError::from(io::Error::from(error.kind()))),
            };
        }
    }
    tracing::debug!(error = ?error, "an exchange failed");
    match error.is_connect() {
        true => Failure::DestinationUnavailable,
        false => Failure::HttpProtocolError,
    }
}

/// True if the connection ended before a response began.
pub(super) fn is_lost(error: &legacy::Error) -> bool {
    causes(error).any(|cause| {
        let ended = |error: &hyper::Error| {
            error.is_incomplete_message() || error.is_canceled() || error.is_closed()
        };
        let gone = |error: &h2::Error| error.is_io() || error.is_go_away();
        cause.downcast_ref().is_some_and(ended)
            || cause.downcast_ref().is_some_and(gone)
            || cause.is::<io::Error>()
    })
}

/// True if an HTTP/2 peer says that it did nothing with the request (RFC 9113,
/// section 8.7). `h2` reports a GOAWAY for streams above the last one that it names.
pub(super) fn is_refused(error: &legacy::Error) -> bool {
    let refused = |error: &h2::Error| {
        let refuses = error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (refuses || error.is_go_away())
    };
    causes(error).any(|cause| cause.downcast_ref().is_some_and(refused))
}

/// Returns why the body of a response is incomplete.
pub(super) fn of_body(error: &hyper::Error) -> Failure {
    tracing::debug!(?error, "a response is not whole");
    for cause in causes(error) {
        if let Some(error) = cause.downcast_ref::<io::Error>()
            && tls_error(error).is_none()
            && matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
            )
        {
            return Failure::HttpResponseTransferCoding("chunked");
        }
    }
    Failure::HttpResponseIncomplete
}

/// Returns hyper's own verdict, if it has one.
fn of_head(error: &hyper::Error) -> Option<Failure> {
    Some(match () {
        () if error.is_parse_too_large() => Failure::HttpResponseHeaderSectionSize,
        () if error.is_parse() => Failure::HttpProtocolError,
        () if error.is_timeout() => Failure::ConnectionReadTimeout,
        () if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => {
            Failure::ConnectionTerminated
        }
        () => return None,
    })
}

fn of_connection(error: &ConnectionError) -> Failure {
    match error {
        ConnectionError::NameUnresolvable => Failure::DnsError("NXDOMAIN"),
        // The name exists, but has no address.
        ConnectionError::NoAddress => Failure::DnsError("NOERROR"),
        ConnectionError::ResolverFailure => Failure::DnsError("SERVFAIL"),
        ConnectionError::Timeout(what) if *what == dns::SILENT => Failure::DnsTimeout,
        ConnectionError::Timeout(_) => Failure::ConnectionTimeout,
        // The name was allowed before; the address that it resolves to is not.
        ConnectionError::AccessDenied => Failure::DestinationIpProhibited,
        ConnectionError::Refused => Failure::ConnectionRefused,
        ConnectionError::Unreachable | ConnectionError::NotBindable => {
            Failure::DestinationIpUnroutable
        }
        ConnectionError::LimitExceeded(_) => Failure::ConnectionLimitReached,
        ConnectionError::InvalidArgument => Failure::HttpRequestUriInvalid,
        // No trust root is known.
        ConnectionError::Tls(_) => Failure::ConfigurationError,
        ConnectionError::Reset
        | ConnectionError::Aborted
        | ConnectionError::Broken
        | ConnectionError::TlsTruncated => Failure::ConnectionTerminated,
        ConnectionError::InvalidState
        | ConnectionError::NotSupported
        | ConnectionError::NotFound
        | ConnectionError::FileShortened
        | ConnectionError::Other(_) => Failure::DestinationUnavailable,
    }
}

fn of_tls(error: &TlsError) -> Failure {
    match error {
        TlsError::InvalidCertificate(_)
        | TlsError::NoCertificatesPresented
        | TlsError::UnsupportedNameType => Failure::TlsCertificateError,
        TlsError::AlertReceived(alert) => {
            Failure::TlsAlertReceived(u8::from(*alert), alert_name(*alert))
        }
        _ => Failure::TlsProtocolError,
    }
}

/// Returns an alert's name as in the RFC: `no_application_protocol`.
fn alert_name(alert: AlertDescription) -> String {
    let mut name = String::new();
    for letter in format!("{alert:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

/// Returns an error and its causes.
fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let source = |error: &&'a (dyn StdError + 'static)| (*error).source();
    std::iter::successors(Some(error), source)
}
