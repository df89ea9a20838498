//! Builds the component of a crate.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

const TARGET: &str = "wasm32-wasip2";

/// Time after which a build is worth a line.
const SLOW: Duration = Duration::from_secs(1);

/// A component that cargo built.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) file: PathBuf,
    /// Directory for what can be kept until the next run.
    pub(crate) directory: PathBuf,
    /// The isolation that its crate asks for, as `--isolation` has it.
    pub(crate) isolation: Option<String>,
}

/// Returns the component of the crate in a directory. This process builds it
/// once; other processes that build the same crate wait.
///
/// # Errors
/// Fails if the crate cannot be built, if it is not exactly one component, or if
/// its isolation is no word. The message has what cargo said.
pub(crate) fn component(directory: &Path) -> Result<Built, String> {
    type Once = Arc<OnceLock<Result<Built, String>>>;
    static BUILDS: Mutex<BTreeMap<PathBuf, Once>> = Mutex::new(BTreeMap::new());

    let manifest = directory.join("Cargo.toml");
    let manifest = manifest
        .canonicalize()
        .map_err(|error| format!("there is no crate at '{}': {error}", manifest.display()))?;
    let once = {
        let mut builds = BUILDS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(builds.entry(manifest.clone()).or_default())
    };
    once.get_or_init(|| build(&manifest)).clone()
}

fn build(manifest: &Path) -> Result<Built, String> {
    let package = Package::of(manifest)?;
    let isolation = isolation(&package.metadata, manifest)?;
    let directory = package.target_directory.join("netwasm-test");
    let locked = lock(&directory)
        .map_err(|error| format!("'{}' cannot be used: {error}", directory.display()))?;
    // In the place that `netwasm build` uses, so that nothing is compiled
    // twice. The outer cargo no longer locks it when tests run.
    let mut command = cargo();
    command
        .args(["build", "--release", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics"])
        .args(["--package", &package.id])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(&package.target_directory)
        .env_remove("CARGO_TARGET_DIR");
    let output = told_if_slow(&package.name, || run(&mut command))?;
    drop(locked);
    if !output.status.success() {
        return Err(failure(
            &package.name,
            &String::from_utf8_lossy(&output.stderr),
        ));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut files = components(&messages, manifest);
    match (files.pop(), files.is_empty()) {
        (Some(file), true) => Ok(Built {
            file,
            directory,
            isolation,
        }),
        (None, _) => Err(format!(
            "{} builds no component: its Cargo.toml needs [lib] with crate-type = [\"cdylib\"]",
            package.name
        )),
        (Some(file), false) => {
            files.push(file);
            Err(format!(
                "{} builds several components, use Component::file with one of them: {files:?}",
                package.name
            ))
        }
    }
}

/// Does something that may take minutes, and says so if it does.
fn told_if_slow<T>(name: &str, work: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let (done, waiting) = mpsc::channel::<()>();
        scope.spawn(move || {
            if waiting.recv_timeout(SLOW) == Err(RecvTimeoutError::Timeout) {
                // Not by a macro, whose output a test keeps to itself.
                let _ = writeln!(
                    io::stderr(),
                    "netwasm-test: building the component of {name} (cargo build --release \
                     --target {TARGET})"
                );
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// Cargo's metadata of a crate.
struct Package {
    id: String,
    name: String,
    target_directory: PathBuf,
    /// `[package.metadata]`; null if there is none.
    metadata: Value,
}

impl Package {
    fn of(manifest: &Path) -> Result<Self, String> {
        let mut command = cargo();
        command
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .arg("--manifest-path")
            .arg(manifest);
        // A relative one is relative to the directory that the outer cargo
        // started in, which nobody tells.
        let target = std::env::var_os("CARGO_TARGET_DIR");
        if target.is_some_and(|target| Path::new(&target).is_relative()) {
            command.env_remove("CARGO_TARGET_DIR");
        }
        let output = run(&mut command)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("cargo metadata failed:\n{}", said.trim_end()));
        }
        let package = serde_json::from_slice(&output.stdout)
            .ok()
            .and_then(|metadata: Value| Self::find(&metadata, manifest));
        package.ok_or_else(|| format!("'{}' has no [package]", manifest.display()))
    }

    fn find(metadata: &Value, manifest: &Path) -> Option<Self> {
        let mut packages = metadata["packages"].as_array()?.iter();
        let package = packages.find(|package| is_of(package, manifest))?;
        Some(Self {
            id: package["id"].as_str()?.to_owned(),
            name: package["name"].as_str()?.to_owned(),
            target_directory: metadata["target_directory"].as_str()?.into(),
            metadata: package["metadata"].clone(),
        })
    }
}

/// Returns the isolation that a crate asks for below `[package.metadata.netwasm]`,
/// as `netwasm run` does.
///
/// # Errors
/// Fails if something else is there.
fn isolation(metadata: &Value, manifest: &Path) -> Result<Option<String>, String> {
    match &metadata["netwasm"]["isolation"] {
        Value::Null => Ok(None),
        Value::String(wanted) => Ok(Some(wanted.clone())),
        _ => Err(format!(
            "{}: its isolation is not a text: write isolation = \"worker\"",
            manifest.display()
        )),
    }
}

/// True if a JSON object of cargo has this manifest.
fn is_of(object: &Value, manifest: &Path) -> bool {
    let path = object["manifest_path"].as_str().map(Path::new);
    path.is_some_and(|path| path == manifest || path.canonicalize().is_ok_and(|it| it == manifest))
}

/// Returns the components among the artifacts of a crate.
fn components(messages: &str, manifest: &Path) -> Vec<PathBuf> {
    let artifacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|message: &Value| {
            message["reason"] == "compiler-artifact" && is_of(message, manifest)
        });
    artifacts
        .flat_map(|artifact| {
            let files = artifact["filenames"].as_array().cloned();
            files.unwrap_or_default()
        })
        .filter_map(|file| file.as_str().map(PathBuf::from))
        .filter(|file| file.extension() == Some(OsStr::new("wasm")))
        .collect()
}

/// Makes a directory, and locks it until the file is dropped.
fn lock(directory: &Path) -> io::Result<File> {
    std::fs::create_dir_all(directory)?;
    let file = File::create(directory.join("lock"))?;
    file.lock()?;
    Ok(file)
}

/// Returns cargo without the variables that the outer cargo has set.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_none_or(leaks) {
            command.env_remove(name);
        }
    }
    command
}

/// True if a variable belongs to the outer build: what it compiles, and how. The
/// user's settings of registries, network and output stay.
fn leaks(name: &str) -> bool {
    const KEPT: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_TARGET_DIR",
        "CARGO_TERM_",
    ];
    const OF_RUSTC: [&str; 4] = [
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
    ];
    let of_cargo = name == "CARGO" || name.starts_with("CARGO_");
    let kept = KEPT.iter().any(|kept| name.starts_with(kept));
    (of_cargo && !kept) || OF_RUSTC.contains(&name) || name == "LLVM_PROFILE_FILE"
}

