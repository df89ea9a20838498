//! Core modules, which are no components: a module that was built for WASI
//! preview 1 becomes one by wasmtime's adapter, as `wasm-tools component new`
//! would make it.
//!
//! A command (`_start`) becomes a program. A reactor becomes what its embedded
//! interface says, which `wit-bindgen` writes.

mod exit_code;
mod go_heap;
mod sections;

use std::collections::BTreeSet;

use netwasm_base::guarded::guarded;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

use self::go_heap::Heap;

/// Module name of the imports of preview 1.
const P1: &str = WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;

/// Export that makes a module a command.
const START: &str = "_start";

/// Start of the names of the custom sections that hold a module's interface.
const INTERFACE: &str = "component-type";

/// Custom section of modules of Go, and the export by which some of them give
/// the adapter memory.
const GO: &str = "go:buildid";
const REALLOC: &str = "cabi_realloc";

/// Number of imports, or exports, that an error message names.
const NAMED: usize = 3;

/// Makes a component of a core module.
///
/// # Errors
/// Says what the module is instead of one for WASI preview 1, and what would be
/// right.
pub(crate) fn component_of(module: &[u8]) -> Result<Vec<u8>, String> {
    let outline = Outline::of(module)
        .map_err(|error| format!("it is a core module, and broken: {}", error.message()))?;
    let adapted = Outline::of(WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)
        .map_err(|error| format!("the adapter of WASI p1 cannot be read: {error}"))?;
    outline.check(&adapted)?;
    // Broken modules are all that the encoder was not made for.
    let made = guarded(|| made(module, &outline, &adapted))
        .unwrap_or_else(|| Err("the encoder panicked".into()));
    made.map_err(|error| {
        let words: Vec<&str> = error.split_whitespace().collect();
        format!(
            "it is a core module, of which no component can be made: {}",
            words.join(" ")
        )
    })
}

fn made(module: &[u8], outline: &Outline, adapter: &Outline) -> Result<Vec<u8>, String> {
    let moved = match outline.is_go && !outline.exports.iter().any(|name| name == REALLOC) {
        true => Some(go_heap::apart(module).ok_or(
            "it is one of Go, whose runtime takes its memory in a way that this host does not \
             know, and might overwrite what the adapter of WASI p1 keeps there: build it with Go \
             1.27, or with TinyGo (`tinygo build -target wasip2`)",
        )?),
        false => None,
    };
    let module = match &moved {
        // The room is the adapter's. An interface would pass strings and lists by it.
        Some(Heap::Moved(_)) if outline.has_interface => {
            return Err(format!(
                "it is one of Go with an interface, and exports no `{REALLOC}`, by which it is \
                 given strings and lists: build it with the bindings of wit-bindgen, which \
                 export that"
            ));
        }
        Some(Heap::Moved(moved)) => moved.as_slice(),
        Some(Heap::Apart) | None => module,
    };
    match outline.is_command() {
        true => {
            let imports: Vec<_> = adapter.imports.iter().map(|(it, _)| it.clone()).collect();
            let kept = exit_code::kept(module, P1, &imports);
            let module = kept.as_deref().unwrap_or(module);
            encoded(module, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)
        }
        false => encoded(module, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER),
    }
}

fn encoded(module: &[u8], adapter: &[u8]) -> Result<Vec<u8>, String> {
    let made = ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| encoder.adapter(P1, adapter))
        // The compiler validates it.
        .and_then(|encoder| encoder.validate(false).encode());
    made.map_err(|error| format!("{error:#}"))
}

/// Imports, exports and interface of a core module.
#[derive(Debug, Default)]
struct Outline {
    /// Modules and names.
    imports: BTreeSet<(String, String)>,
    exports: Vec<String>,
    /// True if `wit-bindgen` has embedded an interface.
    has_interface: bool,
    /// True if it has the runtime of Go.
    is_go: bool,
}

impl Outline {
    fn of(module: &[u8]) -> wasmparser::Result<Self> {
        let mut outline = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        let name = (import.module.to_owned(), import.name.to_owned());
                        outline.imports.insert(name);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        outline.exports.push(export?.name.to_owned());
                    }
                }
                Payload::CustomSection(section) => {
                    outline.has_interface |= section.name().starts_with(INTERFACE);
                    outline.is_go |= section.name() == GO;
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    fn is_command(&self) -> bool {
        self.exports.iter().any(|name| name == START)
    }

    /// Checks that the adapter has all that the module imports, and that
    /// something is to be called.
    fn check(&self, adapter: &Self) -> Result<(), String> {
        let imports = || self.imports.iter().map(|(module, name)| (module, name));
        if imports().any(|(module, _)| module == "wasi_unstable") {
            return Err(
                "it is a core module for wasi_unstable, which was before WASI p1: rebuild it \
                 with current tools"
                    .into(),
            );
        }
        if imports().any(|(_, name)| name == "thread-spawn") {
            return Err(
                "it is a core module whose threads share memory, and a component has one thread: \
                 build it without threads (no target with `threads` in its name)"
                    .into(),
            );
        }
        // The encoder checks what the interface says.
        let foreign = imports().filter(|(module, name)| {
            let is_p1 = *module == P1;
            !(is_p1 || self.has_interface && is_of_components(module, name))
        });
        let foreign: Vec<_> = foreign
            .map(|(module, name)| format!("{module}.{name}"))
            .collect();
        if !foreign.is_empty() {
            return Err(format!(
                "it is a core module that imports {}, and of a core module this host has the \
                 functions of WASI p1 alone: {}",
                list(&foreign),
                match imports().any(|(module, _)| module == "env") {
                    true => {
                        "what is in `env` is what its linker did not find: link it with what has \
                         that, or build it for wasi:http or wasi:cli"
                    }
                    false => "it was made for another host; build it for wasi:http or wasi:cli",
                }
            ));
        }
        let has = |name: &String| adapter.exports.contains(name);
        let unknown = imports().filter(|(module, name)| *module == P1 && !has(name));
        let unknown: Vec<_> = unknown
            .map(|(module, name)| format!("{module}.{name}"))
            .collect();
        if !unknown.is_empty() {
            return Err(format!(
                "it is a core module that imports {}, which WASI p1 does not have: another host \
                 added that; build it for wasi:http or wasi:cli",
                list(&unknown)
            ));
        }
        if !self.is_command() && !self.has_interface {
            let exports = match &*self.exports {
                [] => "nothing".to_owned(),
                some => format!("{}, which nothing here calls", list(some)),
            };
            return Err(format!(
                "it is a core module, and no program of WASI p1, since it has no `{START}`; it \
                 exports {exports}: build it as a program, or as a component (`cargo build \
                 --target wasm32-wasip2`)"
            ));
        }
        Ok(())
    }
}

