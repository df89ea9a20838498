//! `netwasm new`: the files of a new project.
//!
//! A project in Rust brings the libraries for handlers and for tests along,
//! with the WIT package: below `netwasm/`, where they lie to each other as in
//! the repository that they are from. One in C or Go brings the library of its
//! language.

use std::fs;
use std::path::Path;

use super::embedded::{C, GO, GUEST, LANGUAGES, TEMPLATES, TEST, WIT};
use super::{ProjectError, write};

/// The manifest of the workspace that the libraries are from.
const WORKSPACE: &str = include_str!(env!("WORKSPACE_MANIFEST"));

/// Settings of cargo for projects in Rust. Names as older compilers write them do
/// not tell of which handler a function of the library is.
const CARGO_CONFIG: &str = "\
# The log line of a trap names functions, with the types that they are of.
[target.wasm32-wasip2]
rustflags = [\"-C\", \"symbol-mangling-version=v0\"]
";

/// The types of the library for JavaScript, for editors.
const TYPES: &str = "js/netwasm.d.ts";

/// Kind of a project: the driver of its component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectKind {
    /// Connections: `--tcp`, `--tls`.
    Tcp,
    /// Datagrams: `--udp`.
    Udp,
    /// HTTP requests: `--http`, `--https`.
    Http,
    /// Connections as streams, which the host can copy.
    Stream,
    /// Nothing: it is a program.
    Program,
}

impl ProjectKind {
    fn flag(self) -> &'static str {
        match self {
            Self::Tcp => "--tcp",
            Self::Udp => "--udp",
            Self::Http => "--http",
            Self::Stream => "--stream",
            Self::Program => "--program",
        }
    }
}

/// Language of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Rust, built by cargo.
    Rust,
    /// JavaScript, built by ComponentizeJS.
    JavaScript,
    /// TypeScript, built by esbuild and ComponentizeJS.
    TypeScript,
    /// Python, built by componentize-py.
    Python,
    /// C, built by zig or clang.
    C,
    /// Go, built by go.
    Go,
}

/// A template for a kind of project in a language.
struct Template {
    kind: ProjectKind,
    language: Language,
    /// The directory of its files.
    directory: &'static str,
    /// Next command in the project's directory.
    next: &'static str,
}

const ALL: [Template; 21] = [
    Template {
        kind: ProjectKind::Tcp,
        language: Language::Rust,
        directory: "rust-tcp",
        next: "netwasm run . --tcp 8888",
    },
    Template {
        kind: ProjectKind::Udp,
        language: Language::Rust,
        directory: "rust-udp",
        next: "netwasm run . --udp 8888",
    },
    Template {
        kind: ProjectKind::Http,
        language: Language::Rust,
        directory: "rust-http",
        next: "netwasm run . --http 8080",
    },
    Template {
        kind: ProjectKind::Stream,
        language: Language::Rust,
        directory: "rust-stream",
        next: "netwasm run . --tcp 8888",
    },
    Template {
        kind: ProjectKind::Program,
        language: Language::Rust,
        directory: "rust-program",
        next: "netwasm run . --allow-listen 127.0.0.1:8888 -- 127.0.0.1:8888",
    },
    Template {
        kind: ProjectKind::Tcp,
        language: Language::JavaScript,
        directory: "js-tcp",
        next: "netwasm run . --tcp 8888",
    },
    Template {
        kind: ProjectKind::Udp,
        language: Language::JavaScript,
        directory: "js-udp",
        next: "netwasm run . --udp 8888",
    },
    Template {
        kind: ProjectKind::Tcp,
        language: Language::TypeScript,
        directory: "ts-tcp",
        next: "netwasm run . --tcp 8888",
    },
    Template {
        kind: ProjectKind::Udp,
        language: Language::TypeScript,
        directory: "ts-udp",
        next: "netwasm run . --udp 8888",
    },
    Template {
        kind: ProjectKind::Http,
        language: Language::TypeScript,
        directory: "ts-http",
        next: "netwasm run . --http 8080",
    },
    Template {
        kind: ProjectKind::Tcp,
        language: Language::Python,
        directory: "python-tcp",
        next: "netwasm run . --tcp 8888",
    },
    Template {
        kind: ProjectKind::Udp,
        language: Language::Python,
        directory: "python-udp",
        next: "netwasm run . --udp 8888",
    },
    Template {
        kind: ProjectKind::Http,
        language: Language::JavaScript,
        directory: "js-http",
        next: "netwasm run . --http 8080",
    },
    Template {
        kind: ProjectKind::Http,
        language: Language::Python,
        directory: "python-http",
        next: "netwasm run . --http 8080",
    },
    Template {
        kind: ProjectKind::Program,
        language: Language::Python,
        directory: "python-program",
        next: "netwasm run . --allow-connect localhost:8888 -- localhost 8888 'Hello!'",
    },
    Template {
        kind: ProjectKind::Tcp,
        language: Language::C,
        directory: "c-tcp",
        next: "netwasm run . --tcp 8888",
    },
    Template {
        kind: ProjectKind::Udp,
        language: Language::C,
        directory: "c-udp",
        next: "netwasm run . --udp 8888",
    },
    Template {
        kind: ProjectKind::Http,
        language: Language::C,
        directory: "c-http",
        next: "netwasm run . --http 8080",
    },
    Template {
        kind: ProjectKind::Tcp,
        language: Language::Go,
        directory: "go-tcp",
        next: "netwasm run . --tcp 8888",
    },
    Template {
        kind: ProjectKind::Udp,
        language: Language::Go,
        directory: "go-udp",
        next: "netwasm run . --udp 8888",
    },
    Template {
        kind: ProjectKind::Http,
        language: Language::Go,
        directory: "go-http",
        next: "netwasm run . --http 8080",
    },
];

