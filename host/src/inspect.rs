//! What a component exports and imports, whether this host can run it, and
//! what is to be said to a person when it cannot.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};

use bytesize::ByteSize;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Precompiled};

use crate::config::{ComponentSource, Limits, ListenerConfig, ListenerKind};
use crate::error::Error;
use crate::wasm::kind::{self, Kind};
use crate::wasm::{concurrent, engine};

/// The version of the binary form of components that there is.
const VERSION: u8 = 0x0d;

/// The package whose handlers this host drives.
const PACKAGE: &str = "netwasm:net";

/// Handlers that listeners drive, the line of versions that this host speaks,
/// the flags of those, and what arrives there.
const LISTENING: [(&str, &str, &[ListenerKind], &str); 6] = [
    (
        "netwasm:net/tcp-handler",
        "0.1.",
        &[ListenerKind::Tcp, ListenerKind::Tls],
        "byte-stream connections",
    ),
    (
        "netwasm:net/udp-handler",
        "0.1.",
        &[ListenerKind::Udp],
        "datagrams",
    ),
    (
        "netwasm:net/http-handler",
        "0.1.",
        &[ListenerKind::Http, ListenerKind::Https],
        "HTTP requests",
    ),
    (
        STREAM_HANDLER,
        "0.1.",
        &[ListenerKind::Tcp, ListenerKind::Tls],
        "byte-stream connections",
    ),
    (
        SERVICE,
        "0.3.",
        &[ListenerKind::Http, ListenerKind::Https],
        "HTTP requests",
    ),
    (
        PROXY,
        "0.2.",
        &[ListenerKind::Http, ListenerKind::Https],
        "HTTP requests",
    ),
];

/// The handler that awaits, in place of the one that gets events.
const STREAM_HANDLER: &str = "netwasm:net/stream-handler";

/// The standard handlers of HTTP requests.
const SERVICE: &str = "wasi:http/handler";
const PROXY: &str = "wasi:http/incoming-handler";

/// What sends them.
const CLIENT: &str = "wasi:http/client";
const OUTGOING: &str = "wasi:http/outgoing-handler";

/// What looks names up in `wasi:sockets`, and what there, in 0.2 or in 0.3,
/// connects, sends, and listens.
const LOOKUP: &str = "wasi:sockets/ip-name-lookup";
const TCP_CONNECT: [&str; 2] = [
    "[method]tcp-socket.start-connect",
    "[method]tcp-socket.connect",
];
const UDP_SEND: [&str; 2] = [
    "[method]outgoing-datagram-stream.send",
    "[method]udp-socket.send",
];
const LISTEN: [&str; 2] = [
    "[method]tcp-socket.start-listen",
    "[method]tcp-socket.listen",
];

/// What a program exports.
const RUN: &str = "wasi:cli/run";

/// Whose packages belong to hosts of another kind.
const OTHER_HOSTS: [(&str, &str); 7] = [
    ("fermyon", "Spin"),
    ("spin", "Spin"),
    ("fastly", "Fastly Compute"),
    ("wasmcloud", "wasmCloud"),
    ("golem", "Golem"),
    ("edgee", "Edgee"),
    ("zed", "Zed"),
];

/// Features that this host refuses, as the compiler names them, and what to do
/// about each.
const REFUSED_FEATURES: [(&str, &str); 2] = [
    (
        "legacy_exceptions",
        "it uses exceptions of the legacy form, which wasmtime does not run: compile it with \
         `-mllvm -wasm-use-legacy-eh=false`, or translate its core module with `wasm-opt \
         --translate-to-exnref`",
    ),
    (
        "fixed-length lists feature",
        "it uses lists of a fixed length, which this host has not enabled: use `list` or `tuple` \
         in its WIT instead",
    ),
];

/// What to say of memory that threads share.
pub(crate) const SHARED_MEMORY: &str = "it has memory that threads share, and a component has one \
     thread: build it without threads (no `-pthread`, no target with `threads` in its name)";

/// Handlers that get the end of what a function began: interface and name of
/// the function, and the handler.
const COMPLETING: [(&str, &str, &str); 3] = [
    ("connector", "connect", "connect-handler"),
    ("timers", "call-later", "timer-handler"),
    ("resolver", "resolve", "resolve-handler"),
];

