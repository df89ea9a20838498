//! Requests that guests make, where wasmtime-wasi-http's functions lack
//! something.
//!
//! `set-path-with-query`, 0.2 and 0.3, takes `*` too: asterisk-form (RFC 9112,
//! section 3.2.4). Only OPTIONS may have it, which is checked when the request
//! is sent.
//!
//! `outgoing-handler.handle` of 0.2 has the log told of a body that failed. An
//! `outgoing-body` that is dropped, and not given to `finish`, is an error by the
//! words of `wasi:http`: its request is not sent, or not to its end, even if it
//! is a GET and nothing was written.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http_body_util::BodyExt as _;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::{ErrorCode, Host as _};
use wasmtime_wasi_http::p2::bindings::http::types::{self as p2, RequestOptions};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::p3::Request;
use wasmtime_wasi_http::p3::bindings::http::types as p3;

use crate::concurrent::state::{AsyncState, Store};

/// The target that is not a path.
const ASTERISK: &str = "*";

/// Result of a setter of a request; the outer error is a trap.
type Set = wasmtime::Result<Result<(), ()>>;

/// Replaces the functions in the linker.
///
/// # Errors
/// Fails if the linker does not allow shadowing.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    linker.instance("wasi:http/types@0.2.12")?.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: Store<'_>, (request, path): (Resource<HostOutgoingRequest>, Option<String>)| {
            Ok((set_path_p2(store.data_mut(), request, path)?,))
        },
    )?;
    linker.instance("wasi:http/types@0.3.0")?.func_wrap(
        "[method]request.set-path-with-query",
        |mut store: Store<'_>, (request, path): (Resource<Request>, Option<String>)| {
            Ok((set_path_p3(store.data_mut(), request, path)?,))
        },
    )?;
    type Parameters = (
        Resource<HostOutgoingRequest>,
        Option<Resource<RequestOptions>>,
    );
    linker
        .instance("wasi:http/outgoing-handler@0.2.12")?
        .func_wrap(
            "handle",
            |mut store: Store<'_>, (request, options): Parameters| {
                Ok((handle(store.data_mut(), request, options)?,))
            },
        )
}

fn set_path_p2(
    state: &mut AsyncState,
    request: Resource<HostOutgoingRequest>,
    path: Option<String>,
) -> Set {
    if path.as_deref() != Some(ASTERISK) {
        return p2::HostOutgoingRequest::set_path_with_query(&mut state.http(), request, path);
    }
    state.table.get_mut(&request)?.path_with_query = path;
    Ok(Ok(()))
}

fn set_path_p3(state: &mut AsyncState, request: Resource<Request>, path: Option<String>) -> Set {
    if path.as_deref() != Some(ASTERISK) {
        return p3::HostRequest::set_path_with_query(&mut state.http(), request, path);
    }
    let asterisk = PathAndQuery::from_static(ASTERISK);
    state.table.get_mut(&request)?.path_with_query = Some(asterisk);
    Ok(Ok(()))
}

fn handle(
    state: &mut AsyncState,
    request: Resource<HostOutgoingRequest>,
    options: Option<Resource<RequestOptions>>,
) -> wasmtime::Result<Result<Resource<HostFutureIncomingResponse>, ErrorCode>> {
    let env = Arc::clone(&state.env().net);
    let sent = state.table.get_mut(&request)?;
    if let Some(body) = sent.body.take() {
        // By nothing else does a body of 0.2 fail.
        let told = body.map_err(move |error| {
            tracing::error!(
                guest = %env.guest,
                "a request is not sent whole: its outgoing-body was dropped without \
                 outgoing-body.finish, or finished before its content-length was written"
            );
            error
        });
        sent.body = Some(told.boxed_unsync());
    }
    match state.http().handle(request, options) {
        Ok(response) => Ok(Ok(response)),
        Err(error) => Ok(Err(error.downcast()?)),
    }
}
