//! The flags of the commands for writing a handler: `new`, `build` and `wit`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args};

use crate::project::build::BuildOptions;
use crate::project::new::{Language, ProjectKind};

use super::{Command, usage};

/// Names of languages; [`language`] takes others for them, too.
pub(super) const LANGUAGES: [&str; 6] = ["rust", "js", "ts", "python", "c", "go"];

#[derive(Args, Debug)]
#[command(group(
    ArgGroup::new("kind").required(true).args(["tcp", "udp", "http", "websocket", "stream", "program"])
))]
pub(super) struct NewFlags {
    /// The directory to make; its name is the project's
    name: PathBuf,
    /// A handler of connections, for `run --tcp` and --tls
    #[arg(long)]
    tcp: bool,
    /// A handler of datagrams, for `run --udp`
    #[arg(long)]
    udp: bool,
    /// A handler of HTTP requests, for `run --http` and --https
    #[arg(long)]
    http: bool,
    /// A handler of WebSocket connections and the requests beside them, for `run --http`
    #[arg(long)]
    websocket: bool,
    /// A handler of connections as streams, which the host can copy
    #[arg(long)]
    stream: bool,
    /// A program, which opens connections or listeners by itself
    #[arg(long)]
    program: bool,
    /// Its language: rust; for --tcp, --udp and --http also js, ts, python, c and go; for
    /// --websocket also js, ts and python; for --program also python
    #[arg(long, value_name = "LANGUAGE", value_parser = language, default_value = "rust")]
    lang: Language,
}

#[derive(Args, Debug)]
pub(super) struct BuildFlags {
    /// The project's directory
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
    /// Build quickly, without optimisation
    #[arg(long)]
    debug: bool,
    /// More arguments for cargo
    #[arg(last = true, value_name = "ARGS")]
    cargo: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(super) struct WitFlags {
    /// Write files to a directory, one for each interface
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write WASI 0.2 instead, as of a release such as 0.2.10: worlds for tools of other languages
    #[arg(long, value_name = "RELEASE", requires = "out")]
    wasi: Option<Option<String>>,
    /// Write what handlers in js, ts, python, c or go are built from, such as the library
    #[arg(long, value_name = "LANGUAGE", value_parser = language, requires = "out", conflicts_with = "wasi")]
    lang: Option<Language>,
}

impl NewFlags {
    pub(super) fn into_command(self) -> Command {
        let kinds = [
            (self.tcp, ProjectKind::Tcp),
            (self.udp, ProjectKind::Udp),
            (self.http, ProjectKind::Http),
            (self.websocket, ProjectKind::WebSocket),
            (self.stream, ProjectKind::Stream),
        ];
        let kind = kinds.iter().find(|(given, _)| *given);
        Command::New {
            directory: self.name,
            // One of the group is given.
            kind: kind.map_or(ProjectKind::Program, |(_, kind)| *kind),
            language: self.lang,
        }
    }
}

impl BuildFlags {
    pub(super) fn into_command(self) -> Result<Command, clap::Error> {
        if !self.path.is_dir() {
            return Err(usage(&format!(
                "there is no directory {}: `netwasm build PATH` takes a project's",
                self.path.display()
            )));
        }
        Ok(Command::Build {
            directory: self.path,
            options: BuildOptions {
                debug: self.debug,
                cargo: self.cargo,
            },
        })
    }
}

impl WitFlags {
    pub(super) fn into_command(self) -> Command {
        Command::Wit {
            out: self.out,
            wasi: self.wasi,
            language: self.lang,
        }
    }
}

fn language(text: &str) -> Result<Language, String> {
    match text.to_ascii_lowercase().as_str() {
        "rust" | "rs" => Ok(Language::Rust),
        "js" | "javascript" => Ok(Language::JavaScript),
        "ts" | "typescript" => Ok(Language::TypeScript),
        "python" | "py" => Ok(Language::Python),
        "c" => Ok(Language::C),
        "go" => Ok(Language::Go),
        _ => Err("write rust, js, ts, python, c or go".into()),
    }
}