/// What there is to import for handlers of events: package, version, and
/// interfaces. The linker decides; this is for telling a person what it misses.
const EVENT_IMPORTS: &[(&str, &str, &[&str])] = &[
    (
        PACKAGE,
        "0.1.",
        &[
            "connector",
            "files",
            "http",
            "log",
            "resolver",
            "timers",
            "transports",
            "types",
        ],
    ),
    ("wasi:cli", "0.2.", CLI),
    ("wasi:clocks", "0.2.", &["monotonic-clock", "wall-clock"]),
    ("wasi:filesystem", "0.2.", &["preopens", "types"]),
    ("wasi:io", "0.2.", &["error", "poll", "streams"]),
    ("wasi:random", "0.2.", RANDOM),
];

/// The same for guests that await.
const CONCURRENT_IMPORTS: &[(&str, &str, &[&str])] = &[
    (PACKAGE, "0.1.", &["client", "log", "streams", "types"]),
    ("wasi:cli", "0.2.", CLI),
    ("wasi:cli", "0.3.", CLI),
    ("wasi:cli", "0.3.", &["types"]),
    ("wasi:clocks", "0.2.", &["monotonic-clock", "wall-clock"]),
    (
        "wasi:clocks",
        "0.3.",
        &["monotonic-clock", "system-clock", "types"],
    ),
    ("wasi:filesystem", "0.2.", &["preopens", "types"]),
    ("wasi:filesystem", "0.3.", &["preopens", "types"]),
    ("wasi:http", "0.2.", &["outgoing-handler", "types"]),
    ("wasi:http", "0.3.", &["client", "types"]),
    ("wasi:io", "0.2.", &["error", "poll", "streams"]),
    ("wasi:random", "0.2.", RANDOM),
    ("wasi:random", "0.3.", RANDOM),
    (
        "wasi:sockets",
        "0.2.",
        &[
            "instance-network",
            "ip-name-lookup",
            "network",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
    ),
    ("wasi:sockets", "0.3.", &["ip-name-lookup", "types"]),
];

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

/// Looks at a component without running it.
///
/// # Errors
/// It cannot be read, or is no component; not that this host cannot run it,
/// which is [`Report::problem`].
pub fn inspect(source: &ComponentSource, limits: &Limits) -> Result<Report, Error> {
    let name = source.to_string();
    let wrong = |reason| Error::Component {
        name: name.clone(),
        reason,
    };
    let bytes = engine::read(source, limits)?;
    let size = bytes.len() as u64;
    let bytes = to_component_binary(bytes).map_err(wrong)?;
    let kind = Kind::of_binary(&bytes, true);
    let engine = engine::plain_engine(kind, limits)?;
    let component = engine::compiled(&engine, &bytes, true).map_err(wrong)?;
    let failed = |error: wasmtime::Error| Error::Engine(format!("{error:#}"));
    Ok(match kind {
        Kind::Events => {
            let linker = engine::linker(&engine).map_err(failed)?;
            Report::new(name, size, &component, kind, &linker)
        }
        Kind::Streams | Kind::Proxy | Kind::Service | Kind::Command => {
            let linker = concurrent::linker(&engine).map_err(failed)?;
            Report::new(name, size, &component, kind, &linker)
        }
    })
}

/// What there is to say of a component; displayed as some lines of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its file, or its name where it is built in.
    pub name: String,
    /// The size of the file, bytes.
    pub size: u64,
    /// What it exports, with versions.
    pub exports: Vec<String>,
    /// What it imports, with versions.
    pub imports: Vec<String>,
    /// The command line that would run it; words in capitals are to be filled
    /// in.
    pub command: String,
    /// Why this host cannot run it.
    pub problem: Option<String>,
}

