//! Makes a component of a core module, as compilers of C and Go write it.
//!
//! The module says by the names of its imports and exports what it uses of
//! `netwasm:net`. What it uses of WASI is that of preview 1, as their standard
//! libraries have it: an adapter makes WASI 0.2 of it.

use std::collections::BTreeSet;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::ProjectError;
use super::wit;

/// Start of the names of the interfaces here.
const PREFIX: &str = "netwasm:net/";

/// The events that a project can be made for. Their handlers are exported by
/// each module, because the libraries have them, and remain if the project asks
/// for them.
const WORLDS: [(&str, &str); 3] = [
    ("tcp", "tcp-handler"),
    ("udp", "udp-handler"),
    ("http", "http-handler"),
];

/// Exported handlers that are of use only together with an import, the first of
/// which a module has or has not.
const RESULTS: [(&str, &str, &str); 9] = [
    ("connect-handler", "connector", "connect"),
    ("connect-handler", "connector", "connect-upstream"),
    ("connect-handler", "connector", "connect-upstream-for"),
    ("tcp-handler", "connector", "connect"),
    ("tcp-handler", "connector", "connect-upstream"),
    ("tcp-handler", "connector", "connect-upstream-for"),
    ("timer-handler", "timers", "wake-at"),
    ("resolve-handler", "resolver", "resolve"),
    ("response-handler", "http", "respond"),
];

/// Handlers that every component may have.
const ALWAYS: [&str; 1] = ["lifecycle"];

/// Returns true if there is a world of this name.
pub(super) fn is_world(name: &str) -> bool {
    WORLDS.iter().any(|(world, _)| *world == name)
}

/// Makes a component of a core module. `worlds` are the events that it is for:
/// `tcp`, `udp`, `http`.
///
/// # Errors
/// Fails if the module is broken, or imports or exports what this host does not
/// have.
pub(super) fn make(module: &[u8], worlds: &[String]) -> Result<Vec<u8>, ProjectError> {
    let told = |error: String| ProjectError::Told(format!("no component can be made: {error}"));
    let used = Used::of(module).map_err(|error| told(error.to_string()))?;
    let text = used.world(worlds).map_err(told)?;
    let mut resolve = Resolve::default();
    let encoded = (|| {
        let package = resolve.push_str("component.wit", &text)?;
        let world = resolve.select_world(&[package], Some("component"))?;
        let mut module = module.to_vec();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
        ComponentEncoder::default()
            .module(&module)?
            .adapter(
                WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            )?
            .validate(true)
            .encode()
    })();
    encoded.map_err(|error: anyhow::Error| told(format!("{error:#}")))
}

/// The parts of `netwasm:net` that a module uses.
#[derive(Debug, Default)]
struct Used {
    /// Interfaces and functions.
    imports: BTreeSet<(String, String)>,
    /// Interfaces.
    exports: BTreeSet<String>,
    /// Versions of the package.
    versions: BTreeSet<String>,
}