/// Makes a project in a new directory, whose name is the project's. Returns
/// what to tell the user.
///
/// # Errors
/// Fails if the name cannot be used, if the directory is there already, if
/// there is no such template, or if a file cannot be written.
pub fn create(
    directory: &Path,
    kind: ProjectKind,
    language: Language,
) -> Result<String, ProjectError> {
    let mut all = ALL.iter();
    let template = all.find(|it| it.kind == kind && it.language == language);
    let template = template.ok_or_else(|| ProjectError::Told(instead(kind, language)))?;
    let name = directory.file_name().and_then(|name| name.to_str());
    let name = name.unwrap_or_default();
    check(name)?;
    if directory.exists() {
        let empty = fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
        if !empty {
            return Err(ProjectError::Told(format!(
                "{} is there already: choose another name, or remove it",
                directory.display()
            )));
        }
    }
    let crate_name = name.replace('-', "_");
    let mut uses_libraries = false;
    let mut uses_types = false;
    for (path, content) in TEMPLATES.iter() {
        let Ok(path) = Path::new(path).strip_prefix(template.directory) else {
            continue;
        };
        uses_libraries |= content.contains("netwasm-guest = ");
        uses_types |= content.contains("from 'netwasm';");
        let content = content.replace("{{name}}", name);
        write(
            &directory.join(path),
            &content.replace("{{crate}}", &crate_name),
        )?;
    }
    if language == Language::Rust {
        write(&directory.join(".cargo/config.toml"), CARGO_CONFIG)?;
    }
    let libraries = directory.join("netwasm");
    if uses_libraries {
        write_libraries(&libraries)?;
    }
    let library: &[_] = match language {
        Language::C => &C,
        Language::Go => &GO,
        Language::Rust | Language::JavaScript | Language::TypeScript | Language::Python => &[],
    };
    for (path, content) in library {
        write(&libraries.join(path), content)?;
    }
    let types = LANGUAGES.iter().find(|(path, _)| *path == TYPES);
    if let Some((path, content)) = types.filter(|_| uses_types) {
        let name = Path::new(path).file_name().unwrap_or_default();
        write(&directory.join(name), content)?;
    }
    let path = directory.display();
    let mut told = format!("created {path}; next: cd {path} && {}", template.next);
    // A line of its own, as a server does not return.
    if language == Language::Rust {
        told += &format!("\nits tests, in another terminal: cd {path} && cargo test");
    }
    Ok(told)
}

/// Writes the libraries that projects in Rust use, as a workspace of their own.
fn write_libraries(directory: &Path) -> Result<(), ProjectError> {
    write(&directory.join("Cargo.toml"), &manifest())?;
    for (library, files) in [
        ("wit", &WIT),
        ("guests/netwasm-guest", &GUEST),
        ("guests/netwasm-test", &TEST),
    ] {
        for (path, content) in files.iter() {
            write(&directory.join(library).join(path), content)?;
        }
    }
    Ok(())
}

/// Returns the manifest of the libraries' workspace: what they take of the one
/// that they are from.
fn manifest() -> String {
    let members: Vec<_> = [
        ("guests/netwasm-guest", &GUEST),
        ("guests/netwasm-test", &TEST),
    ]
    .iter()
    .filter(|(_, files)| !files.is_empty())
    .map(|(path, _)| format!("{path:?}"))
    .collect();
    let mut text = format!(
        "# The libraries of netwasm, until they are on crates.io.\n[workspace]\nresolver = \"3\"\n\
         members = [{}]\n",
        members.join(", ")
    );
    let mut taken = false;
    for line in WORKSPACE.lines() {
        if line.starts_with('[') {
            taken = line.starts_with("[workspace.");
            if taken {
                text.push('\n');
            }
        }
        // Crates of the host are not there.
        if taken && !line.is_empty() && !line.contains("path = \"host/") {
            text += line;
            text.push('\n');
        }
    }
    text
}

