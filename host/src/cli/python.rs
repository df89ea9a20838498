//! `netwasm run SCRIPT.py` and `run -m MODULE`: the interpreter is the component,
//! and the program is among its arguments.

use std::path::{Path, PathBuf};

use clap::Args;

use netwasm_base::config::{Directory, GuestConfig};

use super::{guest_name, usage};

/// Variable that names the interpreter.
const INTERPRETER: &str = "NETWASM_PYTHON";

/// Variable by which the guest learns the program's folder.
const FOLDER: &str = "NETWASM_PYTHON_FOLDER";

/// Variable by which the guest learns of other folders with modules.
const MODULES: &str = "PYTHONPATH";

/// The interpreter's place below the user's data directory.
const INSTALLED: &str = "netwasm/python.wasm";

#[derive(Args, Debug)]
#[command(next_help_heading = "Guest")]
pub(super) struct Python {
    /// Run a Python module from this directory, in place of SCRIPT.py
    #[arg(short = 'm', long, value_name = "MODULE", conflicts_with = "component")]
    #[arg(hide_short_help = true)]
    module: Option<String>,
    /// Python's interpreter [default: ~/.local/share/netwasm/python.wasm]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    python: Option<PathBuf>,
    /// Another directory of Python modules, which it may read; repeatable
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    python_path: Vec<PathBuf>,
}

/// A program in Python.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// The folder that it is in, which it may read.
    folder: PathBuf,
    /// Arguments of the interpreter that name it.
    args: Vec<String>,
    /// Name in the log.
    name: String,
}

impl Python {
    /// Returns the program to run; `None` if it is none in Python.
    ///
    /// # Errors
    /// Fails if there is no present folder, or if a path is no text.
    pub(super) fn script(&self, component: Option<&Path>) -> Result<Option<Script>, clap::Error> {
        // As Python does: a link leads to the folder of the file.
        let absolute = |path: &Path| {
            let real = path.canonicalize();
            real.map_err(|error| usage(&format!("{}: {error}", path.display())))
        };
        if let Some(module) = &self.module {
            return Ok(Some(Script {
                folder: absolute(Path::new("."))?,
                args: vec!["-m".to_owned(), module.clone()],
                name: module.clone(),
            }));
        }
        let is_script = |path: &&Path| path.extension().is_some_and(|end| end == "py");
        // A file that does not exist is told as for every component.
        let Some(path) = component.filter(is_script).filter(|path| path.is_file()) else {
            return Ok(None);
        };
        let path = absolute(path)?;
        Ok(Some(Script {
            name: guest_name(&path),
            folder: path.parent().unwrap_or(&path).to_owned(),
            args: vec![text(&path)?],
        }))
    }

    /// Returns the file of the interpreter.
    ///
    /// # Errors
    /// Fails if it is not known where the user's data are.
    pub(super) fn interpreter(&self) -> Result<PathBuf, clap::Error> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let named = self.python.clone();
        let data = || {
            let own = set("XDG_DATA_HOME").map(PathBuf::from);
            let own = own.filter(|path| path.is_absolute());
            own.or_else(|| Some(Path::new(&set("HOME")?).join(".local/share")))
        };
        let installed = || data().map(|data| data.join(INSTALLED));
        named
            .or_else(|| set(INTERPRETER).map(PathBuf::from))
            .or_else(installed)
            .ok_or_else(|| usage(&"no Python interpreter is known: --python FILE names one"))
    }

    /// Makes a guest of the interpreter, which runs the program. It may read the
    /// program's folder, where it sees it under the path that it has here.
    ///
    /// # Errors
    /// Fails if a path is no text.
    pub(super) fn guest(
        &self,
        script: &Script,
        mut guest: GuestConfig,
    ) -> Result<GuestConfig, clap::Error> {
        guest.name.clone_from(&script.name);
        "python".clone_into(&mut guest.program);
        script.check(&guest.dirs)?;
        guest.args = script.args.iter().cloned().chain(guest.args).collect();
        guest.folder = Some(script.folder.clone());
        let folder = text(&script.folder)?;
        let mut modules = Vec::new();
        for path in &self.python_path {
            let real = path.canonicalize();
            let path =
                real.map_err(|error| usage(&format!("--python-path {}: {error}", path.display())))?;
            modules.push(text(&path)?);
        }
        for path in std::iter::once(&folder).chain(&modules) {
            let is_there = guest.dirs.iter().any(|it| it.guest == *path);
            if !is_there {
                guest.dirs.push(Directory {
                    host: PathBuf::from(path),
                    guest: path.clone(),
                    writable: false,
                });
            }
        }
        guest.env.push((FOLDER.to_owned(), folder));
        if !modules.is_empty() {
            let others = guest.env.iter().position(|(name, _)| name == MODULES);
            let others = others.map(|place| guest.env.remove(place).1);
            modules.extend(others);
            guest.env.push((MODULES.to_owned(), modules.join(":")));
        }
        Ok(guest)
    }
}

impl Script {
    /// Checks that the program's folder is one that it may read unasked: not the
    /// user's home directory, nor one above it, unless a `--dir` names it.
    ///
    /// # Errors
    /// Fails with what would allow it.
    fn check(&self, dirs: &[Directory]) -> Result<(), clap::Error> {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        let home = home.and_then(|home| Path::new(&home).canonicalize().ok());
        let folder = &self.folder;
        let is_whole = folder.parent().is_none();
        if !is_whole && !home.is_some_and(|home| home.starts_with(folder)) {
            return Ok(());
        }
        let is_it = |dir: &Directory| dir.host.canonicalize().is_ok_and(|dir| dir == *folder);
        if dirs.iter().any(is_it) {
            return Ok(());
        }
        let folder = folder.display();
        Err(usage(&format!(
            "a program may read its folder, and that of {} is {folder}, with all of your files: \
             put it in a folder of its own, or allow that by --dir {folder}::{folder}",
            self.name
        )))
    }
}

/// Returns a path as text, for the guest.
fn text(path: &Path) -> Result<String, clap::Error> {
    let text = path.to_str().map(ToOwned::to_owned);
    text.ok_or_else(|| usage(&format!("{}: the path is not text", path.display())))
}
