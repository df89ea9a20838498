//! A network and system files that a test has to itself.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::{directory, skipped, text};

/// Environment variable that is set if a test runs in its own namespaces.
const INSIDE: &str = "NETWASM_TEST_INSIDE";

/// Runs a test again, alone, in its own namespaces: the network has only
/// loopback, with all ports free, and files can be mounted over system files.
/// Returns true inside. Outside, returns false once that run has succeeded.
pub(crate) fn in_own_network(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        run(Command::new("ip").args(["link", "set", "lo", "up"]));
        return true;
    }
    let unshare = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--net"]);
        if !rustix::process::geteuid().is_root() {
            unshare.arg("--map-root-user");
        }
        unshare
    };
    let possible = unshare().arg("true").output();
    if !possible.is_ok_and(|tried| tried.status.success()) {
        skipped("this user may make no namespaces");
        return false;
    }
    let inside = unshare()
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare");
    let [stdout, stderr] = [&inside.stdout, &inside.stderr].map(|it| String::from_utf8_lossy(it));
    assert!(
        inside.status.success() && stdout.contains("1 passed"),
        "{stdout}{stderr}"
    );
    false
}

/// A file that is mounted over a system file, within a namespace.
pub(crate) struct SystemFile {
    file: PathBuf,
    _directory: TempDir,
}

impl SystemFile {
    pub(crate) fn over(path: &str, content: &[u8]) -> Self {
        let directory = directory();
        let file = directory.path().join("file");
        fs::write(&file, content).expect("a file");
        run(Command::new("mount").args(["--bind", text(&file), path]));
        Self {
            file,
            _directory: directory,
        }
    }

    pub(crate) fn set(&self, content: &[u8]) {
        fs::write(&self.file, content).expect("the file");
    }
}

fn run(command: &mut Command) {
    let done = command.output();
    let done = done.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {done:?}");
}