/// Checks a project's name, which is a crate's.
fn check(name: &str) -> Result<(), ProjectError> {
    /// Names of crates that a handler needs, and words that cargo refuses.
    const TAKEN: [&str; 8] = [
        "netwasm-guest",
        "netwasm-test",
        "test",
        "core",
        "std",
        "alloc",
        "proc_macro",
        "self",
    ];
    let mut letters = name.chars();
    let begins = letters.next().is_some_and(|it| it.is_ascii_alphabetic());
    let goes_on = letters.all(|it| it.is_ascii_alphanumeric() || matches!(it, '-' | '_'));
    if !begins || !goes_on {
        return Err(ProjectError::Told(format!(
            "'{name}' is not a project name: write a letter, then letters, digits, - and _"
        )));
    }
    if TAKEN.contains(&name) {
        return Err(ProjectError::Told(format!(
            "a project cannot have the name '{name}', which is taken: choose another one"
        )));
    }
    Ok(())
}

/// Says what can be had in place of a project that there is not.
fn instead(kind: ProjectKind, language: Language) -> String {
    let flag = kind.flag();
    match language {
        Language::JavaScript | Language::TypeScript => format!(
            "{flag} is not available in JavaScript: take --tcp, --udp or --http, or {flag} --lang rust"
        ),
        Language::Python => format!(
            "{flag} is not available in Python: take --tcp, --udp, --http or --program, or {flag} \
             --lang rust"
        ),
        Language::C | Language::Go => {
            let (name, short) = match language {
                Language::C => ("C", "c"),
                _ => ("Go", "go"),
            };
            format!(
                "{flag} is not available in {name}, which awaits nothing here: take --tcp, --udp or \
                 --http with --lang {short}, or {flag} --lang rust"
            )
        }
        Language::Rust => format!("{flag} is not available in Rust yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ProjectKind; 5] = [
        ProjectKind::Tcp,
        ProjectKind::Udp,
        ProjectKind::Http,
        ProjectKind::Stream,
        ProjectKind::Program,
    ];

    #[test]
    fn every_kind_can_be_had_in_rust_and_every_template_has_files() {
        for kind in KINDS {
            let mut all = ALL.iter();
            assert!(all.any(|it| it.kind == kind && it.language == Language::Rust));
        }
        for Template { directory, .. } in ALL {
            for file in ["README.md", ".gitignore"] {
                let path = format!("{directory}/{file}");
                assert!(TEMPLATES.iter().any(|(it, _)| *it == path), "{path}");
            }
        }
        let known = |path: &str| {
            ALL.iter()
                .any(|it| Path::new(path).starts_with(it.directory))
        };
        for (path, _) in TEMPLATES.iter() {
            assert!(known(path), "{path} belongs to no template");
        }
    }

    #[test]
    fn what_cannot_be_had_says_what_can() {
        let scratch = tempfile::tempdir().expect("a directory");
        for language in [
            Language::JavaScript,
            Language::TypeScript,
            Language::Python,
            Language::C,
            Language::Go,
        ] {
            for kind in KINDS {
                let path = scratch.path().join(format!("{language:?}-{kind:?}"));
                let has = ALL
                    .iter()
                    .any(|it| it.kind == kind && it.language == language);
                match create(&path, kind, language) {
                    Ok(told) => assert!(has && told.starts_with("created "), "{told}"),
                    Err(error) => {
                        let told = error.to_string();
                        assert!(!has && told.contains("--lang rust"), "{told}");
                        assert!(!path.exists());
                    }
                }
            }
        }
    }

    #[test]
    fn names_are_those_of_crates() {
        for name in ["shout", "a", "my-handler_2"] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "2fast",
            "-x",
            "a b",
            "../up",
            "straße",
            "core",
            "netwasm-guest",
        ] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_libraries_take_the_settings_of_the_workspace() {
        let text = manifest();
        let table: toml::Table = text.parse().expect("it is TOML");
        let workspace = table["workspace"].as_table().expect("a workspace");
        for name in ["package", "dependencies", "lints", "members"] {
            assert!(workspace.contains_key(name), "no {name} in {text}");
        }
        assert_eq!(table.len(), 1, "{text}");
        assert!(!text.contains("netwasm-base"), "{text}");
    }
}