impl Report {
    fn new<T: 'static>(
        name: String,
        size: u64,
        component: &Component,
        kind: Kind,
        linker: &Linker<T>,
    ) -> Self {
        let interface = Interface::of(component, linker.engine());
        let problem = interface.check_world(kind).err().or_else(|| {
            let error = linker.instantiate_pre(component).err()?;
            Some(unlinkable(component, kind, &error))
        });
        Self {
            command: interface.command(kind, &name),
            name,
            size,
            exports: interface.exports,
            imports: interface.imports,
            problem,
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let size = ByteSize::b(self.size).display().iec();
        writeln!(f, "{}: a component of {size}", self.name)?;
        let list = |f: &mut Formatter<'_>, title, names: &[String]| {
            writeln!(f, "\n{title}:")?;
            if names.is_empty() {
                writeln!(f, "  nothing")?;
            }
            names.iter().try_for_each(|name| writeln!(f, "  {name}"))
        };
        list(f, "exports", &self.exports)?;
        list(f, "imports", &self.imports)?;
        match &self.problem {
            Some(problem) => writeln!(f, "\nit cannot be run: {problem}"),
            None => writeln!(f, "\nrun it with:\n  {}", self.command),
        }
    }
}

/// Checks that a component is one that this host drives, and that the
/// listeners are ones that drive it.
///
/// An export that no listener drives is no error as long as another one is
/// driven: a component may offer more than a run uses.
///
/// # Errors
/// A sentence that names the exports and the flags in question.
pub(crate) fn check(
    component: &Component,
    engine: &Engine,
    kind: Kind,
    listeners: &[ListenerConfig],
) -> Result<(), String> {
    let interface = Interface::of(component, engine);
    interface.check_world(kind)?;
    interface.check_listeners(kind, listeners)
}

/// Why the linker refuses a component: all imports that this host does not
/// have, or else what the linker says.
pub(crate) fn unlinkable(component: &Component, kind: Kind, error: &wasmtime::Error) -> String {
    let ty = component.component_type();
    let imports = ty.imports(component.engine());
    let missing: Vec<&str> = imports
        .map(|(name, _)| name)
        .filter(|name| !provided(name, kind))
        .collect();
    if missing.is_empty() {
        return format!("{error:#}");
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
             exports that (`wac plug`)"
        ));
    }
    reason
}

/// Turns a component in text form into binary form, and checks that it is one.
///
/// # Errors
/// A sentence that says what it is instead, and what would be right.
pub(crate) fn to_component_binary(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let bytes = match is_text(&bytes) {
        true => wat::parse_bytes(&bytes)
            .map_err(|error| text_error(&error))?
            .into_owned(),
        false => bytes,
    };
    if Engine::detect_precompiled(&bytes) == Some(Precompiled::Component) {
        return Err("it is compiled code; take the component that it was made from".into());
    }
    // The magic number, the version, and the layer: 0 is a module, 1 a
    // component.
    match *bytes {
        [0, b'a', b's', b'm', VERSION, 0, 1, 0, ..] => Ok(bytes),
        [0, b'a', b's', b'm', version, _, 1, 0, ..] => Err(format!(
            "it is a component in version {version} of the binary form, and this host reads \
             version {VERSION}: build it anew with current tools"
        )),
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => Err(core_module(&bytes)),
        [] => Err("it is empty".into()),
        [0x7f, b'E', b'L', b'F', ..] => {
            Err("it is a native program or library, not a WebAssembly component".into())
        }
        _ => Err("it is not a WebAssembly component, neither in binary nor in text form".into()),
    }
}

/// What to say of a component that the compiler refuses, by what that says.
/// A feature that is not enabled is no fault of the file.
pub(crate) fn not_compiled(error: &str) -> String {
    let found = |(needle, _): &&(&str, &str)| error.contains(needle);
    if let Some((_, remedy)) = REFUSED_FEATURES.iter().find(found) {
        return (*remedy).to_owned();
    }
    let disabled = [
        "not enabled",
        "must be enabled",
        " feature",
        "not active",
        "proposal disabled",
    ];
    if disabled.iter().any(|word| error.contains(word)) {
        return format!("it uses a feature of WebAssembly that this host has not enabled: {error}");
    }
    error.to_owned()
}