impl Used {
    fn of(module: &[u8]) -> wasmparser::Result<Self> {
        let mut used = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import?;
                        if let Some(interface) = used.interface(import.module) {
                            used.imports.insert((interface, import.name.to_owned()));
                        }
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let name = export?.name;
                        let interface = name.split_once('#').map(|(interface, _)| interface);
                        if let Some(interface) = interface.and_then(|it| used.interface(it)) {
                            used.exports.insert(interface);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(used)
    }

    /// Returns the name of an interface, without package and version.
    fn interface(&mut self, name: &str) -> Option<String> {
        let (interface, version) = name.strip_prefix(PREFIX)?.split_once('@')?;
        self.versions.insert(version.to_owned());
        Some(interface.to_owned())
    }

    fn has_import(&self, interface: &str, function: &str) -> bool {
        let name = (interface.to_owned(), function.to_owned());
        self.imports.contains(&name)
    }

    /// Returns the package with the world `component`, which has what is used.
    fn world(&self, worlds: &[String]) -> Result<String, String> {
        let document = wit::document();
        let own = wit::version();
        if let Some(other) = self.versions.iter().find(|it| *it != own) {
            return Err(format!(
                "its library is for version {other} of the interface, and this netwasm has {own}: \
                 take the directory `netwasm` of a project that `netwasm new` makes now"
            ));
        }
        let mut text = format!("{document}\nworld component {{\n");
        let interfaces: BTreeSet<_> = self.imports.iter().map(|(it, _)| it).collect();
        for interface in interfaces {
            text += &format!("    import {interface};\n");
        }
        let mut kept = BTreeSet::from(ALWAYS);
        for world in worlds {
            let handler = WORLDS.iter().find(|(name, _)| name == world);
            let (_, handler) = handler.ok_or_else(|| format!("there is no world {world}"))?;
            if !self.exports.contains(*handler) {
                return Err(format!(
                    "it has no {handler}: is the library compiled with it?"
                ));
            }
            kept.insert(handler);
        }
        for (handler, interface, function) in RESULTS {
            if self.has_import(interface, function) {
                kept.insert(handler);
            }
        }
        for handler in kept {
            if self.exports.contains(handler) {
                text += &format!("    export {handler};\n");
            }
        }
        text += "}\n";
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a module that exports all of a handler of connections and uses
    /// a function of transports, as text with some more in it.
    fn module(more: &str) -> Vec<u8> {
        let events = "
            (export \"netwasm:net/tcp-handler@0.2.0#connection-made\" (func $made))
            (export \"netwasm:net/tcp-handler@0.2.0#data-received\" (func $data))
            (export \"netwasm:net/tcp-handler@0.2.0#eof-received\" (func $eof))
            (export \"netwasm:net/tcp-handler@0.2.0#writable\" (func $writable))
            (export \"netwasm:net/tcp-handler@0.2.0#tls-started\" (func $tls))
            (export \"netwasm:net/tcp-handler@0.2.0#connection-lost\" (func $lost))
            (export \"netwasm:net/timer-handler@0.2.0#woken\" (func $woken))
            (func $made (param i64) (result i64) local.get 0)
            (func $data (param i64 i32 i32))
            (func $eof (param i64) (result i32) i32.const 0)
            (func $writable (param i64))
            (func $tls (param i64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32))
            (func $lost (param i64 i32 i32 i32 i32 i32))
            (func $woken)
            (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) i32.const 64)
            (memory (export \"memory\") 1)";
        let text = format!(
            "(module
                (import \"netwasm:net/transports@0.2.0\" \"close\" (func (param i64)))
                {more} {events})"
        );
        wat::parse_str(text).expect("a module")
    }

    #[test]
    fn a_component_has_what_its_module_uses() {
        let tcp = ["tcp".to_owned()];
        let made = make(&module(""), &tcp).expect("a component");
        let text = String::from_utf8_lossy(&made);
        assert!(text.contains("netwasm:net/transports@"));
        assert!(text.contains("netwasm:net/tcp-handler@"));
        assert!(!text.contains("wasi:"), "WASI is of no use to it");
        // The world of the component alone, not the package's others.
        let has = |module: &[u8], export: &str| {
            let used = Used::of(module).expect("a module");
            let text = used.world(&tcp).expect("a world");
            let (_, world) = text.split_once("world component").expect("a world");
            world.contains(&format!("export {export};"))
        };
        let has_timer = |module: &[u8]| has(module, "timer-handler");
        assert!(!has_timer(&module("")), "it has no timer");

        let with = module(
            "(import \"netwasm:net/timers@0.2.0\" \"wake-at\" (func (param i32 i64)))
             (import \"wasi_snapshot_preview1\" \"clock_time_get\"
                (func (param i32 i64 i32) (result i32)))",
        );
        let made = make(&with, &tcp).expect("a component");
        let text = String::from_utf8_lossy(&made);
        assert!(text.contains("wasi:clocks/monotonic-clock@0.2"));
        assert!(has_timer(&with), "it has one");

        let handler = "(func (export \"netwasm:net/connect-handler@0.2.0#connected\")
                (param i64 i32 i64 i32 i32 i32))";
        assert!(!has(&module(handler), "connect-handler"), "nobody connects");
        for import in [
            "\"connect\" (func (param i32 i32))",
            "\"connect-upstream\" (func (param i64 i32 i32 i32 i64 i32))",
            "\"connect-upstream-for\" (func (param i64 i32 i32 i64 i32 i64 i32))",
        ] {
            let connects = format!("(import \"netwasm:net/connector@0.2.0\" {import}) {handler}");
            assert!(has(&module(&connects), "connect-handler"), "{import}");
        }
    }

    #[test]
    fn what_cannot_be_made_says_why() {
        let tcp = ["tcp".to_owned()];
        let told = |module: &[u8], worlds: &[String]| {
            let error = make(module, worlds).expect_err("no component");
            error.to_string()
        };
        assert!(told(b"nonsense", &tcp).contains("no component can be made"));
        assert!(told(&module(""), &["http".to_owned()]).contains("no http-handler"));
        let newer = module("(import \"netwasm:net/log@0.9.0\" \"log\" (func (param i32 i32 i32)))");
        assert!(told(&newer, &tcp).contains("version 0.9.0"));
        let strange = module("(import \"env\" \"missing\" (func))");
        assert!(told(&strange, &tcp).contains("env"));
    }
}