fn run(command: &mut Command) -> Result<Output, String> {
    command
        .output()
        .map_err(|error| format!("cargo cannot be started: {error}"))
}

/// Returns the message of a failed build.
fn failure(name: &str, said: &str) -> String {
    let missing = said.contains("target may not be installed");
    let advice = if missing {
        format!("the target {TARGET} is not installed: `rustup target add {TARGET}` installs it\n")
    } else {
        String::new()
    };
    format!(
        "{advice}{name} cannot be built for {TARGET}:\n{}",
        said.trim_end()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_outer_build_do_not_leak() {
        for name in [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "CARGO_PKG_NAME",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_PROFILE_RELEASE_LTO",
            "RUSTFLAGS",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            assert!(leaks(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_OURS_TOKEN",
            "CARGO_REGISTRY_DEFAULT",
            "CARGO_TERM_COLOR",
            "PATH",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(!leaks(name), "{name}");
        }
    }

    #[test]
    fn a_missing_target_has_advice() {
        let said = "error[E0463]: can't find crate for `std`\n  |\n  \
                    = note: the `wasm32-wasip2` target may not be installed\n";
        let message = failure("shout", said);
        assert!(
            message.contains("`rustup target add wasm32-wasip2`"),
            "{message}"
        );
        assert!(message.contains("can't find crate"), "{message}");
        let message = failure("shout", "error: expected `;`");
        assert!(!message.contains("rustup"), "{message}");
    }

    #[test]
    fn only_components_of_the_crate_itself_count() {
        let artifact = |manifest: &str, file: &str| {
            serde_json::json!({
                "reason": "compiler-artifact",
                "manifest_path": manifest,
                "filenames": [file, "/target/libother.rlib"],
            })
            .to_string()
        };
        let messages = [
            artifact("/elsewhere/Cargo.toml", "/target/elsewhere.wasm"),
            "not JSON".to_owned(),
            artifact("/crate/Cargo.toml", "/target/own.wasm"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let found = components(&messages.join("\n"), Path::new("/crate/Cargo.toml"));
        assert_eq!(found, [Path::new("/target/own.wasm")]);
    }

    #[test]
    fn a_crate_says_how_its_clients_are_isolated() {
        let scratch = tempfile::tempdir().expect("a directory");
        let manifest = scratch.path().join("Cargo.toml");
        std::fs::create_dir(scratch.path().join("src")).expect("a directory");
        std::fs::write(scratch.path().join("src/lib.rs"), "").expect("a file");
        let wanted = |text: &str| {
            let crate_itself = "[workspace]\n[package]\nname = \"kv\"\nedition = \"2024\"\n";
            std::fs::write(&manifest, format!("{crate_itself}{text}")).expect("a file");
            let package = Package::of(&manifest).expect("a package");
            isolation(&package.metadata, &manifest)
        };
        assert_eq!(wanted(""), Ok(None));
        assert_eq!(wanted("[package.metadata.other]\na = 1"), Ok(None));
        assert_eq!(
            wanted("[package.metadata.netwasm]\nisolation = \"worker\""),
            Ok(Some("worker".to_owned()))
        );
        let error = wanted("[package.metadata.netwasm]\nisolation = 1").expect_err("a number");
        assert!(error.contains("is not a text"), "{error}");
    }

    #[test]
    fn a_directory_without_a_crate_is_an_error() {
        let scratch = tempfile::tempdir().expect("a directory");
        let error = component(scratch.path()).expect_err("no crate");
        assert!(error.starts_with("there is no crate at"), "{error}");
    }
}
