//! Embeds the files that `netwasm wit` and `netwasm new` write: for each tree a
//! list of paths and contents, so that no new file can be forgotten. Tells the
//! program what it is built for.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// A tree of files: the name of its list, its directory from this package, the
/// end of the files' names, and what the list is.
const TREES: [(&str, &str, &str, &str); 8] = [
    ("WIT", "../wit", ".wit", "The WIT package of this host."),
    (
        "WASI",
        "src/project/wasi-0.2",
        ".wit",
        "The WIT packages of WASI 0.2.",
    ),
    (
        "TEMPLATES",
        "src/project/new",
        "",
        "The files of new projects, in a directory for each kind.",
    ),
    (
        "LANGUAGES",
        "src/project/languages",
        "",
        "The worlds and libraries for handlers in other languages.",
    ),
    (
        "GUEST",
        "../guests/netwasm-guest",
        "",
        "The library for handlers.",
    ),
    (
        "TEST",
        "../guests/netwasm-test",
        "",
        "The library for handlers' tests.",
    ),
    (
        "C",
        "src/project/libraries/c",
        "",
        "The library for handlers in C.",
    ),
    (
        "GO",
        "src/project/libraries/go",
        "",
        "The library for handlers in Go.",
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let package = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let mut text = String::new();
    for (list, directory, end, what) in TREES {
        let root = package.join(directory);
        let mut files = Vec::new();
        if root.is_dir() {
            println!("cargo::rerun-if-changed={directory}");
            find(&root, end, &mut files)?;
        } else {
            // A new package of the workspace changes the lock file.
            println!("cargo::rerun-if-changed=../Cargo.lock");
        }
        files.sort();
        writeln!(text, "/// {what}")?;
        writeln!(text, "pub(super) static {list}: &[(&str, &str)] = &[")?;
        for file in files {
            let path = file.strip_prefix(&root)?;
            writeln!(text, "    ({path:?}, include_str!({file:?})),")?;
        }
        writeln!(text, "];")?;
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("embedded.rs"), text)?;
    tell_target()
}

/// Sets the variables of `--version`. None of them changes with a commit, which
/// would have this package compiled anew.
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
