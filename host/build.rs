//! Embeds the files that `netwasm wit` and `netwasm new` write, compressed: for
//! each tree a list of paths and places, so that no new file can be forgotten.
//! Says where the guests are that are part of the program, and what it is built
//! for.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// A tree of files: the name of its list, its directory in the repository, the
/// end of the files' names, and what the list is.
const TREES: [(&str, &str, &str, &str); 8] = [
    ("WIT", "wit", ".wit", "The WIT package of this host."),
    (
        "WASI",
        "host/src/project/wasi-0.2",
        ".wit",
        "The WIT packages of WASI 0.2.",
    ),
    (
        "TEMPLATES",
        "host/src/project/new",
        "",
        "The files of new projects, in a directory for each kind.",
    ),
    (
        "LANGUAGES",
        "host/src/project/languages",
        "",
        "The worlds and libraries for handlers in other languages.",
    ),
    (
        "GUEST",
        "guests/netwasm-guest",
        "",
        "The library for handlers.",
    ),
    (
        "TEST",
        "guests/netwasm-test",
        "",
        "The library for handlers' tests.",
    ),
    (
        "C",
        "host/src/project/libraries/c",
        "",
        "The library for handlers in C.",
    ),
    (
        "GO",
        "host/src/project/libraries/go",
        "",
        "The library for handlers in Go.",
    ),
];

/// The repository, as a package on crates.io has it: what this package needs from
/// outside, made by guests/package.
const PACKED: &str = "packed";

/// End of the name of a manifest there. Cargo leaves out directories that have a
/// `Cargo.toml`.
const RENAMED: &str = ".packed";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let package = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let is_repository = package.join("../guests").is_dir();
    let repository = package.join(if is_repository { ".." } else { PACKED });
    let mut lists = String::new();
    let mut text = String::new();
    for (list, place, end, what) in TREES {
        let root = repository.join(place);
        let mut files = Vec::new();
        if root.is_dir() {
            println!("cargo::rerun-if-changed={}", root.display());
            find(&root, end, &mut files)?;
        } else {
            // A new package of the workspace changes the lock file.
            println!("cargo::rerun-if-changed=../Cargo.lock");
        }
        files.sort();
        writeln!(lists, "/// {what}")?;
        writeln!(lists, "pub(super) static {list}: Files = Files::new(|| {{")?;
        writeln!(lists, "    files(&[")?;
        for file in files {
            let path = file.strip_prefix(&root)?.to_string_lossy();
            let path = path.trim_end_matches(RENAMED);
            let start = text.len();
            text += &fs::read_to_string(&file)?;
            writeln!(lists, "        ({path:?}, {start}..{}),", text.len())?;
        }
        writeln!(lists, "    ])\n}});")?;
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compressed = ZlibEncoder::new(Vec::new(), Compression::best());
    compressed.write_all(text.as_bytes())?;
    fs::write(out.join("embedded.z"), compressed.finish()?)?;
    fs::write(out.join("embedded.rs"), lists)?;
    let manifest = match is_repository {
        true => "Cargo.toml".to_owned(),
        false => format!("Cargo.toml{RENAMED}"),
    };
    for (variable, path) in [
        ("GUESTS_DIRECTORY", "guests"),
        ("WORKSPACE_MANIFEST", &manifest),
    ] {
        let path = repository.join(path);
        println!("cargo::rustc-env={variable}={}", path.display());
    }
    tell_target()
}

/// Sets the variables of `--version`. None of them changes with a commit, which
/// would have this package compiled again.
fn tell_target() -> Result<(), Box<dyn Error>> {
    let compiler = Command::new(env::var("RUSTC")?).arg("--version").output()?;
    let compiler = String::from_utf8(compiler.stdout)?;
    let features = env::vars().filter_map(|(name, _)| {
        let name = name.strip_prefix("CARGO_FEATURE_")?;
        Some(name.to_lowercase().replace('_', "-"))
    });
    let mut features: Vec<_> = features.collect();
    features.sort();
    for (name, value) in [
        ("TARGET", env::var("TARGET")?),
        ("PROFILE", env::var("PROFILE")?),
        (
            "RUSTC",
            compiler.trim().trim_start_matches("rustc ").to_owned(),
        ),
        ("FEATURES", features.join(" ")),
    ] {
        println!("cargo::rustc-env=NETWASM_{name}={value}");
    }
    Ok(())
}

/// Adds the files below a directory. Leaves out what is hidden or built.
fn find(directory: &Path, end: &str, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_built = ["target", "Cargo.lock", "__pycache__"].contains(&&*name);
        if name == ".gitignore" {
            files.push(path);
        } else if name.starts_with('.') || is_built {
            continue;
        } else if path.is_dir() {
            find(&path, end, files)?;
        } else if name.ends_with(end) {
            files.push(path);
        }
    }
    Ok(())
}
