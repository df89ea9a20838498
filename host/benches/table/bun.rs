//! Bun, whose servers of WebSocket are those of uWebSockets.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::peers::Service;

const PROGRAM: &str = "bun";
/// Variable that names another Bun: `npm install bun` has it at
/// `node_modules/.bin/bun`.
const NAMED: &str = "NETWASM_BENCH_BUN";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/table/bun.js");

/// Returns the program, if it is there.
pub(crate) fn find() -> Option<PathBuf> {
    let program = std::env::var_os(NAMED).map_or_else(|| PROGRAM.into(), PathBuf::from);
    let mut command = Command::new(&program);
    command.arg("--version").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let works = command.status().is_ok_and(|status| status.success());
    if !works {
        eprintln!(
            "{} is not there (npm install bun, and {NAMED}): it is left out",
            program.display()
        );
    }
    works.then_some(program)
}

/// Returns the command that provides a service.
pub(crate) fn command(program: &Path, service: Service) -> Command {
    let mut command = Command::new(program);
    command.arg(SCRIPT).arg(service.name());
    command
}
