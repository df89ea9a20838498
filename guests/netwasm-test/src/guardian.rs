//! The end of the host if the test's process ends without ending it.

use std::io;
use std::process::{Child, Command, Stdio};

/// Waits for the end of its standard input, then kills a process. An interrupt
/// of the terminal goes to the guardian, too, and must not end it.
const SCRIPT: &str = r#"trap '' HUP INT QUIT TERM; read -r line; kill -KILL "$1""#;

/// A process that kills the host if this process ends, however it ends: it
/// holds the reading end of a pipe whose only writing end is here.
///
/// `PR_SET_PDEATHSIG` does not fit. It signals the end of the thread that
/// started the host, and tests that share a server have a thread each. It also
/// needs unsafe code between fork and exec.
#[derive(Debug)]
pub(crate) struct Guardian(Child);

impl Guardian {
    /// Starts a guardian of a process.
    ///
    /// # Errors
    /// Fails if `sh` cannot be started.
    pub(crate) fn of(process: u32) -> io::Result<Self> {
        let child = Command::new("sh")
            .args(["-c", SCRIPT, "sh", &process.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Guardian {
    /// Ends the guardian without harm to the process that it guards.
    fn drop(&mut self) {
        // It is this process's child until it is waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
