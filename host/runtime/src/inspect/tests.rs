//! Tests of the report on a component.

use netwasm_base::config::{ListenAddress, ListenerConfig, ListenerKind};
use wasmtime::Engine;

use super::*;
use crate::component::to_binary;
use crate::fit::{
    CONCURRENT_IMPORTS, CONCURRENT_STANDARD_IMPORTS, EVENT_IMPORTS, PROGRAM_IMPORTS,
    STANDARD_IMPORTS,
};

const TCP: &str = "netwasm:net/tcp-handler@0.2.0";
const UDP: &str = "netwasm:net/udp-handler@0.2.0";
const WAKE_AT: &str = "(import \"netwasm:net/timers@0.2.0\" (instance \
    (export \"wake-at\" (func (param \"when\" (option u64))))))";

fn interface(exports: &[&str], imports: &str) -> Interface {
    let component = component(exports, imports);
    Interface::of(&component, component.engine())
}

fn component(exports: &[&str], imports: &str) -> Component {
    let exports: String = exports
        .iter()
        .map(|name| {
            format!(
                "(instance $i{0}) (export \"{name}\" (instance $i{0}))",
                name.len()
            )
        })
        .collect();
    let text = format!("(component {imports} {exports})");
    Component::new(&Engine::default(), &text).unwrap_or_else(|e| panic!("{text}: {e:#}"))
}

fn listeners(kinds: &[ListenerKind]) -> Vec<ListenerConfig> {
    let address = ListenAddress::Localhost(0);
    kinds
        .iter()
        .map(|&kind| ListenerConfig {
            kind,
            address: address.clone(),
        })
        .collect()
}

#[test]
fn a_component_without_a_handler_is_told_what_it_exports() {
    for (exports, reason) in [
        (
            &[][..],
            "it exports none of netwasm:net/http-handler, netwasm:net/stream-handler, \
             netwasm:net/tcp-handler, netwasm:net/udp-handler, netwasm:net/websocket-handler, \
             wasi:cli/run, wasi:http/handler, wasi:http/incoming-handler; it exports nothing; `netwasm new \
             NAME --tcp`, `--udp`, `--http`, `--stream` or `--program` makes a project of one \
             that runs",
        ),
        (
            &["x:y/z@0.2.6"],
            "it exports none of netwasm:net/http-handler, netwasm:net/stream-handler, \
             netwasm:net/tcp-handler, netwasm:net/udp-handler, netwasm:net/websocket-handler, \
             wasi:cli/run, wasi:http/handler, wasi:http/incoming-handler; it exports x:y/z@0.2.6, for \
             another host or component to call; `netwasm new NAME --tcp`, `--udp`, `--http`, \
             `--stream` or `--program` makes a project of one that runs",
        ),
        (
            &["netwasm:net/tcp-handler@0.1.0"],
            "it exports netwasm:net/tcp-handler@0.1.0, and this host drives version 0.2",
        ),
        (
            &["wasi:http/handler@0.3.0-rc-2026-03-15"],
            "it exports wasi:http/handler@0.3.0-rc-2026-03-15, which was not released so, and \
             this host drives version 0.3: rebuild it with current tools",
        ),
        (
            &["wasi:cli/run@0.2.0-rc-2023-12-05"],
            "it exports wasi:cli/run@0.2.0-rc-2023-12-05, which was not released so, and this \
             host drives versions 0.2 and 0.3: rebuild it with current tools",
        ),
    ] {
        assert_eq!(
            interface(exports, "").check_world(Kind::Events),
            Err(reason.to_owned())
        );
    }
    for exports in [
        &[TCP][..],
        &[UDP],
        &[TCP, "x:y/udp"],
        &["netwasm:net/tcp-handler@0.2.7"],
    ] {
        assert_eq!(
            interface(exports, "").check_world(Kind::Events),
            Ok(()),
            "{exports:?}"
        );
    }
}

#[test]
fn a_function_that_completes_later_needs_its_handler() {
    assert_eq!(
        interface(&[TCP], WAKE_AT).check_world(Kind::Events),
        Err(
            "it imports netwasm:net/timers but does not export netwasm:net/timer-handler, \
             to which the answers go"
                .to_owned()
        )
    );
    let both = interface(&[TCP, "netwasm:net/timer-handler@0.2.0"], WAKE_AT);
    assert_eq!(both.check_world(Kind::Events), Ok(()));
    // A component that imports only a type calls nothing.
    let types = "(import \"netwasm:net/timers@0.2.0\" (instance))";
    assert_eq!(interface(&[TCP], types).check_world(Kind::Events), Ok(()));
}

