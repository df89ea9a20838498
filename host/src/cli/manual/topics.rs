//! The topics of `netwasm help`: sections of the documentation, and groups of
//! flags.

use clap::{Arg, CommandFactory};

use crate::cli::{Cli, config, help};
use crate::prose::{Block, StyledText, section};

/// The documentation, whose sections topics have.
pub(super) const DOCUMENT: &str = include_str!("../../../OPERATING.md");

/// A topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: &'static str,
    /// A line about it.
    pub(super) about: &'static str,
    parts: &'static [Part],
}

/// A part of a topic.
#[derive(Debug)]
enum Part {
    /// A section of the documentation, by its heading.
    Section(&'static str),
    /// The flags of `netwasm run` below a heading of its help.
    Flags(&'static str),
    /// The keys of configuration files.
    Keys,
    /// The modes of `--isolation`.
    Modes,
    /// The values that flags and keys have.
    Values,
    /// The exit codes.
    ExitCodes,
}

use Part::{ExitCodes, Flags, Keys, Modes, Section, Values};

/// Name of the topic that is a page of section 5.
pub(super) const KEYS: &str = "keys";

pub(super) static TOPICS: [Topic; 24] = [
    Topic {
        name: "clients",
        about: "which clients may connect, and how much each may ask for",
        parts: &[Section("Clients")],
    },
    Topic {
        name: "configuration",
        about: "services, routes and settings in a file",
        parts: &[Section("Configuration")],
    },
    Topic {
        name: "environment",
        about: "variables that are read",
        parts: &[Section("Environment")],
    },
    Topic {
        name: "exit-codes",
        about: "what the program's exit code tells",
        parts: &[ExitCodes],
    },
    Topic {
        name: "forwarding",
        about: "upstream groups: balance, health, retries",
        parts: &[Section("Upstreams")],
    },
    Topic {
        name: "http",
        about: "limits of requests, access logs, redirects",
        parts: &[Flags("HTTP"), Section("Redirects to HTTPS")],
    },
    Topic {
        name: "installation",
        about: "packages, completions, manual pages, and what is wrong with a machine",
        parts: &[
            Section("Install"),
            Section("Completions, manual pages, doctor"),
        ],
    },
    Topic {
        name: "interfaces",
        about: "standard interfaces: logging, configuration, keys and values",
        parts: &[Section("Standard interfaces")],
    },
    Topic {
        name: "isolation",
        about: "which clients share an instance, and so its memory",
        parts: &[
            Section("Isolation"),
            Modes,
            Section("State that instances share"),
        ],
    },
    Topic {
        name: KEYS,
        about: "the keys of configuration files",
        parts: &[Keys, Values],
    },
    Topic {
        name: "limits",
        about: "time, memory, connections and queues",
        parts: &[Section("Time of guests"), Flags("Limits")],
    },
    Topic {
        name: "machines",
        about: "several processes and machines: probes, balancers, orchestrators",
        parts: &[Section("Many machines")],
    },
    Topic {
        name: "modules",
        about: "core modules, and components that are composed",
        parts: &[Section("Modules and compositions")],
    },
    Topic {
        name: "objects",
        about: "containers of wasi:blobstore",
        parts: &[Section("Objects")],
    },
    Topic {
        name: "permissions",
        about: "what a guest may reach, and the flags that allow it",
        parts: &[Section("Permissions"), Flags("Guest"), Values],
    },
    Topic {
        name: "registries",
        about: "components by oci://HOST/NAME:TAG: credentials, cache, signatures",
        parts: &[Section("Registries"), Flags("Registries")],
    },
    Topic {
        name: "reloading",
        about: "new settings, components and binaries without a lost connection; shutdown",
        parts: &[Section("Reload"), Section("Shutdown")],
    },
    Topic {
        name: "systemd",
        about: "sockets, notifications and the watchdog of the service manager",
        parts: &[Section("systemd")],
    },
    Topic {
        name: "tcp",
        about: "options of TCP connections",
        parts: &[Section("TCP")],
    },
    Topic {
        name: "tls",
        about: "versions, cipher suites, certificates and authorities",
        parts: &[Section("TLS"), Flags("TLS")],
    },
    Topic {
        name: "unix",
        about: "Unix sockets and their rights",
        parts: &[Section("Unix sockets")],
    },
    Topic {
        name: "users",
        about: "starting as root, and going on as another user",
        parts: &[Section("Users")],
    },
    Topic {
        name: "watching",
        about: "health, metrics, traces and access logs",
        parts: &[Section("Watching")],
    },
    Topic {
        name: "websocket",
        about: "WebSocket connections, topics and events",
        parts: &[Section("WebSocket")],
    },
];

impl Topic {
    /// Returns the text. A part has a heading if there are others.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        for part in self.parts {
            if self.parts.len() > 1 {
                blocks.push(Block::Heading(part.heading().to_owned()));
            }
            blocks.extend(part.blocks());
        }
        blocks
    }
}

