//! `send-informational` of `wasi:http/types@0.2`, in place of
//! wasmtime-wasi-http's, which in version 48 ends the instance. The connection
//! sends the response, or drops it if the client might not understand it.

use http::HeaderMap;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::types::HostResponseOutparam;

use netwasm_exchange::answer::Interim;

use crate::concurrent::state::{AsyncState, Store};

/// Adds the function to the linker.
///
/// # Errors
/// Fails if the linker does not allow shadowing.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    type Parameters = (Resource<HostResponseOutparam>, u16, Resource<FieldMap>);
    linker.instance("wasi:http/types@0.2.12")?.func_wrap(
        "[method]response-outparam.send-informational",
        |mut store: Store<'_>, (out, status, headers): Parameters| {
            let state = store.data_mut();
            let headers: HeaderMap = state.table.delete(headers)?.into();
            state.table.get(&out)?;
            Ok((inform(state, &out, status, &headers),))
        },
    )
}

fn inform(
    state: &AsyncState,
    out: &Resource<HostResponseOutparam>,
    status: u16,
    headers: &HeaderMap,
) -> Result<(), ErrorCode> {
    let internal = |why: &str| Err(ErrorCode::InternalError(Some(why.into())));
    match status {
        102..200 => {}
        100..102 => return internal("the host sends 100 and 101 by itself"),
        _ => return Err(ErrorCode::HttpProtocolError),
    }
    let size = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        name.as_str().len() + value.as_bytes().len()
    };
    let size: usize = headers.iter().map(size).sum();
    if size > state.env().net.limits.http.max_head {
        let size = u32::try_from(size).ok();
        return Err(ErrorCode::HttpResponseHeaderSectionSize(size));
    }
    let Some(reply) = state.http.replying.as_ref().and_then(|it| it.to(out)) else {
        return internal("the request is over");
    };
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), value.as_bytes().to_vec())
    };
    let headers = headers.iter().map(field).collect();
    reply.inform(Interim { status, headers }).or_else(internal)
}
