//! The host: the `netwasm` program, or this test binary.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::embedded;

/// Name of the variable that names the host.
const VARIABLE: &str = "NETWASM";

/// The program that runs a component: see [`crate::Component::host`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Program(PathBuf),
    /// This test binary. It is the host in the test of this name.
    Embedded(String),
}

impl Host {
    /// Takes a test of this binary for the host.
    pub(crate) fn embedded(test: String) -> Self {
        Self(Kind::Embedded(test))
    }

    /// Looks for the host, once.
    ///
    /// # Errors
    /// Fails if there is no host, or only one of another version. The message
    /// says how to install one.
    pub(crate) fn look_for() -> Result<Self, String> {
        static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let found = FOUND.get_or_init(|| {
            find(
                std::env::var_os(VARIABLE),
                std::env::var_os("PATH").unwrap_or_default().as_os_str(),
            )
        });
        found.clone().map(Self::from)
    }

    /// Returns the command that runs the host with these arguments.
    ///
    /// # Errors
    /// Fails if the system does not tell the path of this test binary.
    pub(crate) fn command(&self, args: &[OsString]) -> Result<Command, String> {
        match &self.0 {
            Kind::Program(path) => {
                let mut command = Command::new(path);
                command.args(args);
                Ok(command)
            }
            Kind::Embedded(test) => embedded::command(test, args)
                .map_err(|error| format!("the path of this program is unknown: {error}")),
        }
    }
}

impl<T: Into<PathBuf>> From<T> for Host {
    fn from(program: T) -> Self {
        Self(Kind::Program(program.into()))
    }
}

fn find(variable: Option<OsString>, path: &OsStr) -> Result<PathBuf, String> {
    if let Some(named) = variable.filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        return if named.is_file() {
            Ok(named)
        } else {
            Err(format!(
                "{VARIABLE} names '{}', and there is no such file",
                named.display()
            ))
        };
    }
    let program = std::env::split_paths(path)
        .map(|directory| directory.join("netwasm"))
        .find(|program| program.is_file())
        .ok_or_else(|| format!("there is no netwasm on PATH: {}", advice()))?;
    let version = version(&program)?;
    if fits(&version) {
        Ok(program)
    } else {
        Err(format!(
            "'{}' is netwasm {version}, and this netwasm-test needs {}: {}",
            program.display(),
            minor(),
            advice()
        ))
    }
}

fn version(program: &Path) -> Result<String, String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(|error| format!("'{}' cannot be started: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().strip_prefix("netwasm ").map(str::to_owned);
    version.ok_or_else(|| {
        format!(
            "'{}' is not netwasm: its --version is {text:?}",
            program.display()
        )
    })
}

/// True if a host of this version understands this crate.
fn fits(version: &str) -> bool {
    version
        .strip_prefix(&minor())
        .is_some_and(|rest| rest.starts_with('.'))
}

/// Returns the major and minor version of this crate.
fn minor() -> String {
    concat!(
        env!("CARGO_PKG_VERSION_MAJOR"),
        ".",
        env!("CARGO_PKG_VERSION_MINOR")
    )
    .to_owned()
}

fn advice() -> String {
    format!(
        "install it with `cargo install --git {} netwasm`, by `cargo install --path host` in a \
         clone, or by a package, or set {VARIABLE} to its path",
        env!("CARGO_PKG_REPOSITORY")
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(directory: &Path, version: &str) -> PathBuf {
        let path = directory.join("netwasm");
        std::fs::write(&path, format!("#!/bin/sh\necho '{version}'\n")).expect("a script");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("a mode");
        path
    }

    #[test]
    fn the_variable_goes_before_the_path() {
        let scratch = tempfile::tempdir().expect("a directory");
        let named = program(scratch.path(), "another version");
        let found = find(Some(named.clone().into()), OsStr::new("/nowhere"));
        assert_eq!(found, Ok(named));
    }

    #[test]
    fn a_variable_that_names_no_file_is_an_error() {
        let error = find(Some("/no/such".into()), OsStr::new("")).expect_err("no file");
        assert_eq!(error, "NETWASM names '/no/such', and there is no such file");
    }

    #[test]
    fn a_host_on_the_path_has_the_same_minor_version() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().as_os_str();
        let other_patch = format!("netwasm {}.77", minor());
        let expected = program(scratch.path(), &other_patch);
        assert_eq!(find(None, path), Ok(expected));

        program(scratch.path(), &format!("netwasm {}7.0", minor()));
        let error = find(None, path).expect_err("another version");
        assert!(error.contains("cargo install"), "{error}");
        assert!(error.contains("7.0"), "{error}");

        program(scratch.path(), "something else");
        let error = find(None, path).expect_err("another program");
        assert!(error.contains("is not netwasm"), "{error}");
    }

    #[test]
    fn an_error_says_how_to_install_the_host() {
        let error = find(None, OsStr::new("/nowhere")).expect_err("no host");
        assert!(error.starts_with("there is no netwasm on PATH"), "{error}");
        assert!(error.contains("cargo install --git https://"), "{error}");
        assert!(error.contains("NETWASM"), "{error}");
    }
}
