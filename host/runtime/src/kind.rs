//! The kind of a component, told by the names that it exports. It must be known
//! before compiling, because the two engines compile differently.

use wasmparser::{Parser, Payload};

use netwasm_base::config::Isolation;

/// How a component is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Event handlers, called synchronously.
    Events,
    /// An async call for each connection.
    Streams,
    /// A call for each HTTP request: `wasi:http/incoming-handler@0.2`, the
    /// world `proxy`.
    Proxy,
    /// An async call for each HTTP request: `wasi:http/handler@0.3`, the world
    /// `service`.
    Service,
    /// A program: one call.
    Command,
}

impl Kind {
    /// Returns the kind of a component with these exports, in a run with or
    /// without listeners. Checks neither versions nor that the exports suffice.
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
        let events = [
            "tcp-handler",
            "udp-handler",
            "http-handler",
            "websocket-handler",
        ];
        let has_events = events
            .iter()
            .any(|name| exported(&format!("netwasm:net/{name}")));
        match () {
            () if has_events => Self::Events,
            () if exported("netwasm:net/stream-handler") => Self::Streams,
            () if exported("wasi:http/handler") => Self::Service,
            () if exported("wasi:http/incoming-handler") => Self::Proxy,
            () if handles => Self::Events,
            // Nothing drives it. The async engine compiles any component, so
            // the error can name its exports.
            () => Self::Streams,
        }
    }

    /// Returns the default isolation. No client can ever read what another
    /// sends. Components for WASI 0.2 are made for hosts that give every
    /// request its own instance.
    pub(crate) fn isolation(self) -> Isolation {
        match self {
            Self::Proxy => Isolation::Request,
            _ => Isolation::Connection,
        }
    }

    /// True for components of `wasi:http`, which may have an instance for each
    /// request.
    pub(crate) fn answers_requests(self) -> bool {
        matches!(self, Self::Proxy | Self::Service)
    }

    /// Returns the kind of a component with these exports, like [`Kind::of`].
    pub(crate) fn of_names(exports: &[String], listens: bool) -> Self {
        let exports: Vec<&str> = exports.iter().map(String::as_str).collect();
        Self::of(&exports, listens)
    }

    /// Returns the kind of a component in binary form. Leaves unreadable bytes
    /// to the compiler to report.
    pub(crate) fn of_binary(component: &[u8], listens: bool) -> Self {
        Self::of_names(&exports(component), listens)
    }
}

/// Returns the names that a component in binary form exports. Leaves unreadable
/// bytes to the compiler to report.
pub(crate) fn exports(component: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    // Nested components and modules do not count.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_component_is_told_by_its_exports() {
        let stream = "netwasm:net/stream-handler@0.2.0";
        let (tcp, run) = ("netwasm:net/tcp-handler@0.2.0", "wasi:cli/run@0.3.0");
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
            (
                &["netwasm:net/websocket-handler@0.2.0", run],
                true,
                Kind::Events,
            ),
            (&[proxy], true, Kind::Proxy),
            (&[proxy, service], true, Kind::Service),
            (&[run, service], true, Kind::Service),
            (&[run, service], false, Kind::Command),
            (&[stream, service], true, Kind::Streams),
            (&["acme:store/keys"], true, Kind::Streams),
            (&["netwasm:net/timer-handler@0.2.0"], true, Kind::Events),
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
            (export \"netwasm:net/stream-handler@0.2.0\" (instance $i)))";
        let binary = wat::parse_str(text).expect("a component");
        assert_eq!(exports(&binary), ["netwasm:net/stream-handler@0.2.0"]);
        assert_eq!(Kind::of_binary(&binary, true), Kind::Streams);
        assert_eq!(Kind::of_binary(b"nonsense", false), Kind::Streams);
    }
}
