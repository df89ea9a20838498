//! The imports that this host has for components, and advice on those that it
//! lacks. The linker decides; what stands here is for error messages.

use std::collections::BTreeSet;

use wasmtime::component::Component;

use crate::fit::{PACKAGE, PROXY, SERVICE, is_released, is_sockets, without_version};
use crate::kind::Kind;

/// Imports for event guests: package, version line, and interfaces.
pub(crate) const EVENT_IMPORTS: &[(&str, &str, &[&str])] = &[
    (
        PACKAGE,
        "0.2.",
        &[
            "connection-topics",
            "connector",
            "datagram-connector",
            "datagrams",
            "files",
            "http",
            "log",
            "metrics",
            "pools",
            "resolver",
            "shared",
            "timers",
            "topics",
            "transports",
            "types",
            "websocket-client",
            "websockets",
        ],
    ),
    ("wasi:cli", "0.2.", CLI),
    (
        "wasi:clocks",
        "0.2.",
        &["monotonic-clock", "timezone", "wall-clock"],
    ),
    ("wasi:filesystem", "0.2.", &["preopens", "types"]),
    ("wasi:io", "0.2.", &["error", "poll", "streams"]),
    ("wasi:random", "0.2.", RANDOM),
    ("wasi:sockets", "0.2.", SOCKETS),
];

/// Like [`EVENT_IMPORTS`], for async guests.
pub(crate) const CONCURRENT_IMPORTS: &[(&str, &str, &[&str])] = &[
    (
        PACKAGE,
        "0.2.",
        &[
            "client",
            "log",
            "metrics",
            "shared",
            "streams",
            "tls-engine",
            "types",
        ],
    ),
    ("wasi:cli", "0.2.", CLI),
    ("wasi:cli", "0.3.", CLI),
    ("wasi:cli", "0.3.", &["types"]),
    (
        "wasi:clocks",
        "0.2.",
        &["monotonic-clock", "timezone", "wall-clock"],
    ),
    (
        "wasi:clocks",
        "0.3.",
        &["monotonic-clock", "system-clock", "timezone", "types"],
    ),
    ("wasi:filesystem", "0.2.", &["preopens", "types"]),
    ("wasi:filesystem", "0.3.", &["preopens", "types"]),
    ("wasi:http", "0.2.", &["outgoing-handler", "types"]),
    ("wasi:http", "0.3.", &["client", "types"]),
    ("wasi:io", "0.2.", &["error", "poll", "streams"]),
    ("wasi:random", "0.2.", RANDOM),
    ("wasi:random", "0.3.", RANDOM),
    ("wasi:sockets", "0.2.", SOCKETS),
    ("wasi:sockets", "0.3.", &["ip-name-lookup", "types"]),
];

/// Imports for programs alone, besides [`CONCURRENT_IMPORTS`].
pub(crate) const PROGRAM_IMPORTS: &[(&str, &str, &[&str])] = &[(PACKAGE, "0.2.", &["sockets"])];

const CLI: &[&str] = &[
    "environment",
    "exit",
    "stderr",
    "stdin",
    "stdout",
    "terminal-input",
    "terminal-output",
    "terminal-stderr",
    "terminal-stdin",
    "terminal-stdout",
];

const RANDOM: &[&str] = &["insecure", "insecure-seed", "random"];

/// Event guests may import them, and are denied at the call.
const SOCKETS: &[&str] = &[
    "instance-network",
    "ip-name-lookup",
    "network",
    "tcp",
    "tcp-create-socket",
    "udp",
    "udp-create-socket",
];