impl Part {
    fn heading(&self) -> &str {
        match self {
            Self::Section(heading) => heading,
            Self::Flags(_) => "Flags",
            Self::Keys => "Keys",
            Self::Modes => "Modes",
            Self::Values => "Values",
            Self::ExitCodes => "Exit codes",
        }
    }

    fn blocks(&self) -> Vec<Block> {
        match self {
            // A test makes sure that it is there.
            Self::Section(heading) => Block::read(section(DOCUMENT, heading).unwrap_or_default()),
            Self::Flags(heading) => vec![Block::Terms(flags(heading))],
            Self::Keys => config::described(),
            Self::Modes => {
                let modes = help::ISOLATION.into_iter();
                let modes = modes.map(|(mode, about)| {
                    (vec![StyledText::code(mode)], vec![StyledText::plain(about)])
                });
                vec![Block::Terms(modes.collect())]
            }
            Self::Values => vec![Block::Lines(help::terms())],
            Self::ExitCodes => {
                let lines = help::EXIT_CODES.lines().skip(1);
                let lines = lines.map(|line| line.strip_prefix("  ").unwrap_or(line));
                vec![Block::Lines(lines.collect::<Vec<_>>().join("\n"))]
            }
        }
    }
}

/// Returns the flags below a heading, and what they mean.
fn flags(heading: &str) -> Vec<(Vec<StyledText>, Vec<StyledText>)> {
    let command = Cli::command();
    let run = command.find_subcommand("run");
    let all = run.into_iter().flat_map(clap::Command::get_arguments);
    let flags = all.filter(|arg| arg.get_help_heading() == Some(heading) && !arg.is_hide_set());
    let flags = flags.map(|arg| {
        let about = arg.get_help().map(ToString::to_string);
        (
            term(arg),
            vec![StyledText::plain(about.unwrap_or_default())],
        )
    });
    flags.collect()
}

fn term(arg: &Arg) -> Vec<StyledText> {
    let name = match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => arg.get_id().to_string(),
    };
    let values = match arg.get_action().takes_values() {
        true => arg.get_value_names().unwrap_or_default(),
        false => &[],
    };
    let values = values.iter().map(|value| format!(" {value}"));
    let mut term = vec![StyledText::code(name + &values.collect::<String>())];
    if let Some(default) = arg.get_default_values().first()
        && arg.get_action().takes_values()
    {
        term.push(StyledText::plain(format!(
            " (default: {})",
            default.to_string_lossy()
        )));
    }
    term
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_section_of_the_documentation_belongs_to_a_topic() {
        let parts = || TOPICS.iter().flat_map(|topic| topic.parts);
        for heading in DOCUMENT.lines().filter_map(|line| line.strip_prefix("## ")) {
            let mut parts = parts();
            let found = parts.any(|part| matches!(part, Section(it) if *it == heading));
            assert!(
                found,
                "no topic has the section '{heading}' of OPERATING.md"
            );
        }
        for part in parts() {
            assert!(!part.blocks().is_empty(), "{part:?}");
            if let Flags(heading) = part {
                assert!(flags(heading).len() > 3, "{heading}");
            }
        }
    }

    #[test]
    fn topics_are_sorted_and_no_commands() {
        let names = TOPICS.each_ref().map(|topic| topic.name);
        assert!(names.is_sorted(), "{names:?}");
        for name in names {
            assert!(Cli::command().find_subcommand(name).is_none(), "{name}");
        }
    }
}
