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
use crate::wasm::engine;

/// The package whose handlers this host drives.
const PACKAGE: &str = "netwasm:net";

/// Handlers that listeners drive, the flags of those, and what arrives there.
const LISTENING: [(&str, &[ListenerKind], &str); 2] = [
    ("tcp-handler", &[ListenerKind::Tcp, ListenerKind::Tls], "byte-stream connections"),
    ("udp-handler", &[ListenerKind::Udp], "datagrams"),
];

/// Handlers that get the end of what a function began: interface and name of
/// the function, and the handler.
const COMPLETING: [(&str, &str, &str); 3] = [
    ("connector", "connect", "connect-handler"),
    ("timers", "call-later", "timer-handler"),
    ("resolver", "resolve", "resolve-handler"),
];

/// Looks at a component without running it.
///
/// # Errors
/// It cannot be read, or is no component; not that this host cannot run it,
/// which is [`Report::problem`].
pub fn inspect(source: &ComponentSource, limits: &Limits) -> Result<Report, Error> {
    let name = source.to_string();
    let wrong = |reason| Error::Component { name: name.clone(), reason };
    let bytes = engine::read(source, limits)?;
    let size = bytes.len() as u64;
    let engine = engine::plain_engine(limits)?;
    let bytes = to_component_binary(bytes).map_err(wrong)?;
    let component =
        Component::from_binary(&engine, &bytes).map_err(|error| wrong(format!("{error:#}")))?;
    let linker =
        engine::linker(&engine).map_err(|error| Error::Engine(format!("{error:#}")))?;
    Ok(Report::new(name, size, &component, &linker))
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
    fn new<T: 'static>(name: String, size: u64, component: &Component, linker: &Linker<T>) -> Self {
        let engine = linker.engine();
        let interface = Interface::of(component, engine);
        let problem = interface
            .check_world()
            .and_then(|()| check_imports(component, linker))
            .err();
        Self {
            command: interface.command(&name),
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
    listeners: &[ListenerConfig],
) -> Result<(), String> {
    let interface = Interface::of(component, engine);
    interface.check_world()?;
    interface.check_listeners(listeners)
}

/// Checks that the linker has all that a component imports.
///
/// # Errors
/// A sentence that names every import that is missing, or the first one that
/// is there in another shape.
pub(crate) fn check_imports<T: 'static>(
    component: &Component,
    linker: &Linker<T>,
) -> Result<(), String> {
    let Err(error) = linker.instantiate_pre(component) else { return Ok(()) };
    let engine = linker.engine();
    let ty = component.component_type();
    // An import of an instance in which nothing is asked for is satisfied by
    // whatever has its name.
    let provided = |name: &str| {
        let text = format!("(component (import \"{name}\" (instance)))");
        Component::new(engine, text)
            .and_then(|probe| linker.instantiate_pre(&probe))
            .is_ok()
    };
    let missing: Vec<&str> =
        ty.imports(engine).map(|(name, _)| name).filter(|name| !provided(name)).collect();
    if missing.is_empty() {
        return Err(format!("{error:#}"));
    }
    let mut reason = format!("it imports what this host does not have: {}", missing.join(", "));
    let hints: BTreeSet<&str> = missing.iter().filter_map(|name| hint(name)).collect();
    for hint in hints {
        reason.push_str("; ");
        reason.push_str(hint);
    }
    Err(reason)
}

/// Turns a component in text form into binary form, and checks that it is one.
///
/// # Errors
/// A sentence that says what it is instead, and what would be right.
pub(crate) fn to_component_binary(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let bytes = match is_text(&bytes) {
        true => wat::parse_bytes(&bytes).map_err(|error| text_error(&error))?.into_owned(),
        false => bytes,
    };
    if Engine::detect_precompiled(&bytes) == Some(Precompiled::Component) {
        return Err("it is compiled code; take the component that it was made from".into());
    }
    // The magic number, the version, and the layer: 0 is a module, 1 a
    // component.
    match *bytes {
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(bytes),
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => Err("it is a core module, not a component: build \
            it with `cargo build --target wasm32-wasip2`, or make a component of it with \
            `wasm-tools component new`"
            .into()),
        [] => Err("it is empty".into()),
        [0x7f, b'E', b'L', b'F', ..] => {
            Err("it is a native program or library, not a WebAssembly component".into())
        }
        _ => Err("it is not a WebAssembly component, neither in binary nor in text form".into()),
    }
}

/// Imports and exports of a component, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Interface {
    exports: Vec<String>,
    imports: Vec<String>,
    /// The functions that it imports, by interface; that an interface is
    /// imported may just mean that one of its types is.
    functions: BTreeSet<(String, String)>,
}