#[test]
fn a_listener_needs_the_handler_that_it_drives() {
    use ListenerKind::{Tcp, Tls, Udp};
    let tcp_missing = "needs a component that exports netwasm:net/tcp-handler; it exports \
                       netwasm:net/udp-handler, which --udp drives";
    for (export, kinds, reason) in [
        (TCP, &[Tcp][..], None),
        (TCP, &[Tls, Tcp], None),
        (UDP, &[Udp], None),
        (UDP, &[Tcp], Some(format!("--tcp {tcp_missing}"))),
        (UDP, &[Udp, Tls], Some(format!("--tls {tcp_missing}"))),
        (
            TCP,
            &[Tcp, Udp],
            Some(
                "--udp needs a component that exports netwasm:net/udp-handler; it exports \
                 netwasm:net/tcp-handler, which --tcp or --tls drives"
                    .to_owned(),
            ),
        ),
    ] {
        let checked = interface(&[export], "").check_listeners(Kind::Events, &listeners(kinds));
        assert_eq!(checked.err(), reason, "{export} and {kinds:?}");
    }
}

#[test]
fn all_missing_imports_are_named_at_once() {
    let component = component(
        &[TCP],
        "(import \"netwasm:net/log@0.2.0\" (instance)) \
         (import \"netwasm:net/log@0.3.0\" (instance)) \
         (import \"wasi:sockets/types@0.3.0\" (instance)) \
         (import \"wasi:cli/run@0.3.0\" (instance)) \
         (import \"acme:store/keys\" (instance (export \"get\" (func))))",
    );
    let error = Linker::<()>::new(component.engine())
        .instantiate_pre(&component)
        .err()
        .expect("it is refused");
    assert_eq!(
        unlinkable(&component, Kind::Events, &error),
        "it imports what this host does not have: netwasm:net/log@0.3.0, \
             wasi:sockets/types@0.3.0, wasi:cli/run@0.3.0, acme:store/keys; \
             of WASI, handlers of events can use version 0.2 of cli, clocks, filesystem, io \
             and random; \
             sockets belong to the host, and std::net with them: netwasm_guest::connect \
             opens connections in Rust, asyncio.open_connection in Python, `connect` of \
             netwasm in JavaScript, nw_connect in C, and netwasm.Dial in Go; \
             this host has netwasm:net 0.2; \
             build it without what belongs to other hosts, or compose it with a component \
             that exports that (`--plug`)"
    );
}

#[test]
fn sockets_of_posix_are_for_programs_alone() {
    let text = "(import \"netwasm:net/sockets@0.2.0\" (instance (export \"x\" (func))))";
    let component = component(&[], text);
    let error = Linker::<()>::new(component.engine())
        .instantiate_pre(&component)
        .err()
        .expect("it is refused");
    for kind in [Kind::Streams, Kind::Proxy, Kind::Service, Kind::Events] {
        let reason = unlinkable(&component, kind, &error);
        let told = "it imports what this host does not have: netwasm:net/sockets@0.2.0; \
            netwasm:net/sockets is for programs (wasi:cli/run) alone";
        assert!(reason.starts_with(told), "{reason}");
    }
    let reason = unlinkable(&component, Kind::Command, &error);
    assert!(!reason.contains("alone"), "{reason}");
}

#[test]
fn what_was_made_for_another_host_is_told_what_to_do() {
    let compose = "or compose it with a component that exports that (`--plug`)";
    for (import, advice) in [
        (
            "fermyon:spin/sqlite@2.0.0",
            format!("build it without what belongs to Spin, {compose}"),
        ),
        (
            "wasmcloud:messaging/consumer@0.2.0",
            format!("build it without what belongs to wasmCloud, {compose}"),
        ),
        (
            "wasi:messaging/consumer@0.2.0-draft",
            format!("build it without what belongs to other hosts, {compose}"),
        ),
        (
            "wasi:otel/tracing@0.3.0",
            "of wasi:otel, this host has 0.2.0-draft, 0.2.0-rc.1 and 0.2.0-rc.2".to_owned(),
        ),
        (
            "wasi:http/types@0.3.0-rc-2026-03-15",
            "of WASI, this host has the released versions: rebuild it with current tools"
                .to_owned(),
        ),
        (
            "wasi:http/types@0.4.0",
            "of WASI, this host has versions 0.2 and 0.3".to_owned(),
        ),
        (
            "wasi:http/handler@0.3.0",
            "it is to stand before another handler: run that one, and this as its `--plug`"
                .to_owned(),
        ),
    ] {
        let text = format!("(import \"{import}\" (instance (export \"x\" (func))))");
        let component = component(&[], &text);
        let error = Linker::<()>::new(component.engine())
            .instantiate_pre(&component)
            .err()
            .expect("it is refused");
        assert_eq!(
            unlinkable(&component, Kind::Proxy, &error),
            format!("it imports what this host does not have: {import}; {advice}")
        );
    }
}

