//! Host functions for event guests, one file per interface. Thin: look the
//! handle up, call the core, convert.

mod connection_topics;
mod connector;
mod datagram_connector;
mod datagrams;
pub(crate) mod files;
mod http;
mod log;
mod metrics;
mod pools;
mod resolver;
mod shared;
mod timers;
mod topics;
mod transports;
mod websocket_client;
mod websockets;

use wasmtime::component::{HasSelf, Linker};

use crate::bindings::{Everything, netwasm};
use crate::state::State;

/// Adds all imports of the package to the linker.
///
/// # Errors
/// Fails if two of them have one name.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    Everything::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    linker.allow_shadowing(true);
    transports::add_to_linker(linker)?;
    datagrams::add_to_linker(linker)?;
    http::add_to_linker(linker)?;
    websockets::add_to_linker(linker)?;
    topics::add_to_linker(linker)?;
    connection_topics::add_to_linker(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl netwasm::net::types::Host for State {}
