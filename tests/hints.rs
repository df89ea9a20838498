//! `send-informational` of `wasi:http` 0.2.

use std::future::poll_fn;
use std::path::{Path, PathBuf};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::harness::http2::{ask, read};
use crate::harness::{Run, directory, message, write};
use crate::http_bodies::http2;

/// Interfaces of WASI 0.2, in which the function is behind a gate.
const WASI: [&str; 7] = [
    include_str!("../host/src/project/wasi-0.2/io.wit"),
    include_str!("../host/src/project/wasi-0.2/clocks.wit"),
    include_str!("../host/src/project/wasi-0.2/random.wit"),
    include_str!("../host/src/project/wasi-0.2/filesystem.wit"),
    include_str!("../host/src/project/wasi-0.2/sockets.wit"),
    include_str!("../host/src/project/wasi-0.2/cli.wit"),
    include_str!("../host/src/project/wasi-0.2/http.wit"),
];

/// A handler that sends `103` with a link, asks for `99`, which is an error, and
/// then answers. It traps if the host says anything else.
const HANDLER: &str = r#"(module
    (import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
    (import "wasi:http/types@0.2.12" "[method]fields.append"
        (func $append (param i32 i32 i32 i32 i32 i32)))
    (import "wasi:http/types@0.2.12" "[method]response-outparam.send-informational"
        (func $inform (param i32 i32 i32 i32)))
    (import "wasi:http/types@0.2.12" "[constructor]outgoing-response"
        (func $response (param i32) (result i32)))
    (import "wasi:http/types@0.2.12" "[static]response-outparam.set"
        (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "link</a.css>")
    ;; The words of an error go here.
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
    (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $request i32) (param $out i32)
        (local $hints i32)
        (local.set $hints (call $fields))
        (call $append (local.get $hints)
            (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 8) (i32.const 64))
        (if (i32.load8_u (i32.const 64)) (then unreachable))
        (call $inform (local.get $out) (i32.const 103) (local.get $hints) (i32.const 64))
        (if (i32.load8_u (i32.const 64)) (then unreachable))
        (call $inform (local.get $out) (i32.const 99) (call $fields) (i32.const 64))
        ;; HTTP-protocol-error.
        (if (i32.ne (i32.load8_u (i32.const 64)) (i32.const 1)) (then unreachable))
        (if (i32.ne (i32.load8_u (i32.const 72)) (i32.const 35)) (then unreachable))
        (call $set (local.get $out) (i32.const 0) (call $response (call $fields))
            (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))"#;

fn handler(directory: &Path) -> PathBuf {
    let mut resolve = Resolve {
        all_features: true,
        ..Resolve::default()
    };
    for (place, wit) in WASI.iter().enumerate() {
        let pushed = resolve.push_str(format!("{place}.wit"), wit);
        pushed.expect("a package");
    }
    let world = "package a:b;\n\
                 world hints {\n\
                     import wasi:http/types@0.2.12;\n\
                     export wasi:http/incoming-handler@0.2.12;\n\
                 }\n";
    let package = resolve.push_str("hints.wit", world).expect("a package");
    let world = resolve.select_world(&[package], Some("hints"));
    let mut module = wat::parse_str(HANDLER).expect("a module");
    let world = world.expect("a world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("an interface");
    let mut encoder = ComponentEncoder::default();
    let encoder = encoder.module(&module).expect("an interface");
    let component = encoder.encode().expect("a component");
    write(directory, "hints.wasm", component)
}

#[test]
fn a_standard_handlers_hints_reach_those_who_understand_them() {
    let scratch = directory();
    let handler = handler(scratch.path());
    for flag in [&[][..], &["--send-informational"]] {
        let server = Run::component(&handler).http().args(flag).start();
        let mut client = http2(&server);
        let (mut response, _) = client.begin(ask("GET", "/"), true).expect("a stream");
        let interim = client.run(poll_fn(|cx| response.poll_informational(cx)));
        let interim = interim.expect("one").expect("a response");
        assert_eq!(interim.status(), 103);
        assert_eq!(interim.headers().get("link").expect("one"), "</a.css>");
        client.run(read(response)).expect("a response").is(200, "");
        let mut peer = server.connect_http();
        peer.send(message("GET", "/", &[]).as_bytes());
        if !flag.is_empty() {
            for line in ["HTTP/1.1 103 Early Hints", "link: </a.css>", ""] {
                assert_eq!(peer.line(), line);
            }
        }
        peer.response().is(200, "");
        drop((peer, client));
        server.stop();
    }
}
