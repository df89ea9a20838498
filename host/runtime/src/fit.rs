//! The exports and imports of a component: whether this host can run it, and
//! what to tell the user if not.

mod imports;
mod needs;

use std::collections::BTreeSet;

use netwasm_base::config::{ConfigError, ListenerConfig, ListenerKind};
use netwasm_base::error::Error;
use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::kind::Kind;

#[cfg(test)]
pub(crate) use self::imports::{
    CONCURRENT_IMPORTS, CONCURRENT_STANDARD_IMPORTS, EVENT_IMPORTS, PROGRAM_IMPORTS,
    STANDARD_IMPORTS,
};
pub(crate) use self::imports::{package, unlinkable};
pub(crate) use self::needs::Need;

/// The package whose handlers this host drives.
const PACKAGE: &str = "netwasm:net";

/// Handlers that listeners drive: the version line that this host speaks, and
/// the listeners' flags.
const LISTENING: [(&str, &str, &[ListenerKind]); 7] = [
    (
        "netwasm:net/tcp-handler",
        "0.2.",
        &[ListenerKind::Tcp, ListenerKind::Tls],
    ),
    ("netwasm:net/udp-handler", "0.2.", &[ListenerKind::Udp]),
    (
        HTTP_HANDLER,
        "0.2.",
        &[ListenerKind::Http, ListenerKind::Https],
    ),
    (
        WEBSOCKET_HANDLER,
        "0.2.",
        &[ListenerKind::Http, ListenerKind::Https],
    ),
    (
        STREAM_HANDLER,
        "0.2.",
        &[ListenerKind::Tcp, ListenerKind::Tls],
    ),
    (SERVICE, "0.3.", &[ListenerKind::Http, ListenerKind::Https]),
    (PROXY, "0.2.", &[ListenerKind::Http, ListenerKind::Https]),
];

/// Where an author sees a component that fits.
const SHOWN: &str = "`netwasm new NAME --tcp`, `--udp`, `--http`, `--stream` or `--program` makes \
                     a project of one that runs";

/// The event handlers of HTTP requests, and of WebSocket connections.
const HTTP_HANDLER: &str = "netwasm:net/http-handler";
const WEBSOCKET_HANDLER: &str = "netwasm:net/websocket-handler";

/// The async handler of connections, in place of the event handler.
const STREAM_HANDLER: &str = "netwasm:net/stream-handler";

/// The standard handlers of HTTP requests: WASI 0.3 and 0.2.
const SERVICE: &str = "wasi:http/handler";
const PROXY: &str = "wasi:http/incoming-handler";

/// The export of a program.
const RUN: &str = "wasi:cli/run";

/// Functions whose result arrives as an event: interface, function, and the
/// handler that gets the result.
const COMPLETING: [(&str, &str, &str); 10] = [
    ("connector", "connect", "connect-handler"),
    ("connector", "connect-upstream", "connect-handler"),
    ("connector", "connect-upstream-for", "connect-handler"),
    ("datagram-connector", "bind", "udp-handler"),
    ("datagram-connector", "connect", "datagram-connect-handler"),
    ("pools", "get", "connect-handler"),
    ("timers", "wake-at", "timer-handler"),
    ("resolver", "resolve", "resolve-handler"),
    ("websocket-client", "connect", "websocket-connect-handler"),
    ("websocket-client", "connect", "websocket-handler"),
];

/// Why a component cannot run with its listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// The component is at fault, or a listener that it has no handler for.
    Component(String),
    /// There is no listener; these flags give one.
    NoListener(String),
}

impl Misfit {
    /// Returns it as an error of the component with this name.
    pub(crate) fn of(self, name: &str) -> Error {
        match self {
            Self::Component(reason) => Error::component(name, reason),
            Self::NoListener(flags) => ConfigError::NoListener(flags).into(),
        }
    }
}

/// Checks that this host drives the component, and that the listeners fit it.
///
/// A component may offer more than a run uses: an export that no listener
/// drives is no error as long as another is driven.
///
/// # Errors
/// Names the exports and the flags in question.
pub(crate) fn check(
    component: &Component,
    engine: &Engine,
    kind: Kind,
    listeners: &[ListenerConfig],
) -> Result<(), Misfit> {
    let interface = Interface::of(component, engine);
    interface.check_world(kind).map_err(Misfit::Component)?;
    interface.check_driven(kind, listeners)?;
    interface.tell_unused(kind, listeners);
    Ok(())
}

/// Checks that the listeners fit a component with these exports, before it is
/// compiled, which may take a minute. Leaves a component without a handler to
/// [`check`], which says more of it.
///
/// # Errors
/// Those of [`check`] that need no more than the exports.
pub(crate) fn check_exports(
    exports: &[String],
    kind: Kind,
    listeners: &[ListenerConfig],
) -> Result<(), Misfit> {
    let interface = Interface {
        exports: exports.to_vec(),
        ..Interface::default()
    };
    let mut handlers = LISTENING.iter().map(|(handler, ..)| handler);
    if kind == Kind::Command || !handlers.any(|handler| interface.handles(handler)) {
        return Ok(());
    }
    interface.check_driven(kind, listeners)
}

