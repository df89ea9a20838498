//! Permissions that a component may need, told by the functions that it
//! imports, and functions that are denied whatever is allowed.
//!
//! An import is no proof of a need: libraries import more than a program calls.
//! So these are no part of the command that is advised.

use std::fmt::{self, Display, Formatter};

use crate::fit::{Interface, PACKAGE, is_sockets, without_version};
use crate::kind::Kind;

/// A flag that a component may need, and the imports that are the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// The flag with its argument. Words in capitals are to be filled in.
    pub(crate) flag: &'static str,
    /// Imported functions, as `INTERFACE FUNCTION`.
    pub(crate) imports: Vec<String>,
}

impl Display for Need {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}, for ", self.flag)?;
        let mut before = "";
        for (index, import) in self.imports.iter().take(MOST_TOLD).enumerate() {
            let (interface, function) = import.split_once(' ').unwrap_or(("", import));
            let comma = if index > 0 { ", " } else { "" };
            match interface == before {
                true => write!(f, "{comma}{function}")?,
                false => write!(f, "{comma}{import}")?,
            }
            before = interface;
        }
        match self.imports.len().saturating_sub(MOST_TOLD) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Most imports that are told as the reason for a flag.
const MOST_TOLD: usize = 4;

const CONNECT: &str = "--allow-connect HOST:PORT";
const UDP: &str = "--allow-udp HOST:PORT";
const RESOLVE: &str = "--allow-resolve NAME";
const LISTEN: &str = "--allow-listen ADDR";
const DIR: &str = "--dir HOST::GUEST";
const BLOBSTORE: &str = "--blobstore NAME=DIR";
const CONFIG: &str = "--config-var NAME=VALUE";
const KEYVALUE: &str = "--keyvalue NAME=memory:";
const OTLP: &str = "--otlp URL";

/// Flags in the order in which they are shown. A flag for connecting or sending
/// also allows look-ups of its names, so it needs no other.
const FLAGS: [&str; 9] = [
    CONNECT, UDP, RESOLVE, LISTEN, DIR, BLOBSTORE, KEYVALUE, CONFIG, OTLP,
];

/// Functions of this host's own package, and the flag that each needs.
const OWN: [(&str, &str, &str); 16] = [
    ("connector", "connect", CONNECT),
    ("pools", "open", CONNECT),
    ("websocket-client", "connect", CONNECT),
    ("client", "connect", CONNECT),
    ("client", "[static]pool.open", CONNECT),
    ("sockets", "connect", CONNECT),
    ("datagram-connector", "connect", UDP),
    ("datagram-connector", "bind", UDP),
    ("client", "[static]datagram-socket.connect", UDP),
    ("client", "[method]datagram-socket.send-to", UDP),
    ("sockets", "send-to", UDP),
    ("resolver", "resolve", RESOLVE),
    ("client", "resolve", RESOLVE),
    ("sockets", "look-up", RESOLVE),
    ("sockets", "listen", LISTEN),
    ("files", "[static]file.open", DIR),
];

/// Functions of WASI, 0.2 and 0.3, and the flag that each needs, besides [`PATHS`].
const WASI: [(&str, &str, &str); 25] = [
    ("fermyon:spin/key-value", "[static]store.open", KEYVALUE),
    ("fermyon:spin/variables", "get", CONFIG),
    ("spin:key-value/key-value", "[static]store.open", KEYVALUE),
    ("spin:variables/variables", "get", CONFIG),
    ("wasi:config/runtime", "get", CONFIG),
    ("wasi:config/runtime", "get-all", CONFIG),
    ("wasi:config/store", "get", CONFIG),
    ("wasi:config/store", "get-all", CONFIG),
    ("wasi:keyvalue/store", "open", KEYVALUE),
    ("wasi:blobstore/blobstore", "copy-object", BLOBSTORE),
    ("wasi:blobstore/blobstore", "create-container", BLOBSTORE),
    ("wasi:blobstore/blobstore", "get-container", BLOBSTORE),
    ("wasi:blobstore/blobstore", "move-object", BLOBSTORE),
    ("wasi:http/client", "send", CONNECT),
    ("wasi:http/outgoing-handler", "handle", CONNECT),
    ("wasi:otel/logs", "on-emit", OTLP),
    ("wasi:otel/metrics", "export", OTLP),
    ("wasi:otel/tracing", "on-end", OTLP),
    (
        "wasi:sockets/tcp",
        "[method]tcp-socket.start-connect",
        CONNECT,
    ),
    ("wasi:sockets/types", "[method]tcp-socket.connect", CONNECT),
    (
        "wasi:sockets/udp",
        "[method]outgoing-datagram-stream.send",
        UDP,
    ),
    ("wasi:sockets/types", "[method]udp-socket.send", UDP),
    ("wasi:sockets/ip-name-lookup", "resolve-addresses", RESOLVE),
    (
        "wasi:sockets/tcp",
        "[method]tcp-socket.start-listen",
        LISTEN,
    ),
    ("wasi:sockets/types", "[method]tcp-socket.listen", LISTEN),
];

