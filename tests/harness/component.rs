//! Guests that no compiler of a language would make: a core module in text
//! whose misbehaviour is written in the test itself.

use std::path::{Path, PathBuf};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::repository;
use super::server::write;

/// A `tcp-handler` that echoes, but does `misbehaviour` with what begins with
/// an exclamation mark; `fixtures/handler.wat` says what it may use.
pub(crate) fn handler(directory: &Path, misbehaviour: &str) -> PathBuf {
    component(
        directory,
        "tcp-server",
        include_str!("../fixtures/handler.wat"),
        misbehaviour,
    )
}

/// A `udp-handler` that echoes, but does `misbehaviour` with what begins with
/// an exclamation mark; `fixtures/datagrams.wat` says what it may use.
pub(crate) fn datagram_handler(directory: &Path, misbehaviour: &str) -> PathBuf {
    component(
        directory,
        "udp-server",
        include_str!("../fixtures/datagrams.wat"),
        misbehaviour,
    )
}

fn component(directory: &Path, world: &str, template: &str, misbehaviour: &str) -> PathBuf {
    let text = template.replace(";; MISBEHAVIOUR", misbehaviour);
    let mut module = wat::parse_str(&text).expect("a core module in text");
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_path(repository().join("wit"))
        .expect("the WIT package");
    let world = resolve
        .select_world(&[package], Some(world))
        .expect("a world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the world in the module");
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .expect("a module with its world")
        .encode()
        .expect("a component");
    write(directory, "misbehaving.wasm", component)
}