/// What to say of a core module. Where it imports what belongs to a host of
/// another kind, no tool makes a component of it.
fn core_module(module: &[u8]) -> String {
    let foreign: Vec<String> = kind::module_imports(module)
        .into_iter()
        .filter(|from| !is_of_toolchains(from))
        .collect();
    if foreign.is_empty() {
        return "it is a core module, not a component: build it with `cargo build --target \
                wasm32-wasip2`, or make a component of it with `wasm-tools component new`"
            .into();
    }
    let mut named = foreign
        .iter()
        .take(3)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if foreign.len() > 3 {
        named.push_str(" and more");
    }
    format!(
        "it is a core module, not a component, and made for a host that has {named}: build it for \
         wasi:http or wasi:cli instead"
    )
}

/// Whether a core module that imports from there may become a component.
fn is_of_toolchains(from: &str) -> bool {
    let names = ["env", "wasi_snapshot_preview1", "wasi_unstable"];
    names.contains(&from)
        || from.starts_with("GOT.")
        || from.starts_with("__")
        || from.starts_with(['$', '['])
        || from.contains(':')
}

/// Imports and exports of a component, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Interface {
    exports: Vec<String>,
    imports: Vec<String>,
    /// The functions that it imports, by interface; that an interface is
    /// imported may just mean that one of its types is.
    functions: BTreeSet<(String, String)>,
    /// Whether it exports types, and nothing that could be called.
    types_only: bool,
}