/// Methods of `wasi:filesystem/types` that take a path, or list a directory. Standard
/// libraries ask for the directories, and write to standard output as to a file,
/// even if the program knows no files.
const PATHS: [&str; 12] = [
    "create-directory-at",
    "link-at",
    "metadata-hash-at",
    "open-at",
    "read-directory",
    "readlink-at",
    "remove-directory-at",
    "rename-at",
    "set-times-at",
    "stat-at",
    "symlink-at",
    "unlink-file-at",
];

impl Interface {
    /// Returns the flags that it may need, beyond those of its listeners: the
    /// fewest that allow what it imports.
    pub(crate) fn needs(&self, kind: Kind) -> Vec<Need> {
        let mut needs: Vec<Need> = FLAGS
            .iter()
            .map(|flag| Need {
                flag,
                imports: Vec::new(),
            })
            .collect();
        for (interface, function) in &self.functions {
            if is_denied(interface, kind) {
                continue;
            }
            let Some(flag) = flag_of(interface, function) else {
                continue;
            };
            if let Some(need) = needs.iter_mut().find(|need| need.flag == flag) {
                need.imports.push(shown(interface, function));
            }
        }
        needs.retain(|need| !need.imports.is_empty());
        let reaches = needs.iter().any(|it| [CONNECT, UDP].contains(&it.flag));
        needs.retain(|need| need.flag != RESOLVE || !reaches);
        needs
    }

    /// True for an import of which nothing needs a flag, or is denied.
    pub(crate) fn is_harmless(&self, import: &str) -> bool {
        let bare = without_version(import);
        let mut functions = self
            .functions
            .iter()
            .filter(|(interface, _)| interface == bare);
        functions.all(|(interface, function)| flag_of(interface, function).is_none())
    }

    /// Returns the imported functions that are denied whatever is allowed, as
    /// `INTERFACE FUNCTION`.
    pub(crate) fn denied(&self, kind: Kind) -> Vec<String> {
        let functions = self.functions.iter();
        let denied = functions.filter(|(interface, function)| {
            is_denied(interface, kind) && flag_of(interface, function).is_some()
        });
        denied
            .map(|(interface, function)| shown(interface, function))
            .collect()
    }
}

/// True if handlers of a kind may not call an interface, which is linked since a
/// language's library imports it unasked.
fn is_denied(interface: &str, kind: Kind) -> bool {
    kind == Kind::Events && is_sockets(interface)
}

fn flag_of(interface: &str, function: &str) -> Option<&'static str> {
    let own = interface.strip_prefix(PACKAGE);
    let own = own.and_then(|it| it.strip_prefix('/'));
    if interface == "wasi:filesystem/types" {
        let method = function.strip_prefix("[method]descriptor.")?;
        return PATHS.contains(&method).then_some(DIR);
    }
    let found = match own {
        Some(own) => OWN.iter().find(|it| (it.0, it.1) == (own, function)),
        None => WASI.iter().find(|it| (it.0, it.1) == (interface, function)),
    };
    found.map(|(_, _, flag)| *flag)
}

/// Returns a function as a reader of WIT knows it.
fn shown(interface: &str, function: &str) -> String {
    let name = function.rsplit([']', '.']).next().unwrap_or(function);
    format!("{interface} {name}")
}
