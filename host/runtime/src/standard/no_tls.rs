//! `wasi:tls` for handlers of events, which have no streams that it could
//! encrypt: a connection of the host has TLS by itself.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, ResourceType};

use crate::state::State;

/// Resources of which there is none.
enum Handshake {}
enum NoConnection {}
enum Streams {}

/// Functions, each of which begins with or follows the first.
const FUNCTIONS: [&str; 5] = [
    "[constructor]client-handshake",
    "[static]client-handshake.finish",
    "[method]client-connection.close-output",
    "[method]future-client-streams.subscribe",
    "[method]future-client-streams.get",
];

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut interface = linker.instance("wasi:tls/types@0.2.0-draft")?;
    let none = |_: StoreContextMut<'_, State>, _: u32| Ok(());
    interface.resource("client-handshake", ResourceType::host::<Handshake>(), none)?;
    interface.resource(
        "client-connection",
        ResourceType::host::<NoConnection>(),
        none,
    )?;
    interface.resource(
        "future-client-streams",
        ResourceType::host::<Streams>(),
        none,
    )?;
    for function in FUNCTIONS {
        interface.func_new(function, |_, _, _, _| {
            wasmtime::bail!(
                "a handler has no TLS of its own, as the host has it: netwasm_guest::connect opens \
                 connections with TLS in Rust, asyncio.open_connection in Python, `connect` of \
                 netwasm in JavaScript, nw_connect in C, and netwasm.Dial in Go"
            )
        })?;
    }
    Ok(())
}
