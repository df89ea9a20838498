//! The components that are part of the program.

use std::path::Path;

use netwasm_base::config::ComponentSource;

/// A component that is part of the program.
pub(super) struct BuiltIn {
    name: &'static str,
    /// A line for the help: the description of the guest's crate.
    about: &'static str,
    bytes: &'static [u8],
}

macro_rules! built_in {
    ($($name:literal => $about:literal,)*) => {
        [$(BuiltIn {
            name: $name,
            about: $about,
            bytes: include_bytes!(concat!(env!("GUESTS_DIRECTORY"), "/", $name, ".wasm")),
        },)*]
    };
}

const ALL: [BuiltIn; 20] = built_in! {
    "chat" => "A chat room: lines from one client go to all others",
    "chat-web" => "A chat in the browser, over WebSocket and topics",
    "echo" => "Sends back what it receives, over TCP and UDP",
    "fetch" => "Fetches URLs, all at once, and prints the status of each",
    "file-server" => "Serves files over HTTP on any host of wasi:http and wasi:filesystem 0.3",
    "gateway" => "Decides where HTTP requests go, by host, path, token, share and rate; the host forwards them",
    "hello" => "Answers every request with a greeting",
    "pool" => "Sends messages, all at once, over a pool of connections",
    "proxy" => "Forwards connections to other servers in turn",
    "relay-echo" => "Sends back what it receives, without seeing it",
    "resolve" => "Looks names up, all at once",
    "reverse-proxy" => "Passes every request on to another HTTP server, and the response back",
    "router" => "Answers HTTP requests by their paths: pages, parameters, JSON, a redirect",
    "socket-echo" => "An echo server on wasi:sockets, which runs on any WASI 0.3 host",
    "static" => "Serves the files of a directory over HTTP",
    "stream-echo" => "Sends back what it receives, as a task for each connection",
    "stream-relay" => "Sends back what it receives without seeing it: the host copies",
    "tcp-client" => "Connects, sends a line, prints what comes back; on wasi:sockets",
    "upgrade" => "Speaks plain text, then continues in TLS",
    "ws-echo" => "Sends every WebSocket message back",
};

/// Returns the component of this name.
pub(super) fn find(name: &str) -> Option<ComponentSource> {
    let found = ALL.into_iter().find(|it| it.name == name)?;
    Some(ComponentSource::BuiltIn {
        name: found.name,
        bytes: found.bytes,
    })
}

/// Returns all names.
pub(super) fn names() -> [&'static str; ALL.len()] {
    ALL.map(|it| it.name)
}

/// Returns the name of each component, and what it does.
pub(super) fn described() -> [(&'static str, &'static str); ALL.len()] {
    ALL.map(|it| (it.name, it.about))
}

/// Returns a line for each component, for the help.
pub(super) fn list() -> String {
    let mut text = String::from("Built-in components:\n");
    for BuiltIn { name, about, .. } in ALL {
        text += &format!("  {name:<14} {about}\n");
    }
    text
}

/// True if an argument is a component, as far as its text and the file system
/// tell: a built-in one, a file, or a project's directory.
pub(super) fn is_component(argument: &str) -> bool {
    let path = Path::new(argument);
    let end = path.extension().and_then(|end| end.to_str());
    find(argument).is_some()
        || end.is_some_and(|end| ["wasm", "wat", "cwasm"].contains(&end))
        || path.join("Cargo.toml").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_help_is_what_the_guests_crate_says() {
        for BuiltIn { name, about, .. } in ALL {
            let guests = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../guests"));
            let manifest = guests.join(name).join("Cargo.toml");
            let manifest = std::fs::read_to_string(manifest).expect("a manifest");
            let line = format!("description = \"{about}\"\n");
            assert!(manifest.contains(&line), "{name}: no {line}");
        }
    }
}
