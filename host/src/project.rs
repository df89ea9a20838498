//! Writing a handler: its interface as text, a new project, its build, and
//! running it again after each change.
//!
//! ```text
//!   netwasm new --> files of a project     netwasm wit --> the interface
//!                        |
//!                        v
//!   netwasm build --> build (cargo, componentize, or   --> a component
//!                     native and component)
//!                        ^                                    |
//!                        |                                    v
//!   run --watch ----> watch: sources changed ------> the same command, as a
//!                                                    child process
//! ```
//!
//! Nothing here runs a component: a run begins with the component's file.

#[cfg(test)]
mod bindings;
pub mod build;
mod building;
mod children;
mod component;
mod embedded;
mod native;
pub mod new;
pub(crate) mod sources;
pub mod watch;
pub mod wit;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Reason why a project cannot be made or built.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// A file or directory cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// A file or directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// A tool cannot be started.
    #[error("cannot run {tool}: {source}")]
    Tool {
        /// The tool.
        tool: String,
        /// Error of the system.
        source: io::Error,
    },
    /// Something else is wrong: what, and what would be right.
    #[error("{0}")]
    Told(String),
}

/// Writes a file, and makes its directory.
fn write(path: &Path, content: &str) -> Result<(), ProjectError> {
    let failed = |source| ProjectError::Write {
        path: path.to_owned(),
        source,
    };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    fs::write(path, content).map_err(failed)
}

/// Tells the user about progress, on standard error.
fn say(text: &str) {
    // Nobody may read it.
    let _ = io::Write::write_all(&mut io::stderr(), format!("netwasm: {text}\n").as_bytes());
}