impl Interface {
    fn of(component: &Component, engine: &Engine) -> Self {
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

    /// Whether it exports a handler in a version that this host drives.
    fn handles(&self, handler: &str) -> bool {
        let line = LISTENING
            .iter()
            .find(|(name, ..)| *name == handler)
            .map_or("0.1.", |(_, line, ..)| line);
        self.exports
            .iter()
            .any(|name| speaks(name, line) == Some(handler))
    }

    /// Whether it can call a function of this host's own package.
    fn calls(&self, interface: &str, function: &str) -> bool {
        self.functions
            .contains(&(format!("{PACKAGE}/{interface}"), function.to_owned()))
    }

    /// Whether it can connect.
    fn connects(&self) -> bool {
        let ours = [
            ("connector", "connect"),
            ("client", "connect"),
            ("client", "connect-tls"),
            ("client", "[static]pool.open"),
        ];
        let calls = ours
            .iter()
            .any(|(name, function)| self.calls(name, function));
        calls
            || self.functions.iter().any(|(name, function)| {
                let by_http = matches!(
                    (name.as_str(), function.as_str()),
                    (CLIENT, "send") | (OUTGOING, "handle")
                );
                by_http || (is_sockets(name) && TCP_CONNECT.contains(&function.as_str()))
            })
    }

    /// Whether it can listen by itself.
    fn listens(&self) -> bool {
        self.functions
            .iter()
            .any(|(name, function)| is_sockets(name) && LISTEN.contains(&function.as_str()))
    }

    /// Whether it can send datagrams of its own accord.
    fn sends_datagrams(&self) -> bool {
        self.calls("client", "[static]datagram-socket.connect")
            || self.calls("client", "[method]datagram-socket.send-to")
            || self
                .functions
                .iter()
                .any(|(name, function)| is_sockets(name) && UDP_SEND.contains(&function.as_str()))
    }

    fn resolves(&self) -> bool {
        let by_wasi = (LOOKUP.to_owned(), "resolve-addresses".to_owned());
        self.calls("resolver", "resolve")
            || self.calls("client", "resolve")
            || self.functions.contains(&by_wasi)
    }

    /// Whether it can open files that `--dir` gives.
    fn opens_files(&self) -> bool {
        self.calls("files", "[static]file.open")
            || self
                .functions
                .iter()
                .any(|(name, _)| name == "wasi:filesystem/preopens")
    }

    /// Whether this host drives it, and what it begins can be told to it.
    fn check_world(&self, kind: Kind) -> Result<(), String> {
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
                     {versions} {lines}: build it anew with current tools"
                ),
            };
        }
        let mut handlers = LISTENING.map(|(handler, ..)| handler).to_vec();
        handlers.push(RUN);
        handlers.sort_unstable();
        let handlers = handlers.join(", ");
        match self.exports.is_empty() {
            true => format!("it exports none of {handlers}; it exports nothing"),
            false => {
                format!(
                    "it exports none of {handlers}; it exports {}, for another host or component \
                     to call",
                    self.exports.join(", ")
                )
            }
        }
    }

    fn check_listeners(&self, kind: Kind, listeners: &[ListenerConfig]) -> Result<(), String> {
        for (handler, _, kinds, _) in LISTENING {
            if !is_asked_for(handler, kind) {
                continue;
            }
            let listener = listeners
                .iter()
                .find(|listener| kinds.contains(&listener.kind));
            match listener {
                Some(listener) if !self.handles(handler) => {
                    let exported = LISTENING.iter().filter(|(other, ..)| self.handles(other));
                    let mut driven: Vec<String> = exported
                        .map(|(other, _, kinds, _)| {
                            format!("{other}, which {} drives", flags(kinds))
                        })
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
                None if self.handles(handler) => {
                    tracing::debug!("{handler} is exported, but there is no {}", flags(kinds));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn command(&self, kind: Kind, name: &str) -> String {
        let mut command = format!("netwasm run {}", quoted(name));
        for (handler, _, kinds, _) in LISTENING {
            if kind != Kind::Command && is_asked_for(handler, kind) && self.handles(handler) {
                command.push_str(&format!(" {} 8888", kinds[0].flag()));
            }
        }
        let (connects, sends) = (self.connects(), self.sends_datagrams());
        if connects {
            command.push_str(" --allow-connect HOST:PORT");
        }
        if sends {
            command.push_str(" --allow-udp HOST:PORT");
        }
        if self.resolves() && !connects && !sends {
            command.push_str(" --allow-resolve NAME");
        }
        if self.listens() {
            command.push_str(" --allow-listen ADDR");
        }
        if self.opens_files() {
            command.push_str(" --dir HOST::GUEST");
        }
        command
    }
}

/// The name of an interface that has a version of this line, whatever the
/// patch.
fn speaks<'a>(name: &'a str, line: &str) -> Option<&'a str> {
    let (interface, version) = name.split_once('@')?;
    let patch = version.strip_prefix(line)?;
    let numbered = patch.starts_with(|c: char| c.is_ascii_digit());
    (numbered && is_released(name)).then_some(interface)
}

/// Whether the version of an interface is none that came before a release: a
/// candidate or a draft, which no other fits.
fn is_released(name: &str) -> bool {
    name.split_once('@')
        .is_none_or(|(_, version)| !version.contains('-'))
}

fn is_type(item: &ComponentItem) -> bool {
    matches!(item, ComponentItem::Type(_) | ComponentItem::Component(_))
}

/// Whether listeners look for this handler in a component of a kind: of those
/// that take the same, one is asked for.
fn is_asked_for(handler: &str, kind: Kind) -> bool {
    match handler {
        "netwasm:net/tcp-handler" => kind != Kind::Streams,
        STREAM_HANDLER => kind == Kind::Streams,
        "netwasm:net/http-handler" => !matches!(kind, Kind::Proxy | Kind::Service),
        SERVICE => kind == Kind::Service,
        PROXY => kind == Kind::Proxy,
        _ => true,
    }
}

fn without_version(name: &str) -> &str {
    name.split_once('@').map_or(name, |(bare, _)| bare)
}

fn is_sockets(interface: &str) -> bool {
    interface.starts_with("wasi:sockets/")
}

/// Whether an export is a program in a version that this host runs: 0.2 or
/// 0.3, whatever the patch.
fn is_run(name: &str) -> bool {
    let version = name.strip_prefix(RUN).and_then(|it| it.strip_prefix('@'));
    version.is_some_and(|version| {
        let released = |line: &str| version.starts_with(line) && is_released(name);
        released("0.2.") || released("0.3.")
    })
}

/// What this host has for components of a kind.
fn imports(kind: Kind) -> &'static [(&'static str, &'static str, &'static [&'static str])] {
    match kind {
        Kind::Events => EVENT_IMPORTS,
        Kind::Streams | Kind::Proxy | Kind::Service | Kind::Command => CONCURRENT_IMPORTS,
    }
}

/// Whether an import has the name and version of one that this host has.
fn provided(import: &str, kind: Kind) -> bool {
    let Some((bare, version)) = import.split_once('@') else {
        return false;
    };
    let Some((package, interface)) = bare.split_once('/') else {
        return false;
    };
    imports(kind).iter().any(|(name, line, interfaces)| {
        *name == package
            && version.starts_with(line)
            && is_released(import)
            && interfaces.contains(&interface)
    })
}

/// What to do where an import is missing that this host has something like.
fn hint(import: &str, kind: Kind) -> Option<&'static str> {
    let version = import.split_once('@').map_or("", |(_, version)| version);
    let package = package(import);
    let has_package = CONCURRENT_IMPORTS.iter().any(|(name, ..)| *name == package);
    Some(match without_version(import) {
        name if name.starts_with("netwasm:net/") => {
            if !version.starts_with("0.1.") {
                "this host has netwasm:net 0.1"
            } else if provided(import, Kind::Events) {
                "of netwasm:net, guests that await can use client, log, streams and types"
            } else if provided(import, Kind::Streams) {
                "handlers of events have transports in place of streams, and connector and \
                 resolver in place of client"
            } else {
                "a newer netwasm has more of netwasm:net 0.1"
            }
        }
        SERVICE | PROXY => {
            "it is to stand before another handler: compose it with that (`wac plug`)"
        }
        name if is_sockets(name) && kind == Kind::Events => {
            "sockets belong to the host: see netwasm:net/connector and resolver"
        }
        _ if has_package && !is_released(import) => {
            "of WASI, this host has the released versions: build it anew with current tools"
        }
        _ if has_package && kind == Kind::Events => {
            "of WASI, handlers of events can use version 0.2 of cli, clocks, filesystem, io and \
             random"
        }
        _ if has_package => "of WASI, this host has versions 0.2 and 0.3",
        _ => return None,
    })
}

/// The kind of host that has what an import of no package of this one is.
fn belongs_to(import: &str) -> &'static str {
    let owner = package(import).split_once(':').map(|(owner, _)| owner);
    let host = OTHER_HOSTS.iter().find(|(name, _)| Some(*name) == owner);
    host.map_or("other hosts", |(_, host)| host)
}

