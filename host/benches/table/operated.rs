//! netwasm as it is run in production: watched, and by a configuration.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// Hosts of [`Operation::Hosts`].
const HOSTS: usize = 1000;

/// A way to operate netwasm that costs nothing, or should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// With `--admin`, so that all is counted that its metrics show.
    Metrics,
    /// By a configuration that says what the flags say.
    Configuration,
    /// By a configuration with one route.
    Host,
    /// By a configuration with a thousand routes to the service, of which the
    /// one that is asked for is the last.
    Hosts,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Metrics => "metrics",
            Self::Configuration => "configured",
            Self::Host => "one route",
            Self::Hosts => "a thousand routes",
        })
    }
}

impl Operation {
    /// Returns the command that does in this way what another command does.
    /// The files that it needs are in `directory`.
    ///
    /// # Errors
    /// Fails if the configuration cannot be made.
    pub(crate) fn command(self, mut flags: Command, directory: &Path) -> io::Result<Command> {
        if self == Self::Metrics {
            let socket = directory.join("admin.sock");
            flags.arg(format!("--admin=unix:{}", socket.display()));
            return Ok(flags);
        }
        let configuration = directory.join("netwasm.toml");
        let printed = Command::new(flags.get_program())
            .args(flags.get_args())
            .arg("--print-config")
            .output()?;
        if !printed.status.success() {
            let reason = String::from_utf8_lossy(&printed.stderr).into_owned();
            return Err(io::Error::other(reason));
        }
        let mut text = String::from_utf8(printed.stdout).map_err(io::Error::other)?;
        let hosts = match self {
            Self::Metrics | Self::Configuration => 0,
            Self::Host => 1,
            Self::Hosts => HOSTS,
        };
        if let Some(others) = hosts.checked_sub(1) {
            let mut routes: Vec<_> = (0..others).map(|n| format!("host-{n}.example")).collect();
            routes.push("127.0.0.1".to_owned());
            // A list of strings is written in TOML as Rust writes it.
            text.push_str(&format!("route = {routes:?}\n"));
        }
        fs::write(&configuration, text)?;
        let mut command = Command::new(flags.get_program());
        for (name, value) in flags.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.arg("run").arg("--config").arg(configuration);
        Ok(command)
    }
}
