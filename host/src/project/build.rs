//! `netwasm build`: makes a component of a project.
//!
//! A project in Rust has a `Cargo.toml`, and cargo builds it. One in another
//! language has a `netwasm.toml` that names its source: a compiler builds C and
//! Go (`native`), and the script `componentize` the others.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::building::Building;
use super::native::NativeProject;
use super::sources::Snapshot;
use super::{ProjectError, say, write};

/// The target that components in Rust are compiled for.
const TARGET: &str = "wasm32-wasip2";

/// The script that makes components of other languages.
const COMPONENTIZE: &str = include_str!(concat!(env!("GUESTS_DIRECTORY"), "/componentize"));

/// The program that the script mends components in Python with.
const MEND: &str = include_str!(concat!(env!("GUESTS_DIRECTORY"), "/python/mend.py"));

/// How a project is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// True to build without optimisation.
    pub debug: bool,
    /// More arguments for cargo.
    pub cargo: Vec<OsString>,
}

/// A directory that a component can be built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    directory: PathBuf,
    recipe: Recipe,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Recipe {
    Cargo,
    /// C or Go.
    Native(NativeProject),
    /// A file in another language, and what becomes of it.
    Componentize {
        source: PathBuf,
        world: String,
    },
}

impl Project {
    /// Finds out how the project in a directory is built.
    ///
    /// # Errors
    /// Fails if it is none, or in a language for which there is no recipe.
    pub fn at(directory: &Path) -> Result<Self, ProjectError> {
        let recipe = match (
            directory.join("Cargo.toml").is_file(),
            directory.join("netwasm.toml"),
        ) {
            (true, _) => Recipe::Cargo,
            (false, manifest) if manifest.is_file() => of_manifest(&manifest)?,
            (false, _) => {
                return Err(ProjectError::Told(format!(
                    "{} is not a project: it has neither a Cargo.toml nor a netwasm.toml; `netwasm \
                     new NAME --tcp` makes one",
                    shown(directory)
                )));
            }
        };
        Ok(Self {
            directory: directory.to_owned(),
            recipe,
        })
    }

    /// Begins to build.
    ///
    /// # Errors
    /// Fails if a tool is missing.
    pub(super) fn begin(&self, options: &BuildOptions) -> Result<Building, ProjectError> {
        match &self.recipe {
            Recipe::Cargo => self.begin_cargo(options),
            Recipe::Native(native) => self.begin_native(native, options),
            Recipe::Componentize { source, world } => self.begin_script(source, world),
        }
    }

    fn begin_cargo(&self, options: &BuildOptions) -> Result<Building, ProjectError> {
        self.check_target()?;
        let mut command = Command::new("cargo");
        command
            .args(["build", "--target", TARGET])
            .arg("--message-format=json-render-diagnostics")
            .args((!options.debug).then_some("--release"))
            .args(&options.cargo)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let missing = "there is no cargo: install Rust, see https://rustup.rs";
        Building::start("cargo build", command, missing, None)
    }

