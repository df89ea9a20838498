//! `http-error-code` of `wasi:http/types@0.2`, in place of wasmtime-wasi-http's,
//! which in version 48 finds no error of a body.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, IoError};

use crate::http::failure::Failure;
use crate::wasm::concurrent::state::State;

/// Gives the linker the function, in place of the one that is there.
///
/// # Errors
/// It is not linked yet.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance("wasi:http/types@0.2.12")?.func_wrap(
        "http-error-code",
        |mut store: StoreContextMut<'_, State>, (error,): (Resource<IoError>,)| {
            let error = store.data_mut().table.get(&error)?;
            let code = match error.downcast_ref::<ErrorCode>() {
                Some(code) => Some(code.clone()),
                None => error.downcast_ref().map(code_of),
            };
            Ok((code,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The errors that bodies end with.
fn code_of(error: &Error) -> ErrorCode {
    match error {
        Error::ConnectionReadTimeout => ErrorCode::ConnectionReadTimeout,
        Error::ConnectionTerminated => ErrorCode::ConnectionTerminated,
        Error::HttpProtocolError => ErrorCode::HttpProtocolError,
        Error::HttpRequestBodySize(size) => ErrorCode::HttpRequestBodySize(*size),
        Error::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
        Error::HttpResponseTransferCoding(coding) => {
            ErrorCode::HttpResponseTransferCoding(coding.clone())
        }
        other => ErrorCode::InternalError(Some(other.to_string())),
    }
}

/// As `wasi:http` has it.
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

/// What a guest says of a body that it made, for whoever sends it on.
pub(super) fn of_guest(error: Error) -> Failure {
    Failure::Handler(Box::new(error))
}
