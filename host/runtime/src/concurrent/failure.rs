//! Conversions between the host's failures and the errors of `wasi:http`.

use netwasm_exchange::failure::Failure;
use wasmtime_wasi_http::Error;

/// Converts a failure to an error of `wasi:http`.
pub(super) fn of_failure(failure: Failure) -> Error {
    match failure {
        Failure::DnsTimeout => Error::DnsTimeout,
        Failure::DnsError(rcode) => Error::DnsError {
            rcode: Some(rcode.to_owned()),
            info_code: None,
        },
        Failure::DestinationUnavailable => Error::DestinationUnavailable,
        Failure::DestinationIpProhibited => Error::DestinationIpProhibited,
        Failure::DestinationIpUnroutable => Error::DestinationIpUnroutable,
        Failure::ConnectionRefused => Error::ConnectionRefused,
        Failure::ConnectionTerminated => Error::ConnectionTerminated,
        Failure::ConnectionTimeout => Error::ConnectionTimeout,
        Failure::ConnectionReadTimeout => Error::ConnectionReadTimeout,
        Failure::ConnectionWriteTimeout => Error::ConnectionWriteTimeout,
        Failure::ConnectionLimitReached => Error::ConnectionLimitReached,
        Failure::TlsProtocolError => Error::TlsProtocolError,
        Failure::TlsCertificateError => Error::TlsCertificateError,
        Failure::TlsAlertReceived(id, name) => Error::TlsAlertReceived {
            alert_id: Some(id),
            alert_message: Some(name),
        },
        Failure::HttpRequestBodySize(size) => Error::HttpRequestBodySize(size),
        Failure::HttpRequestMethodInvalid => Error::HttpRequestMethodInvalid,
        Failure::HttpRequestUriInvalid => Error::HttpRequestUriInvalid,
        Failure::HttpResponseIncomplete => Error::HttpResponseIncomplete,
        Failure::HttpResponseHeaderSectionSize => Error::HttpResponseHeaderSectionSize(None),
        Failure::HttpResponseBodySize(size) => Error::HttpResponseBodySize(size),
        Failure::HttpResponseTransferCoding(coding) => {
            Error::HttpResponseTransferCoding(Some(coding.to_owned()))
        }
        Failure::HttpUpgradeFailed => Error::HttpUpgradeFailed,
        Failure::HttpProtocolError => Error::HttpProtocolError,
        Failure::ConfigurationError => Error::ConfigurationError,
        Failure::Handler(error) => match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => Error::InternalError(Some(error.to_string())),
        },
    }
}

/// Converts a guest's error about a body that it made, for the body's sender.
pub(super) fn of_guest(error: Error) -> Failure {
    Failure::Handler(Box::new(error))
}