/// Imports for guests of all kinds, which are drafts: a version is met by nothing
/// but itself.
pub(crate) const STANDARD_IMPORTS: [&str; 27] = [
    "fermyon:spin/key-value@2.0.0",
    "fermyon:spin/variables@2.0.0",
    "wasi:config/runtime@0.2.0-draft",
    "wasi:config/store@0.2.0-draft",
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:keyvalue/atomics@0.2.0-draft",
    "wasi:keyvalue/atomics@0.2.0-draft2",
    "wasi:keyvalue/batch@0.2.0-draft",
    "wasi:keyvalue/batch@0.2.0-draft2",
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:keyvalue/store@0.2.0-draft2",
    "wasi:logging/logging",
    "wasi:logging/logging@0.1.0-draft",
    "wasi:otel/logs@0.2.0-draft",
    "wasi:otel/logs@0.2.0-rc.1",
    "wasi:otel/logs@0.2.0-rc.2",
    "wasi:otel/metrics@0.2.0-draft",
    "wasi:otel/metrics@0.2.0-rc.1",
    "wasi:otel/metrics@0.2.0-rc.2",
    "wasi:otel/tracing@0.2.0-draft",
    "wasi:otel/tracing@0.2.0-rc.1",
    "wasi:otel/tracing@0.2.0-rc.2",
    "wasi:otel/types@0.2.0-draft",
    "wasi:otel/types@0.2.0-rc.1",
    "wasi:otel/types@0.2.0-rc.2",
    "wasi:tls/types@0.2.0-draft",
];

/// Like [`STANDARD_IMPORTS`], for async guests alone.
pub(crate) const CONCURRENT_STANDARD_IMPORTS: [&str; 7] = [
    "spin:key-value/key-value@3.0.0",
    "spin:variables/variables@3.0.0",
    "wasi:blobstore/blobstore@0.2.0-draft",
    "wasi:blobstore/container@0.2.0-draft",
    "wasi:blobstore/types@0.2.0-draft",
    "wasi:tls/client@0.3.0-draft",
    "wasi:tls/types@0.3.0-draft",
];

/// Owners of packages that belong to other kinds of hosts, and the hosts'
/// names.
const OTHER_HOSTS: [(&str, &str); 7] = [
    ("fermyon", "Spin"),
    ("spin", "Spin"),
    ("fastly", "Fastly Compute"),
    ("wasmcloud", "wasmCloud"),
    ("golem", "Golem"),
    ("edgee", "Edgee"),
    ("zed", "Zed"),
];

/// Explains why the linker refuses a component: names all imports that this
/// host lacks, or else repeats the linker's error.
pub(crate) fn unlinkable(component: &Component, kind: Kind, error: &wasmtime::Error) -> String {
    let ty = component.component_type();
    let imports = ty.imports(component.engine());
    let missing: Vec<&str> = imports
        .map(|(name, _)| name)
        .filter(|name| !provided(name, kind))
        .collect();
    if missing.is_empty() {
        let mut imports = ty.imports(component.engine());
        let is_draft = |name: &str| name.starts_with("wasi:otel/") && name.ends_with("-draft");
        let advice = match imports.any(|(name, _)| is_draft(name)) {
            true => {
                "; of wasi:otel 0.2.0-draft, this host has the form of December 2025: rebuild it \
                     against 0.2.0-rc.2"
            }
            false => "",
        };
        return format!("{error:#}{advice}");
    }
    let mut reason = format!(
        "it imports what this host does not have: {}",
        missing.join(", ")
    );
    let mut hints = BTreeSet::new();
    let mut others = BTreeSet::new();
    for name in missing {
        match hint(name, kind) {
            Some(hint) => drop(hints.insert(hint)),
            None => drop(others.insert(belongs_to(name))),
        }
    }
    for hint in hints {
        reason.push_str("; ");
        reason.push_str(hint);
    }
    if !others.is_empty() {
        let others = Vec::from_iter(others).join(" and ");
        reason.push_str(&format!(
            "; build it without what belongs to {others}, or compose it with a component that \
             exports that (`--plug`)"
        ));
    }
    reason
}

