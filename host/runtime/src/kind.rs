//! What drives a component, told by the names that it exports: that is to be
//! known before it is compiled, since the two engines compile differently.

use std::collections::BTreeSet;

use wasmparser::{Parser, Payload};

use netwasm_base::config::Isolation;

/// What drives a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Events: synchronous calls.
    Events,
    /// A call that awaits, for each connection.
    Streams,
    /// A call for each HTTP request: `wasi:http/incoming-handler@0.2`, the
    /// world `proxy`.
    Proxy,
    /// A call that awaits, for each HTTP request: `wasi:http/handler@0.3`, the
    /// world `service`.
    Service,
    /// One call: a program.
    Command,
}

impl Kind {
    /// The kind of a component that exports these names, in a run with or
    /// without listeners. Which versions there are is not asked here, nor
    /// whether the exports are enough.
    pub(crate) fn of(exports: &[&str], listens: bool) -> Self {
        let exported = |wanted: &str| {
            exports
                .iter()
                .any(|name| name.split('@').next() == Some(wanted))
        };
        let handles = exports.iter().any(|name| {
            name.starts_with("netwasm:net/") && name.contains("-handler")
                || name.starts_with("wasi:http/") && name.contains("handler")
        });
        if exported("wasi:cli/run") && !(handles && listens) {
            return Self::Command;
        }
        let events = ["tcp-handler", "udp-handler", "http-handler"];
        let has_events = events
            .iter()
            .any(|name| exported(&format!("netwasm:net/{name}")));
        match () {
            () if has_events => Self::Events,
            () if exported("netwasm:net/stream-handler") => Self::Streams,
            () if exported("wasi:http/handler") => Self::Service,
            () if exported("wasi:http/incoming-handler") => Self::Proxy,
            () if handles => Self::Events,
            // Nothing drives it; this engine compiles whatever there is, so
            // that a person is told of its exports.
            () => Self::Streams,
        }
    }

    /// Who shares an instance unless told otherwise. What one client sends can
    /// never be read by another; components for WASI 0.2 are made for hosts
    /// that give every request an instance of its own.
    pub(crate) fn isolation(self) -> Isolation {
        match self {
            Self::Proxy => Isolation::Request,
            _ => Isolation::Connection,
        }
    }

    /// Whether it is one of `wasi:http`: those may have an instance for each
    /// request.
    pub(crate) fn answers_requests(self) -> bool {
        matches!(self, Self::Proxy | Self::Service)
    }

    /// The kind of a component in binary form. What cannot be read is left to
    /// the compiler to complain of.
    pub(crate) fn of_binary(component: &[u8], listens: bool) -> Self {
        let exports = exports(component);
        let exports: Vec<&str> = exports.iter().map(String::as_str).collect();
        Self::of(&exports, listens)
    }
}

/// The names that a component in binary form exports.
fn exports(component: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    // Components and modules that lie within are not asked.
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentExportSection(section)) if depth == 0 => {
                let exports = section.into_iter().filter_map(Result::ok);
                names.extend(exports.map(|export| export.name.name.to_owned()));
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    names
}

/// From where a core module in binary form imports, each named once.
pub(crate) fn module_imports(module: &[u8]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload {
            Ok(Payload::ImportSection(section)) => {
                let imports = section.into_imports().filter_map(Result::ok);
                names.extend(imports.map(|import| import.module.to_owned()));
            }
            // No import comes after code.
            Ok(Payload::CodeSectionStart { .. }) | Err(_) => break,
            Ok(_) => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_component_is_told_by_its_exports() {
        let stream = "netwasm:net/stream-handler@0.1.0";
        let (tcp, run) = ("netwasm:net/tcp-handler@0.1.0", "wasi:cli/run@0.3.0");
        let (proxy, service) = (
            "wasi:http/incoming-handler@0.2.4",
            "wasi:http/handler@0.3.0",
        );
        for (exports, listens, kind) in [
            (&[tcp][..], true, Kind::Events),
            (&[stream], true, Kind::Streams),
            (&[stream], false, Kind::Streams),
            (&[run], false, Kind::Command),
            (&[run], true, Kind::Command),
            (&[run, stream], true, Kind::Streams),
            (&[run, stream], false, Kind::Command),
            (&[stream, tcp], true, Kind::Events),
            (&[proxy], true, Kind::Proxy),
            (&[proxy, service], true, Kind::Service),
            (&[run, service], true, Kind::Service),
            (&[run, service], false, Kind::Command),
            (&[stream, service], true, Kind::Streams),
            (&["acme:store/keys"], true, Kind::Streams),
            (&["netwasm:net/timer-handler@0.1.0"], true, Kind::Events),
            (&[], false, Kind::Streams),
        ] {
            let found = Kind::of(exports, listens);
            assert_eq!(found, kind, "{exports:?}, {listens}");
        }
    }

    #[test]
    fn only_the_exports_of_the_component_itself_count() {
        let text = "(component
            (component $inner (instance $i) (export \"wasi:cli/run@0.2.0\" (instance $i)))
            (core module (func (export \"f\")))
            (instance $i)
            (export \"netwasm:net/stream-handler@0.1.0\" (instance $i)))";
        let binary = wat::parse_str(text).expect("a component");
        assert_eq!(exports(&binary), ["netwasm:net/stream-handler@0.1.0"]);
        assert_eq!(Kind::of_binary(&binary, true), Kind::Streams);
        assert_eq!(Kind::of_binary(b"nonsense", false), Kind::Streams);
    }
}