/// Imports and exports of a component, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) exports: Vec<String>,
    pub(crate) imports: Vec<String>,
    /// Imported functions, by interface. An interface may be imported just for
    /// a type.
    functions: BTreeSet<(String, String)>,
    /// True if it exports types, and nothing that could be called.
    types_only: bool,
}

impl Interface {
    pub(crate) fn of(component: &Component, engine: &Engine) -> Self {
        let ty = component.component_type();
        let mut interface = Self {
            types_only: ty.exports(engine).len() > 0,
            ..Self::default()
        };
        for (name, item) in ty.exports(engine) {
            interface.exports.push(name.to_owned());
            interface.types_only &= is_type(&item.ty);
        }
        for (name, item) in ty.imports(engine) {
            interface.imports.push(name.to_owned());
            let ComponentItem::ComponentInstance(instance) = item.ty else {
                continue;
            };
            for (function, item) in instance.exports(engine) {
                if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                    interface
                        .functions
                        .insert((without_version(name).to_owned(), function.to_owned()));
                }
            }
        }
        interface
    }

    /// True if it exports a handler in a version that this host drives.
    fn handles(&self, handler: &str) -> bool {
        let line = LISTENING
            .iter()
            .find(|(name, ..)| *name == handler)
            .map_or("0.2.", |(_, line, ..)| line);
        self.exports
            .iter()
            .any(|name| speaks(name, line) == Some(handler))
    }

    /// True if it imports a function of this host's own package.
    fn calls(&self, interface: &str, function: &str) -> bool {
        self.functions
            .contains(&(format!("{PACKAGE}/{interface}"), function.to_owned()))
    }

    /// Checks that this host drives the component, and that the component
    /// exports a handler for the result of each function that it imports.
    pub(crate) fn check_world(&self, kind: Kind) -> Result<(), String> {
        if kind == Kind::Command {
            return match self.exports.iter().any(|name| is_run(name)) {
                true => Ok(()),
                false => Err(self.wrong_world()),
            };
        }
        if !LISTENING.iter().any(|(handler, ..)| self.handles(handler)) {
            return Err(self.wrong_world());
        }
        if kind == Kind::Events && self.handles(STREAM_HANDLER) {
            return Err(format!(
                "it exports {STREAM_HANDLER} besides handlers of events, and these run \
                 in another engine: make two components of it"
            ));
        }
        for (interface, function, handler) in COMPLETING {
            if self.calls(interface, function) && !self.handles(&format!("{PACKAGE}/{handler}")) {
                return Err(format!(
                    "it imports {PACKAGE}/{interface} but does not export {PACKAGE}/{handler}, \
                     to which the answers go"
                ));
            }
        }
        Ok(())
    }

    fn wrong_world(&self) -> String {
        if self.types_only {
            return "it is a package of interfaces (WIT) in binary form, and has no code: \
                    take a component that was built from them"
                .into();
        }
        let other_version = self.exports.iter().find_map(|name| {
            let bare = without_version(name);
            let (_, line, ..) = LISTENING.iter().find(|(handler, ..)| bare == *handler)?;
            Some((name, line.trim_end_matches('.')))
        });
        let run = || {
            let name = self
                .exports
                .iter()
                .find(|name| without_version(name) == RUN)?;
            Some((name, "0.2 and 0.3"))
        };
        if let Some((name, lines)) = other_version.or_else(run) {
            let versions = match lines.contains(' ') {
                true => "versions",
                false => "version",
            };
            return match is_released(name) {
                true => format!("it exports {name}, and this host drives {versions} {lines}"),
                false => format!(
                    "it exports {name}, which was not released so, and this host drives \
                     {versions} {lines}: rebuild it with current tools"
                ),
            };
        }
        let mut handlers = LISTENING.map(|(handler, ..)| handler).to_vec();
        handlers.push(RUN);
        handlers.sort_unstable();
        let handlers = handlers.join(", ");
        match self.exports.is_empty() {
            true => format!("it exports none of {handlers}; it exports nothing; {SHOWN}"),
            false => {
                format!(
                    "it exports none of {handlers}; it exports {}, for another host or component \
                     to call; {SHOWN}",
                    self.exports.join(", ")
                )
            }
        }
    }

    /// Checks that there are listeners, and that they fit.
    fn check_driven(&self, kind: Kind, listeners: &[ListenerConfig]) -> Result<(), Misfit> {
        self.check_listeners(kind, listeners)
            .map_err(Misfit::Component)?;
        if kind == Kind::Command || !listeners.is_empty() {
            return Ok(());
        }
        let asked = LISTENING
            .iter()
            .filter(|(handler, ..)| self.is_asked_for(handler, kind) && self.handles(handler));
        let given: Vec<_> = asked.map(|(.., kinds)| flags(kinds)).collect();
        Err(Misfit::NoListener(given.join(", or ")))
    }

    pub(crate) fn check_listeners(
        &self,
        kind: Kind,
        listeners: &[ListenerConfig],
    ) -> Result<(), String> {
        let redirects = |it: &ListenerConfig| it.kind == ListenerKind::Redirect;
        if kind == Kind::Command && listeners.iter().any(redirects) {
            return Err(format!(
                "--http-redirect is beside a server; it exports {RUN}, which no listener drives"
            ));
        }
        for (handler, _, kinds) in LISTENING {
            if !self.is_asked_for(handler, kind) {
                continue;
            }
            let listener = listeners
                .iter()
                .find(|listener| kinds.contains(&listener.kind));
            if let Some(listener) = listener
                && !self.handles(handler)
            {
                let exported = LISTENING.iter().filter(|(other, ..)| self.handles(other));
                let mut driven: Vec<String> = exported
                    .map(|(other, _, kinds)| format!("{other}, which {} drives", flags(kinds)))
                    .collect();
                if kind == Kind::Command {
                    driven.push(format!("{RUN}, which no listener drives"));
                }
                return Err(format!(
                    "{} needs a component that exports {handler}; it exports {}",
                    listener.kind.flag(),
                    driven.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// Logs the handlers that no listener drives.
    fn tell_unused(&self, kind: Kind, listeners: &[ListenerConfig]) {
        for (handler, _, kinds) in LISTENING {
            let is_used = listeners.iter().any(|it| kinds.contains(&it.kind));
            if self.is_asked_for(handler, kind) && self.handles(handler) && !is_used {
                tracing::debug!("{handler} is exported, but there is no {}", flags(kinds));
            }
        }
    }

    /// True if listeners look for this handler in a component of a kind. Of several
    /// handlers for one listener, only one counts.
    fn is_asked_for(&self, handler: &str, kind: Kind) -> bool {
        let only_websockets = || self.handles(WEBSOCKET_HANDLER) && !self.handles(HTTP_HANDLER);
        match handler {
            "netwasm:net/tcp-handler" => kind != Kind::Streams,
            STREAM_HANDLER => kind == Kind::Streams,
            HTTP_HANDLER => !matches!(kind, Kind::Proxy | Kind::Service) && !only_websockets(),
            WEBSOCKET_HANDLER => kind == Kind::Events && only_websockets(),
            SERVICE => kind == Kind::Service,
            PROXY => kind == Kind::Proxy,
            _ => true,
        }
    }

    /// Returns the command that runs it, with its listeners. What it may need
    /// besides is not in it: see [`Self::needs`].
    pub(crate) fn command(&self, kind: Kind, name: &str, plugs: &[String]) -> String {
        let mut command = format!("netwasm run {}", quoted(name));
        for plug in plugs {
            command.push_str(&format!(" --plug {}", quoted(plug)));
        }
        // Listeners of TCP cannot share a port, and one of UDP has ports of its own.
        let mut ports = 8888..;
        for (handler, _, kinds) in LISTENING {
            if kind != Kind::Command && self.is_asked_for(handler, kind) && self.handles(handler) {
                let port = match kinds[0] {
                    ListenerKind::Udp => Some(8888),
                    _ => ports.next(),
                };
                let port = port.unwrap_or_default();
                command.push_str(&format!(" {} {port}", kinds[0].flag()));
            }
        }
        command
    }
}

/// Returns the interface of a name with a version of this line, whatever the
/// patch.
fn speaks<'a>(name: &'a str, line: &str) -> Option<&'a str> {
    let (interface, version) = name.split_once('@')?;
    let patch = version.strip_prefix(line)?;
    let numbered = patch.starts_with(|c: char| c.is_ascii_digit());
    (numbered && is_released(name)).then_some(interface)
}

/// True unless the version is a candidate or a draft, which no other version
/// fits.
fn is_released(name: &str) -> bool {
    name.split_once('@')
        .is_none_or(|(_, version)| !version.contains('-'))
}

fn is_type(item: &ComponentItem) -> bool {
    matches!(item, ComponentItem::Type(_) | ComponentItem::Component(_))
}

fn without_version(name: &str) -> &str {
    name.split_once('@').map_or(name, |(bare, _)| bare)
}

fn is_sockets(interface: &str) -> bool {
    interface.starts_with("wasi:sockets/")
}

/// True if an export is a program in a version that this host runs: 0.2 or 0.3,
/// whatever the patch.
fn is_run(name: &str) -> bool {
    let version = name.strip_prefix(RUN).and_then(|it| it.strip_prefix('@'));
    version.is_some_and(|version| {
        let released = |line: &str| version.starts_with(line) && is_released(name);
        released("0.2.") || released("0.3.")
    })
}

/// Lists the flags of some kinds of listeners for a sentence.
fn flags(kinds: &[ListenerKind]) -> String {
    kinds
        .iter()
        .map(|kind| kind.flag())
        .collect::<Vec<_>>()
        .join(" or ")
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+:@%,=".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}
