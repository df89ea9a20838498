//! Imports of async guests.

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Engine};
use wasmtime_wasi::{p2, p3};
use wasmtime_wasi_http::{p2 as http_p2, p3 as http_p3};

use crate::concurrent::blobstore;
use crate::concurrent::state::AsyncState;
use crate::concurrent::{
    bindings, files, host, http_error, informing, lookup, opening, opening_p2, outgoing, response,
    sockets, spin, tcp, tls, tls_engine, transmission, udp,
};
use crate::kind::Kind;
use crate::standard;
use crate::wasi::random;

/// Stack for the host functions that a guest calls, in bytes. It comes on top
/// of the guest's own.
const HOST_STACK: usize = 512 << 10;

/// Sets an engine up for async guests, with this much stack for the guest in
/// bytes.
pub(crate) fn configure(config: &mut Config, guest_stack: usize) {
    config
        .wasm_component_model_async(true)
        .async_stack_size(guest_stack + HOST_STACK);
}

/// Returns a linker with all that async guests of a kind may import.
pub(crate) fn linker(engine: &Engine, kind: Kind) -> wasmtime::Result<Linker<AsyncState>> {
    let mut linker = Linker::new(engine);
    let mut options = p2::bindings::LinkOptions::default();
    options.network_error_code(true);
    p2::add_to_linker_with_options_async(&mut linker, &options)?;
    random::add_to_linker(&mut linker, |state: &AsyncState| {
        state.env().net.limits.max_memory
    })?;
    p3::add_to_linker(&mut linker)?;
    http_p2::add_only_http_to_linker_async(&mut linker)?;
    http_p3::add_to_linker(&mut linker)?;
    bindings::netwasm::net::streams::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    bindings::netwasm::net::client::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    // Functions of ours in place of theirs.
    linker.allow_shadowing(true);
    tcp::add_to_linker(&mut linker)?;
    udp::add_to_linker(&mut linker)?;
    lookup::add_to_linker(&mut linker)?;
    http_error::add_to_linker(&mut linker)?;
    informing::add_to_linker(&mut linker)?;
    files::add_to_linker(&mut linker)?;
    opening::add_to_linker(&mut linker)?;
    opening_p2::add_to_linker(&mut linker)?;
    outgoing::add_to_linker(&mut linker)?;
    response::add_to_linker(&mut linker)?;
    transmission::add_to_linker(&mut linker)?;
    linker.allow_shadowing(false);
    blobstore::add_to_linker(&mut linker)?;
    host::add_to_linker(&mut linker)?;
    tls_engine::add_to_linker(&mut linker)?;
    standard::add_to_linker(&mut linker)?;
    spin::add_to_linker(&mut linker)?;
    tls::add_to_linker(&mut linker)?;
    if kind == Kind::Command {
        // Its `wait` stops the whole instance, which is a handler's other
        // connections.
        sockets::add_to_linker(&mut linker)?;
    }
    Ok(linker)
}