impl Interface {
    fn of(component: &Component, engine: &Engine) -> Self {
        let ty = component.component_type();
        let mut interface = Self::default();
        for (name, _) in ty.exports(engine) {
            interface.exports.push(name.to_owned());
        }
        for (name, item) in ty.imports(engine) {
            interface.imports.push(name.to_owned());
            let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
            for (function, item) in instance.exports(engine) {
                if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                    interface.functions.insert((without_version(name).to_owned(), function.to_owned()));
                }
            }
        }
        interface
    }

    /// Whether it exports a handler in a version that this host drives.
    fn handles(&self, handler: &str) -> bool {
        self.exports.iter().any(|name| ours(name) == Some(handler))
    }

    /// Whether it can call a function of this host's own package.
    fn calls(&self, interface: &str, function: &str) -> bool {
        self.functions.contains(&(format!("{PACKAGE}/{interface}"), function.to_owned()))
    }

    /// Whether it can open files that `--dir` gives.
    fn opens_files(&self) -> bool {
        self.calls("files", "[static]file.open")
            || self.functions.iter().any(|(name, _)| name == "wasi:filesystem/preopens")
    }

    /// Whether what it begins by connecting can be told to it.
    fn check_world(&self) -> Result<(), String> {
        if !LISTENING.iter().any(|(handler, ..)| self.handles(handler)) {
            return Err(self.wrong_world());
        }
        for (interface, function, handler) in COMPLETING {
            if self.calls(interface, function) && !self.handles(handler) {
                return Err(format!(
                    "it imports {PACKAGE}/{interface} but does not export {PACKAGE}/{handler}, \
                     to which the answers go"
                ));
            }
        }
        Ok(())
    }

    fn wrong_world(&self) -> String {
        let other_version = self.exports.iter().find(|name| {
            let bare = without_version(name);
            LISTENING.iter().any(|(handler, ..)| bare == format!("{PACKAGE}/{handler}"))
        });
        if let Some(name) = other_version {
            return format!("it exports {name}, and this host drives version 0.1");
        }
        let handlers = LISTENING.map(|(handler, ..)| format!("{PACKAGE}/{handler}")).join(", ");
        match self.exports.is_empty() {
            true => format!("it exports none of {handlers}; it exports nothing"),
            false => {
                format!("it exports none of {handlers}; it exports {}", self.exports.join(", "))
            }
        }
    }

    fn check_listeners(&self, listeners: &[ListenerConfig]) -> Result<(), String> {
        for (handler, kinds, _) in LISTENING {
            let listener = listeners.iter().find(|listener| kinds.contains(&listener.kind));
            match listener {
                Some(listener) if !self.handles(handler) => {
                    let exported = LISTENING.iter().filter(|(other, ..)| self.handles(other));
                    let driven: Vec<String> = exported
                        .map(|(other, kinds, _)| {
                            format!("{PACKAGE}/{other}, which {} drives", flags(kinds))
                        })
                        .collect();
                    return Err(format!(
                        "{} needs a component that exports {PACKAGE}/{handler}; it exports {}",
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

    fn command(&self, name: &str) -> String {
        let mut command = format!("netwasm run {}", quoted(name));
        for (handler, kinds, _) in LISTENING {
            if self.handles(handler) {
                command.push_str(&format!(" {} 8888", kinds[0].flag()));
            }
        }
        if self.calls("connector", "connect") || self.calls("resolver", "resolve") {
            command.push_str(" --allow-connect HOST:PORT");
        }
        if self.opens_files() {
            command.push_str(" --dir HOST::GUEST");
        }
        command
    }
}

/// The name of an interface of this host's package in a version that it
/// speaks: 0.1, whatever the patch.
fn ours(name: &str) -> Option<&str> {
    let (interface, version) = name.strip_prefix(PACKAGE)?.strip_prefix('/')?.split_once('@')?;
    let patch = version.strip_prefix("0.1.")?;
    patch.starts_with(|c: char| c.is_ascii_digit()).then_some(interface)
}

fn without_version(name: &str) -> &str {
    name.split_once('@').map_or(name, |(bare, _)| bare)
}

/// What to do where an import is missing.
fn hint(import: &str) -> Option<&'static str> {
    let version = import.split_once('@').map_or("", |(_, version)| version);
    match without_version(import) {
        name if name.starts_with("netwasm:net/") => match version.starts_with("0.1.") {
            true => Some("a newer netwasm has more of netwasm:net 0.1"),
            false => Some("this host has netwasm:net 0.1"),
        },
        name if name.starts_with("wasi:") && !version.starts_with("0.2.") => {
            Some("of WASI, handlers can use version 0.2")
        }
        name if name.starts_with("wasi:sockets/") => {
            Some("sockets belong to the host: see netwasm:net/connector and resolver")
        }
        _ => None,
    }
}

/// The flags of some kinds of listeners, as a person lists them.
fn flags(kinds: &[ListenerKind]) -> String {
    kinds.iter().map(|kind| kind.flag()).collect::<Vec<_>>().join(" or ")
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
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let text = text.trim_start_matches('\u{feff}').trim_start();
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

    fn engine() -> Engine {
        Engine::default()
    }

    fn component(text: &str) -> Component {
        Component::new(&engine_of_tests(), text).unwrap_or_else(|e| panic!("{text}: {e:#}"))
    }

    fn engine_of_tests() -> Engine {
        engine()
    }
}