/// The package of an interface.
fn package(interface: &str) -> &str {
    let bare = without_version(interface);
    bare.split_once('/').map_or(bare, |(package, _)| package)
}

/// The flags of some kinds of listeners, as a person lists them.
fn flags(kinds: &[ListenerKind]) -> String {
    kinds
        .iter()
        .map(|kind| kind.flag())
        .collect::<Vec<_>>()
        .join(" or ")
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+:@%,=".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Whether these bytes are meant as a component or a module in text form.
fn is_text(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else {
        return false;
    };
    let text = text.trim_start();
    text.starts_with('(') || text.starts_with(";;")
}

/// The first line of a parser's message, with the place that its second line
/// draws.
fn text_error(error: &wat::Error) -> String {
    let message = error.to_string();
    let mut lines = message.lines();
    let what = lines.next().unwrap_or_default();
    match lines.find_map(|line| line.trim_start().strip_prefix("--> <anon>:")) {
        Some(place) => format!("its text is wrong at {place}: {what}"),
        None => format!("its text is wrong: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenAddress;

    const TCP: &str = "netwasm:net/tcp-handler@0.1.0";
    const UDP: &str = "netwasm:net/udp-handler@0.1.0";
    const CALL_LATER: &str = "(import \"netwasm:net/timers@0.1.0\" (instance \
        (export \"call-later\" (func (param \"delay\" u64) (result u64)))))";

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
                 netwasm:net/tcp-handler, netwasm:net/udp-handler, wasi:cli/run, \
                 wasi:http/handler, wasi:http/incoming-handler; it exports nothing",
            ),
            (
                &["x:y/z@0.2.6"],
                "it exports none of netwasm:net/http-handler, netwasm:net/stream-handler, \
                 netwasm:net/tcp-handler, netwasm:net/udp-handler, wasi:cli/run, \
                 wasi:http/handler, wasi:http/incoming-handler; it exports x:y/z@0.2.6, for \
                 another host or component to call",
            ),
            (
                &["netwasm:net/tcp-handler@0.2.0"],
                "it exports netwasm:net/tcp-handler@0.2.0, and this host drives version 0.1",
            ),
            (
                &["wasi:http/handler@0.3.0-rc-2026-03-15"],
                "it exports wasi:http/handler@0.3.0-rc-2026-03-15, which was not released so, and \
                 this host drives version 0.3: build it anew with current tools",
            ),
            (
                &["wasi:cli/run@0.2.0-rc-2023-12-05"],
                "it exports wasi:cli/run@0.2.0-rc-2023-12-05, which was not released so, and this \
                 host drives versions 0.2 and 0.3: build it anew with current tools",
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
            &["netwasm:net/tcp-handler@0.1.7"],
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
            interface(&[TCP], CALL_LATER).check_world(Kind::Events),
            Err(
                "it imports netwasm:net/timers but does not export netwasm:net/timer-handler, \
                 to which the answers go"
                    .to_owned()
            )
        );
        let both = interface(&[TCP, "netwasm:net/timer-handler@0.1.0"], CALL_LATER);
        assert_eq!(both.check_world(Kind::Events), Ok(()));
        // One that only has a type of it calls nothing.
        let types = "(import \"netwasm:net/timers@0.1.0\" (instance))";
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
            "(import \"netwasm:net/log@0.1.0\" (instance)) \
             (import \"netwasm:net/log@0.2.0\" (instance)) \
             (import \"wasi:sockets/tcp@0.2.6\" (instance)) \
             (import \"wasi:cli/run@0.3.0\" (instance)) \
             (import \"acme:store/keys\" (instance (export \"get\" (func))))",
        );
        let error = Linker::<()>::new(component.engine())
            .instantiate_pre(&component)
            .err()
            .expect("it is refused");
        assert_eq!(
            unlinkable(&component, Kind::Events, &error),
            "it imports what this host does not have: netwasm:net/log@0.2.0, \
                 wasi:sockets/tcp@0.2.6, wasi:cli/run@0.3.0, acme:store/keys; \
                 of WASI, handlers of events can use version 0.2 of cli, clocks, filesystem, io \
                 and random; \
                 sockets belong to the host: see netwasm:net/connector and resolver; \
                 this host has netwasm:net 0.1; \
                 build it without what belongs to other hosts, or compose it with a component \
                 that exports that (`wac plug`)"
        );
    }

    #[test]
    fn what_was_made_for_another_host_is_told_what_to_do() {
        let compose = "or compose it with a component that exports that (`wac plug`)";
        for (import, advice) in [
            (
                "fermyon:spin/key-value@2.0.0",
                format!("build it without what belongs to Spin, {compose}"),
            ),
            (
                "wasmcloud:messaging/consumer@0.2.0",
                format!("build it without what belongs to wasmCloud, {compose}"),
            ),
            (
                "wasi:keyvalue/store@0.2.0-draft",
                format!("build it without what belongs to other hosts, {compose}"),
            ),
            (
                "wasi:http/types@0.3.0-rc-2026-03-15",
                "of WASI, this host has the released versions: build it anew with current tools"
                    .to_owned(),
            ),
            (
                "wasi:http/types@0.4.0",
                "of WASI, this host has versions 0.2 and 0.3".to_owned(),
            ),
            (
                "wasi:http/handler@0.3.0",
                "it is to stand before another handler: compose it with that (`wac plug`)"
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
        let component = component(&[], CALL_LATER);
        let error = Linker::<()>::new(component.engine())
            .instantiate_pre(&component)
            .err()
            .expect("it is refused");
        let reason = unlinkable(&component, Kind::Events, &error);
        assert!(reason.contains("call-later"), "{reason}");
    }

    #[test]
    fn the_linkers_have_what_is_said_to_be_provided() {
        let limits = Limits::default();
        let engine = engine::plain_engine(Kind::Events, &limits).expect("it is set up");
        has_all(
            engine::linker(&engine).expect("it is set up"),
            EVENT_IMPORTS,
        );
        let engine = engine::plain_engine(Kind::Streams, &limits).expect("it is set up");
        has_all(
            concurrent::linker(&engine).expect("it is set up"),
            CONCURRENT_IMPORTS,
        );
    }

    fn has_all<T: 'static>(mut linker: Linker<T>, imports: &[(&str, &str, &[&str])]) {
        for (package, line, interfaces) in imports {
            for interface in *interfaces {
                if (*package, *interface, *line) == ("wasi:cli", "types", "0.3.") {
                    continue; // It has a type and nothing to define.
                }
                // What has the name already cannot be defined again.
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
        let connect = "(import \"netwasm:net/connector@0.1.0\" (instance \
            (export \"connect\" (func))))";
        let preopens = "(import \"wasi:filesystem/preopens@0.2.6\" (instance \
            (export \"get-directories\" (func))))";
        for (exports, imports, command) in [
            (&[TCP][..], "", "netwasm run a.wasm --tcp 8888"),
            (
                &[TCP, "x:y/udp", UDP],
                "",
                "netwasm run a.wasm --tcp 8888 --udp 8888",
            ),
            (
                &[TCP],
                connect,
                "netwasm run a.wasm --tcp 8888 --allow-connect HOST:PORT",
            ),
            (
                &[UDP],
                preopens,
                "netwasm run a.wasm --udp 8888 --dir HOST::GUEST",
            ),
        ] {
            assert_eq!(
                interface_of(exports, imports).command(Kind::Events, "a.wasm"),
                command
            );
        }
        for (import, function) in [
            ("wasi:http/client@0.3.0", "send"),
            ("wasi:http/outgoing-handler@0.2.4", "handle"),
        ] {
            let import = format!("(import \"{import}\" (instance (export \"{function}\" (func))))");
            assert_eq!(
                interface(&[TCP], &import).command(Kind::Command, "a.wasm"),
                "netwasm run a.wasm --allow-connect HOST:PORT"
            );
        }
        for (import, socket, function, flag) in [
            (
                "tcp@0.2.6",
                "tcp",
                "start-connect",
                "--allow-connect HOST:PORT",
            ),
            ("types@0.3.0", "tcp", "listen", "--allow-listen ADDR"),
            ("types@0.3.0", "udp", "send", "--allow-udp HOST:PORT"),
        ] {
            let import = format!(
                "(import \"wasi:sockets/{import}\" (instance \
                 (export \"{socket}-socket\" (type $socket (sub resource))) \
                 (export \"[method]{socket}-socket.{function}\" \
                 (func (param \"self\" (borrow $socket))))))"
            );
            assert_eq!(
                interface(&[], &import).command(Kind::Command, "a.wasm"),
                format!("netwasm run a.wasm {flag}")
            );
        }
        let lookup = "(import \"wasi:sockets/ip-name-lookup@0.3.0\" (instance \
            (export \"resolve-addresses\" (func))))";
        assert_eq!(
            interface(&[], lookup).command(Kind::Command, "a.wasm"),
            "netwasm run a.wasm --allow-resolve NAME"
        );
        assert_eq!(
            interface(&[TCP], "").command(Kind::Events, "it's"),
            r"netwasm run 'it'\''s' --tcp 8888"
        );
    }

    /// As [`interface`], with names of one length.
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
                b"\x00asm\x01\x00\x00\x00",
                "it is a core module, not a component: build it with `cargo build --target \
                 wasm32-wasip2`, or make a component of it with `wasm-tools component new`",
            ),
            (
                b"(module)",
                "it is a core module, not a component: build it with `cargo build --target \
                 wasm32-wasip2`, or make a component of it with `wasm-tools component new`",
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
                b"(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func)))",
                "it is a core module, not a component: build it with `cargo build --target \
                 wasm32-wasip2`, or make a component of it with `wasm-tools component new`",
            ),
            (
                b"(module (import \"env\" \"x\" (func)) (import \"fastly_http_req\" \"new\" (func)))",
                "it is a core module, not a component, and made for a host that has \
                 fastly_http_req: build it for wasi:http or wasi:cli instead",
            ),
            (
                b"\x00asm\x0c\x00\x01\x00",
                "it is a component in version 12 of the binary form, and this host reads version \
                 13: build it anew with current tools",
            ),
            (b"(component", "its text is wrong at 1:11: expected `)`"),
        ] {
            assert_eq!(to_component_binary(bytes.to_vec()), Err(reason.to_owned()));
        }
        for text in ["(component)", "\n ;; a comment\n(component)"] {
            let binary = to_component_binary(text.as_bytes().to_vec()).expect("it is set up");
            assert_eq!(to_component_binary(binary.clone()), Ok(binary), "{text}");
        }
    }
}