#[test]
fn an_import_of_another_shape_is_named() {
    let refused = |imports: &str| {
        let component = component(&[], imports);
        let error = Linker::<()>::new(component.engine())
            .instantiate_pre(&component)
            .err()
            .expect("it is refused");
        unlinkable(&component, Kind::Events, &error)
    };
    let reason = refused(WAKE_AT);
    assert!(reason.contains("wake-at"), "{reason}");
    // One version of it has had two shapes.
    let draft = "(import \"wasi:otel/tracing@0.2.0-draft\" (instance (export \"x\" (func))))";
    let reason = refused(draft);
    assert!(
        reason.ends_with("rebuild it against 0.2.0-rc.2"),
        "{reason}"
    );
}

#[test]
fn the_linkers_have_what_is_said_to_be_provided() {
    let limits = Limits::default();
    let engine = engine::engine(Kind::Events, &limits, None).expect("it is set up");
    has_all(
        engine::linker(&engine).expect("it is set up"),
        EVENT_IMPORTS,
        &STANDARD_IMPORTS,
    );
    let standard = [&STANDARD_IMPORTS[..], &CONCURRENT_STANDARD_IMPORTS].concat();
    let engine = engine::engine(Kind::Streams, &limits, None).expect("it is set up");
    has_all(
        link::linker(&engine, Kind::Streams).expect("it is set up"),
        CONCURRENT_IMPORTS,
        &standard,
    );
    let imports = [CONCURRENT_IMPORTS, PROGRAM_IMPORTS].concat();
    has_all(
        link::linker(&engine, Kind::Command).expect("it is set up"),
        &imports,
        &standard,
    );
}

fn has_all<T: 'static>(
    mut linker: Linker<T>,
    imports: &[(&str, &str, &[&str])],
    standard: &[&str],
) {
    for name in standard {
        let defined = linker.root().func_wrap(name, |_, (): ()| Ok(())).is_err();
        assert!(defined, "{name}");
    }
    for (package, line, interfaces) in imports {
        for interface in *interfaces {
            if (*package, *interface, *line) == ("wasi:cli", "types", "0.3.") {
                continue; // It only has types, so nothing to define.
            }
            // A name that is defined already cannot be defined again.
            let defined = (0..20).any(|patch| {
                let name = format!("{package}/{interface}@{line}{patch}");
                linker.root().func_wrap(&name, |_, (): ()| Ok(())).is_err()
            });
            assert!(defined, "{package}/{interface}@{line}");
        }
    }
}

#[test]
fn a_report_shows_the_command_that_runs_it() {
    let connect = "(import \"netwasm:net/connector@0.2.0\" (instance \
        (export \"connect\" (func))))";
    for (exports, imports, command) in [
        (&[TCP][..], "", "netwasm run a.wasm --tcp 8888"),
        (
            &[TCP, "x:y/udp", UDP, "netwasm:net/http-handler@0.2.0"],
            "",
            "netwasm run a.wasm --tcp 8888 --udp 8888 --http 8889",
        ),
        // Its possible needs are told apart.
        (&[TCP], connect, "netwasm run a.wasm --tcp 8888"),
    ] {
        assert_eq!(
            interface_of(exports, imports).command(Kind::Events, "a.wasm", &[]),
            command
        );
    }
    let plugs = ["b.wasm".to_owned(), "my log.wasm".to_owned()];
    assert_eq!(
        interface(&[TCP], "").command(Kind::Events, "it's", &plugs),
        r"netwasm run 'it'\''s' --plug b.wasm --plug 'my log.wasm' --tcp 8888"
    );
}

/// Returns the lines about what a component of a kind may need.
fn needs(kind: Kind, imports: &str) -> Vec<String> {
    let needs = interface(&[TCP], imports).needs(kind);
    needs.iter().map(ToString::to_string).collect()
}

