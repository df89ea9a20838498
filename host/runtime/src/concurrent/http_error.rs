//! `http-error-code` of `wasi:http/types@0.2`, in place of
//! wasmtime-wasi-http's, which in version 48 recognises no error of a body.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, IoError};

use crate::concurrent::state::AsyncState;

/// Replaces the function in the linker.
///
/// # Errors
/// Fails if the linker does not allow shadowing.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    linker.instance("wasi:http/types@0.2.12")?.func_wrap(
        "http-error-code",
        |mut store: StoreContextMut<'_, AsyncState>, (error,): (Resource<IoError>,)| {
            let error = store.data_mut().table.get(&error)?;
            let code = match error.downcast_ref::<ErrorCode>() {
                Some(code) => Some(code.clone()),
                None => error.downcast_ref().map(code_of),
            };
            Ok((code,))
        },
    )
}

/// Converts the errors that bodies end with.
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