/// True if an import may be one of a component's interface.
fn is_of_components(module: &str, name: &str) -> bool {
    module.contains([':', '$', '['])
        || module.starts_with("cm32p2")
        || module == "env" && name == "memory"
}

/// Joins the first names of a list.
fn list(names: &[String]) -> String {
    let mut text = names
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > NAMED {
        text.push_str(" and more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{Kind, exports};

    fn made(text: &str) -> Result<Vec<u8>, String> {
        component_of(&wat::parse_str(text).expect("a module"))
    }

    #[test]
    fn a_command_becomes_a_program() {
        let component = made(
            r#"(module
                (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
                (memory (export "memory") 1)
                (func (export "_start")))"#,
        );
        let component = component.expect("a component");
        assert_eq!(Kind::of_binary(&component, true), Kind::Command);
        let exports = exports(&component);
        let run = exports.first().map(String::as_str).unwrap_or_default();
        assert!(run.starts_with("wasi:cli/run@0.2."), "{exports:?}");
        // It needs nothing of WASI to be one, but memory.
        made(r#"(module (memory (export "memory") 1) (func (export "_start")))"#)
            .expect("a component");
    }

    #[test]
    fn what_no_adapter_helps_is_told_why() {
        let p1 = r#"(import "wasi_snapshot_preview1""#;
        for (module, parts) in [
            (
                "(import \"env\" \"missing\" (func))",
                ["imports env.missing", "did not find"],
            ),
            (
                "(import \"fastly_http_req\" \"new\" (func))",
                ["imports fastly_http_req.new,", "made for another host"],
            ),
            (
                &format!("{p1} \"sock_open\" (func))"),
                ["wasi_snapshot_preview1.sock_open", "another host added"],
            ),
            (
                "(import \"wasi_unstable\" \"fd_write\" (func))",
                ["wasi_unstable", "rebuild it"],
            ),
            (
                "(import \"wasi\" \"thread-spawn\" (func))",
                ["threads", "one thread"],
            ),
            (
                "(@custom \"go:buildid\" \"1\") (memory 1) \
                 (func (export \"_start\") (drop (memory.size)))",
                ["one of Go,", "TinyGo"],
            ),
            (
                "(func (export \"add\"))",
                ["no `_start`; it exports add", "wasm32-wasip2"],
            ),
            (
                "(import \"a\" \"b\" (func)) (import \"a\" \"c\" (func)) \
                 (import \"a\" \"d\" (func)) (import \"a\" \"e\" (func))",
                ["imports a.b, a.c, a.d and more,", "wasi:http"],
            ),
        ] {
            let told = made(&format!("(module {module})")).expect_err("it is refused");
            for part in parts {
                assert!(told.contains(part), "{part}: {told}");
            }
        }
        // Of Go, with room for the adapter's pages alone.
        let told = made(
            r#"(module (@custom "go:buildid" "1") (@custom "component-type:x" "")
                (type $size (func (result i32)))
                (type $start (func))
                (import "wasi_snapshot_preview1" "sched_yield" (func (type $size)))
                (memory (export "memory") 3)
                (global i32 (i32.const 0))
                (func $size (type $size) (memory.size))
                (func $init (type $start)
                    (i64.store (i32.const 16) (i64.and
                        (i64.add (i64.load (i32.wrap_i64 (i64.const 8))) (i64.const 0xffff))
                        (i64.const -0x10000)))
                    (drop (call $size)))
                (func (export "_start") (type $start) (call $init))
                (data (i32.const 8) "\34\12\01"))"#,
        );
        let told = told.expect_err("it is refused");
        assert!(told.contains("exports no `cabi_realloc`"), "{told}");
        let told = made(&format!(
            "(module {p1} \"fd_write\" (func)) (func (export \"_start\")))"
        ));
        let told = told.expect_err("it has no memory");
        assert!(
            told.starts_with("it is a core module, of which no component"),
            "{told}"
        );
        assert!(!told.contains('\n'), "{told}");
    }
}