    /// Checks that rustc has the target.
    fn check_target(&self) -> Result<(), ProjectError> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc)
            .args(["--print", "target-libdir", "--target", TARGET])
            .current_dir(&self.directory)
            .output();
        let output = output.map_err(|error| {
            let missing = "there is no rustc: install Rust, see https://rustup.rs";
            of_tool("rustc", error, missing)
        })?;
        let libraries = String::from_utf8_lossy(&output.stdout);
        let mut files = fs::read_dir(libraries.trim())
            .into_iter()
            .flatten()
            .flatten();
        let has_std = files.any(|file| file.file_name().to_string_lossy().starts_with("libstd-"));
        match output.status.success() && has_std {
            true => Ok(()),
            false => Err(ProjectError::Told(format!(
                "rustc has no target {TARGET}: `rustup target add {TARGET}` installs it"
            ))),
        }
    }

    /// Returns the directory without a dot in it, so that a component's path is
    /// told alike in all languages.
    fn absolute(&self) -> PathBuf {
        std::path::absolute(&self.directory).unwrap_or_else(|_| self.directory.clone())
    }

    fn begin_native(
        &self,
        native: &NativeProject,
        options: &BuildOptions,
    ) -> Result<Building, ProjectError> {
        let directory = self.absolute();
        let (output, module) = native.outputs(&directory);
        let target = directory.join("target");
        fs::create_dir_all(&target).map_err(|source| ProjectError::Write {
            path: target,
            source,
        })?;
        let mut command = native.command(&directory, options.debug, &module)?;
        // Its output is for the user; standard output is the component's path.
        command.stdout(io::stderr());
        let mut building = Building::start(native.tool(), command, native.missing(), Some(output))?;
        building.module = Some((native.clone(), module));
        Ok(building)
    }

    fn begin_script(&self, source: &Path, world: &str) -> Result<Building, ProjectError> {
        let target = self.absolute().join("target");
        let output = target.join(source).with_extension("wasm");
        // The script also lies beside what it makes, for whoever wants to read
        // it.
        let script = self.directory.join("target/componentize");
        write(&script, COMPONENTIZE)?;
        write(&self.directory.join("target/python/mend.py"), MEND)?;
        // These compilers know nothing of files that have not changed.
        let made_of = Snapshot::of(&self.absolute()).stamp().map(|sources| {
            let version = env!("CARGO_PKG_VERSION");
            format!("{version} {world}\n{sources}\n{COMPONENTIZE}\n{MEND}")
        });
        let noted = output.with_extension("made-of");
        if let Some(made_of) = &made_of
            && output.is_file()
            && fs::read_to_string(&noted).is_ok_and(|noted| noted == *made_of)
        {
            return Ok(Building::done("componentize", output));
        }
        let mut command = Command::new("bash");
        command
            .arg(&script)
            .arg(self.directory.join(source))
            .arg(&output)
            .arg(world)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Ok(own) = std::env::current_exe() {
            command.env("NETWASM", own);
        }
        let missing = "there is no bash, which builds components in other languages";
        // A build that fails or is broken off leaves no note.
        let _ = fs::remove_file(&noted);
        let mut building = Building::start("componentize", command, missing, Some(output))?;
        building.made_of = made_of.map(|made_of| (noted, made_of));
        Ok(building)
    }
}

/// Returns the isolation that a project in a directory asks for, as `--isolation`
/// has it: `isolation` in its `netwasm.toml`, or below `[package.metadata.netwasm]`
/// in its `Cargo.toml`. A handler whose clients share what it keeps says so there.
///
/// # Errors
/// Fails if something else is there.
pub fn isolation(directory: &Path) -> Result<Option<String>, ProjectError> {
    let cargo = directory.join("Cargo.toml");
    let (path, keys) = match cargo.is_file() {
        true => (cargo, &["package", "metadata", "netwasm"][..]),
        false => (directory.join("netwasm.toml"), &[][..]),
    };
    // Anything else that is wrong with it is said by the build.
    let manifest = fs::read_to_string(&path).ok();
    let manifest = manifest.and_then(|text| text.parse::<toml::Table>().ok());
    let Some(manifest) = manifest else {
        return Ok(None);
    };
    let table = keys.iter().try_fold(&manifest, |table, key| {
        table.get(*key).and_then(toml::Value::as_table)
    });
    match table.and_then(|table| table.get("isolation")) {
        None => Ok(None),
        Some(toml::Value::String(wanted)) => Ok(Some(wanted.clone())),
        Some(_) => Err(ProjectError::Told(format!(
            "{}: its isolation is no word: write isolation = \"worker\"",
            path.display()
        ))),
    }
}