#[test]
fn a_report_tells_what_may_be_needed_and_which_import_is_the_reason() {
    let import = |name: &str, functions: &[&str]| {
        let exports = functions
            .iter()
            .map(|it| format!("(export \"{it}\" (func))"));
        let exports: String = exports.collect();
        format!("(import \"{name}\" (instance {exports}))")
    };
    let lookup = import("wasi:sockets/ip-name-lookup@0.3.0", &["resolve-addresses"]);
    for (name, function, line) in [
        (
            "wasi:http/client@0.3.0",
            "send",
            "--allow-connect HOST:PORT, for wasi:http/client send",
        ),
        (
            "wasi:http/outgoing-handler@0.2.4",
            "handle",
            "--allow-connect HOST:PORT, for wasi:http/outgoing-handler handle",
        ),
        (
            "wasi:keyvalue/store@0.2.0-draft2",
            "open",
            "--keyvalue NAME=memory:, for wasi:keyvalue/store open",
        ),
        (
            "wasi:config/store@0.2.0-rc.1",
            "get-all",
            "--config-var NAME=VALUE, for wasi:config/store get-all",
        ),
        (
            "wasi:otel/tracing@0.2.0-rc.2",
            "on-end",
            "--otlp URL, for wasi:otel/tracing on-end",
        ),
        (
            "netwasm:net/resolver@0.2.0",
            "resolve",
            "--allow-resolve NAME, for netwasm:net/resolver resolve",
        ),
    ] {
        assert_eq!(needs(Kind::Command, &import(name, &[function])), [line]);
    }
    // Names that may be connected to may be looked up.
    let client = import("netwasm:net/client@0.2.0", &["connect", "resolve"]);
    assert_eq!(
        needs(Kind::Command, &format!("{client}{lookup}")),
        ["--allow-connect HOST:PORT, for netwasm:net/client connect"]
    );
    assert_eq!(
        needs(Kind::Command, &lookup),
        ["--allow-resolve NAME, for wasi:sockets/ip-name-lookup resolve-addresses"]
    );
    // An import alone is no permission to need, and not each function has one.
    let types = import("wasi:http/outgoing-handler@0.2.0", &[]);
    let clock = import("wasi:clocks/wall-clock@0.2.0", &["now"]);
    // Standard libraries ask for the directories unasked.
    let preopens = import("wasi:filesystem/preopens@0.2.6", &["get-directories"]);
    assert!(needs(Kind::Command, &format!("{types}{clock}{preopens}")).is_empty());
    // Handlers of events are denied what a language's library imports.
    assert!(needs(Kind::Events, &lookup).is_empty());
    let denied = "wasi:sockets/ip-name-lookup resolve-addresses";
    assert_eq!(interface(&[TCP], &lookup).denied(Kind::Events), [denied]);
    assert!(interface(&[TCP], &lookup).denied(Kind::Proxy).is_empty());
}

#[test]
fn methods_of_wasi_may_need_what_they_do() {
    for (name, resource, functions, line) in [
        (
            "sockets/tcp@0.2.6",
            "tcp-socket",
            &["start-connect"][..],
            "--allow-connect HOST:PORT, for wasi:sockets/tcp start-connect",
        ),
        (
            "sockets/types@0.3.0",
            "tcp-socket",
            &["listen"],
            "--allow-listen ADDR, for wasi:sockets/types listen",
        ),
        (
            "sockets/types@0.3.0",
            "udp-socket",
            &["send"],
            "--allow-udp HOST:PORT, for wasi:sockets/types send",
        ),
        (
            "filesystem/types@0.2.6",
            "descriptor",
            &["open-at", "write-via-stream"],
            "--dir HOST::GUEST, for wasi:filesystem/types open-at",
        ),
        (
            "filesystem/types@0.3.0",
            "descriptor",
            &[
                "link-at",
                "open-at",
                "read-directory",
                "rename-at",
                "stat-at",
            ],
            "--dir HOST::GUEST, for wasi:filesystem/types link-at, open-at, read-directory, \
             rename-at and 1 more",
        ),
    ] {
        let methods = functions.iter().map(|function| {
            format!(
                "(export \"[method]{resource}.{function}\" \
                 (func (param \"self\" (borrow $resource))))"
            )
        });
        let methods: String = methods.collect();
        let import = format!(
            "(import \"wasi:{name}\" (instance \
             (export \"{resource}\" (type $resource (sub resource))) {methods}))"
        );
        assert_eq!(needs(Kind::Command, &import), [line]);
    }
}

/// Like [`interface`], for names of the same length.
fn interface_of(exports: &[&str], imports: &str) -> Interface {
    let mut all = interface(&[], imports);
    all.exports = exports.iter().map(|&name| name.to_owned()).collect();
    all
}

#[test]
fn what_is_no_component_is_told_what_it_is() {
    for (bytes, reason) in [
        (&b""[..], "it is empty"),
        (
            b"\x7fELF\x02\x01",
            "it is a native program or library, not a WebAssembly component",
        ),
        (
            b"#!/bin/sh",
            "it is not a WebAssembly component, neither in binary nor in text form",
        ),
        (
            b"\x00asm",
            "it is not a WebAssembly component, neither in binary nor in text form",
        ),
        (
            b"\x00asm\x0c\x00\x01\x00",
            "it is a component in version 12 of the binary form, and this host reads version \
             13: rebuild it with current tools",
        ),
        (b"(component", "its text is wrong at 1:11: expected `)`"),
    ] {
        assert_eq!(to_binary(bytes.to_vec()), Err(reason.to_owned()));
    }
    for text in ["(component)", "\n ;; a comment\n(component)"] {
        let binary = to_binary(text.as_bytes().to_vec()).expect("it is set up");
        assert_eq!(to_binary(binary.bytes.clone()), Ok(binary), "{text}");
    }
}
