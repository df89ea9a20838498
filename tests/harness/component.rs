//! Guests that no compiler would make: core modules in text form, whose
//! misbehaviour each test writes itself.

use std::path::{Path, PathBuf};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::repository;
use super::server::write;

/// Makes a `tcp-handler` that echoes. Data that begins with an exclamation mark
/// runs `misbehaviour` instead; `fixtures/handler.wat` lists what that may use.
pub(crate) fn handler(directory: &Path, misbehaviour: &str) -> PathBuf {
    handler_that_has(directory, "", misbehaviour)
}

/// Like [`handler`], with further `definitions` in its module.
pub(crate) fn handler_that_has(directory: &Path, definitions: &str, misbehaviour: &str) -> PathBuf {
    let text = HANDLER.replace(BODY, misbehaviour);
    let module = text.trim_end().strip_suffix(')').expect("a module");
    let text = format!("{module}\n{definitions})");
    component(directory, "netwasm:net/tcp-server@0.2.0", &text)
}

/// Like [`handler`], but imports `ignite` of `acme:rocket/engine@1.0.0`, and
/// calls it as its misbehaviour.
pub(crate) fn handler_of_another_host(directory: &Path) -> PathBuf {
    let import = r#"(import "acme:rocket/engine@1.0.0" "ignite" (func $ignite))"#;
    let text = HANDLER
        .replace(IMPORTS, import)
        .replace(BODY, "(call $ignite)");
    component(directory, "acme:rocket/server@1.0.0", &text)
}

/// Like [`handler`], but imports `$tcp`, `$udp`, `$network` and `$lookup` of
/// `wasi:sockets`, which `misbehaviour` may call.
pub(crate) fn handler_with_sockets(directory: &Path, misbehaviour: &str) -> PathBuf {
    let imports = r#"
        (import "wasi:sockets/tcp-create-socket@0.2.6" "create-tcp-socket"
          (func $tcp (param $family i32) (param $result i32)))
        (import "wasi:sockets/udp-create-socket@0.2.6" "create-udp-socket"
          (func $udp (param $family i32) (param $result i32)))
        (import "wasi:sockets/instance-network@0.2.6" "instance-network"
          (func $network (result i32)))
        (import "wasi:sockets/ip-name-lookup@0.2.6" "resolve-addresses"
          (func $lookup (param $network i32) (param $name i32) (param $length i32)
            (param $result i32)))"#;
    let text = HANDLER
        .replace(IMPORTS, imports)
        .replace(BODY, misbehaviour);
    component(directory, "wasi:sockets/handler@0.2.6", &text)
}

/// Makes a `udp-handler` that echoes. A datagram that begins with an
/// exclamation mark runs `misbehaviour` instead; `fixtures/datagrams.wat` lists
/// what that may use.
pub(crate) fn datagram_handler(directory: &Path, misbehaviour: &str) -> PathBuf {
    let text = include_str!("../fixtures/datagrams.wat").replace(BODY, misbehaviour);
    component(directory, "netwasm:net/udp-server@0.2.0", &text)
}

const HANDLER: &str = include_str!("../fixtures/handler.wat");

/// Placeholders in the fixtures.
const BODY: &str = ";; MISBEHAVIOUR";
const IMPORTS: &str = ";; IMPORTS";

/// A package that no host provides.
const ACME: &str = "
    package acme:rocket@1.0.0;
    interface engine {
        ignite: func();
    }
    world server {
        include netwasm:net/tcp-server@0.2.0;
        import engine;
    }
";

/// The part that [`handler_with_sockets`] needs of `wasi:sockets`, and its world.
const SOCKETS: &str = "
    package wasi:sockets@0.2.6;
    interface network {
        resource network;
        enum error-code {
            unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout,
            concurrency-conflict, not-in-progress, would-block, invalid-state, new-socket-limit,
            address-not-bindable, address-in-use, remote-unreachable, connection-refused,
            connection-reset, connection-aborted, datagram-too-large, name-unresolvable,
            temporary-resolver-failure, permanent-resolver-failure,
        }
        enum ip-address-family { ipv4, ipv6 }
    }
    interface instance-network {
        use network.{network};
        instance-network: func() -> network;
    }
    interface tcp {
        use network.{error-code};
        resource tcp-socket {
            start-listen: func() -> result<_, error-code>;
        }
    }
    interface udp {
        resource udp-socket;
    }
    interface tcp-create-socket {
        use network.{error-code, ip-address-family};
        use tcp.{tcp-socket};
        create-tcp-socket: func(family: ip-address-family) -> result<tcp-socket, error-code>;
    }
    interface udp-create-socket {
        use network.{error-code, ip-address-family};
        use udp.{udp-socket};
        create-udp-socket: func(family: ip-address-family) -> result<udp-socket, error-code>;
    }
    interface ip-name-lookup {
        use network.{network, error-code};
        resource resolve-address-stream;
        resolve-addresses: func(network: borrow<network>, name: string)
            -> result<resolve-address-stream, error-code>;
    }
    world handler {
        include netwasm:net/tcp-server@0.2.0;
        import instance-network;
        import tcp-create-socket;
        import udp-create-socket;
        import ip-name-lookup;
    }
";

/// Makes a component for a world from a core module in text form.
fn component(directory: &Path, world: &str, text: &str) -> PathBuf {
    let mut module = wat::parse_str(text).expect("a core module in text");
    let mut resolve = Resolve::default();
    let (netwasm, _) = resolve
        .push_path(repository().join("wit"))
        .expect("the WIT package");
    let acme = resolve.push_str("acme.wit", ACME).expect("a WIT package");
    let sockets = resolve.push_str("sockets.wit", SOCKETS);
    let sockets = sockets.expect("a WIT package");
    let world = resolve
        .select_world(&[netwasm, acme, sockets], Some(world))
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