/// True if this host has an import of this name and version for components of a
/// kind.
fn provided(import: &str, kind: Kind) -> bool {
    let awaits = kind != Kind::Events;
    if STANDARD_IMPORTS.contains(&import) || awaits && CONCURRENT_STANDARD_IMPORTS.contains(&import)
    {
        return true;
    }
    match kind {
        Kind::Events => is_among(EVENT_IMPORTS, import),
        Kind::Streams | Kind::Proxy | Kind::Service => is_among(CONCURRENT_IMPORTS, import),
        Kind::Command => is_among(CONCURRENT_IMPORTS, import) || is_among(PROGRAM_IMPORTS, import),
    }
}

fn is_among(imports: &[(&str, &str, &[&str])], import: &str) -> bool {
    let Some((bare, version)) = import.split_once('@') else {
        return false;
    };
    let Some((package, interface)) = bare.split_once('/') else {
        return false;
    };
    imports.iter().any(|(name, line, interfaces)| {
        *name == package
            && version.starts_with(line)
            && is_released(import)
            && interfaces.contains(&interface)
    })
}

/// Returns advice on a missing import, if this host has something like it.
fn hint(import: &str, kind: Kind) -> Option<&'static str> {
    let version = import.split_once('@').map_or("", |(_, version)| version);
    let package = package(import);
    let has_package = CONCURRENT_IMPORTS.iter().any(|(name, ..)| *name == package);
    Some(match without_version(import) {
        name if name.starts_with("netwasm:net/") => {
            if !version.starts_with("0.2.") {
                "this host has netwasm:net 0.2"
            } else if is_among(PROGRAM_IMPORTS, import) {
                "netwasm:net/sockets is for programs (wasi:cli/run) alone, as its `wait` stops the \
                 whole instance, with all its connections: handlers are called when something is \
                 ready"
            } else if provided(import, Kind::Events) {
                "of netwasm:net, guests that await can use client, log, metrics, shared, streams, \
                 tls-engine and types, and programs sockets, too"
            } else if provided(import, Kind::Streams) {
                "handlers of events have transports in place of streams, and connector and \
                 resolver in place of client"
            } else {
                "a newer netwasm has more of netwasm:net 0.2"
            }
        }
        SERVICE | PROXY => {
            "it is to stand before another handler: run that one, and this as its `--plug`"
        }
        name if is_sockets(name) && kind == Kind::Events => {
            "sockets belong to the host, and std::net with them: netwasm_guest::connect opens \
             connections in Rust, asyncio.open_connection in Python, `connect` of netwasm in \
             JavaScript, nw_connect in C, and netwasm.Dial in Go"
        }
        _ if package == "wasi:blobstore" && CONCURRENT_STANDARD_IMPORTS.contains(&import) => {
            "wasi:blobstore is for guests that await: handlers of wasi:http and of streams, and \
             programs"
        }
        _ if package == "wasi:blobstore" => "of wasi:blobstore, this host has 0.2.0-draft",
        _ if package == "wasi:otel" => {
            "of wasi:otel, this host has 0.2.0-draft, 0.2.0-rc.1 and 0.2.0-rc.2"
        }
        _ if has_package && !is_released(import) => {
            "of WASI, this host has the released versions: rebuild it with current tools"
        }
        _ if has_package && kind == Kind::Events => {
            "of WASI, handlers of events can use version 0.2 of cli, clocks, filesystem, io and \
             random"
        }
        _ if has_package => "of WASI, this host has versions 0.2 and 0.3",
        _ => return None,
    })
}

/// Returns the kind of host that an import of a foreign package belongs to.
fn belongs_to(import: &str) -> &'static str {
    let owner = package(import).split_once(':').map(|(owner, _)| owner);
    let host = OTHER_HOSTS.iter().find(|(name, _)| Some(*name) == owner);
    host.map_or("other hosts", |(_, host)| host)
}

/// Returns the package of an interface.
pub(crate) fn package(interface: &str) -> &str {
    let bare = without_version(interface);
    bare.split_once('/').map_or(bare, |(package, _)| package)
}