/// Reads a `netwasm.toml`: the source, and what is made of it.
fn of_manifest(path: &Path) -> Result<Recipe, ProjectError> {
    let wrong = |what: &str| ProjectError::Told(format!("{}: {what}", path.display()));
    let text = fs::read_to_string(path).map_err(|source| ProjectError::Read {
        path: path.to_owned(),
        source,
    })?;
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| wrong(error.message()))?;
    if let Some(native) = NativeProject::of_manifest(&table).map_err(|what| wrong(&what))? {
        return Ok(Recipe::Native(native));
    }
    let field = |name: &str| table.get(name).and_then(toml::Value::as_str);
    if field("source").is_none()
        && ["component", "services"]
            .iter()
            .any(|it| table.contains_key(*it))
    {
        return Err(wrong(&format!(
            "it configures services, and is not a project: `netwasm run --config {}` runs them",
            path.display()
        )));
    }
    let source = field("source")
        .ok_or_else(|| wrong("it names no source: write `source = \"server.js\"`"))?;
    let end = Path::new(source).extension().and_then(|end| end.to_str());
    if !matches!(end, Some("js" | "ts" | "py")) {
        return Err(wrong(
            "its source is none of .js, .ts, .py, .c and .go: components in other languages are \
             built by their own tools, and `netwasm run FILE.wasm` runs them",
        ));
    }
    let world = field("world").unwrap_or("server");
    let worlds = ["server", "program", "tcp", "udp", "http", "websocket"];
    if !worlds.contains(&world) {
        return Err(wrong(
            "its world is none of server, program, tcp, udp, http and websocket",
        ));
    }
    Ok(Recipe::Componentize {
        source: source.into(),
        world: world.to_owned(),
    })
}

pub(super) fn of_tool(tool: &str, error: io::Error, missing: &str) -> ProjectError {
    match error.kind() {
        io::ErrorKind::NotFound => ProjectError::Told(missing.into()),
        _ => ProjectError::Tool {
            tool: tool.into(),
            source: error,
        },
    }
}

/// Returns a path as one writes it here: below the current directory without
/// that.
#[must_use]
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let short = path.strip_prefix(&here).unwrap_or(path);
    match short.as_os_str().is_empty() {
        true => ".".into(),
        false => short.display().to_string(),
    }
}

/// Builds the project in a directory, and returns the path of its component.
/// The output of the tools goes to standard error.
///
/// # Errors
/// Fails if the directory is no project, or if a tool is missing or fails.
pub fn build(directory: &Path, options: &BuildOptions) -> Result<PathBuf, ProjectError> {
    let building = Project::at(directory)?.begin(options)?;
    say(&format!("building {}", shown(directory)));
    building.wait()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_no_project_says_what_is_missing() {
        let scratch = tempfile::tempdir().expect("a directory");
        let at = || Project::at(scratch.path()).map_err(|error| error.to_string());
        assert!(at().is_err_and(|told| told.contains("neither a Cargo.toml nor")));
        for (manifest, told) in [
            ("sauce = 1", "source ="),
            ("source = \"a.rb\"", "none of .js, .ts, .py"),
            (
                "source = \"a.js\"\nworld = \"x\"",
                "none of server, program",
            ),
            ("source", "netwasm.toml"),
        ] {
            fs::write(scratch.path().join("netwasm.toml"), manifest).expect("a file");
            assert!(at().is_err_and(|error| error.contains(told)), "{manifest}");
        }
        fs::write(scratch.path().join("netwasm.toml"), "source = \"a.py\"").expect("a file");
        assert!(at().is_ok());
        fs::write(scratch.path().join("Cargo.toml"), "").expect("a file");
        assert_eq!(at().map(|it| it.recipe), Ok(Recipe::Cargo));
    }

    #[test]
    fn a_project_says_how_its_clients_are_isolated() {
        let scratch = tempfile::tempdir().expect("a directory");
        let wanted = |file: &str, text: &str| {
            fs::write(scratch.path().join(file), text).expect("a file");
            isolation(scratch.path()).map_err(|error| error.to_string())
        };
        let named = |mode: &str| Ok(Some(mode.to_owned()));
        assert_eq!(wanted("netwasm.toml", "source = \"a.go\""), Ok(None));
        let text = "source = \"a.go\"\nisolation = \"worker\"";
        assert_eq!(wanted("netwasm.toml", text), named("worker"));
        assert!(wanted("netwasm.toml", "isolation = 1").is_err_and(|it| it.contains("no word")));
        // Cargo's file counts where there is one.
        assert_eq!(wanted("Cargo.toml", "[package]\nname = \"a\""), Ok(None));
        let text = "[package.metadata.netwasm]\nisolation = \"connection\"";
        assert_eq!(wanted("Cargo.toml", text), named("connection"));
    }
}
