//! netwasm as it is run in production: watched, and by a configuration.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::peers::Server;

/// Hosts of [`Operation::Hosts`].
const HOSTS: usize = 1000;

/// Components that a reload replaces by each other, and part of what each answers.
const REPLACED: [(&str, &str); 2] = [("router", "<h1>About"), ("hello", "Hello")];

/// Longest wait for a reload. The first one may have to compile.
const RELOADED: Duration = Duration::from_secs(60);

/// Name of a configuration in a server's directory.
const FILE: &str = "netwasm.toml";

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
        let configuration = directory.join(FILE);
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

/// Reloads a run of [`Operation::Configuration`], of which both components have been
/// compiled before. Returns the time from the signal until a request of a new
/// connection is answered by the other component.
///
/// # Errors
/// Fails if the run ends, or goes on with the component that it has.
pub(crate) fn reloaded(server: &Server) -> anyhow::Result<Duration> {
    let directory = server.directory.as_ref().context("no configuration")?;
    let file = directory.path().join(FILE);
    let [first, second] = REPLACED;
    // There and back, so that the code of both is cached.
    replace(server, &file, first, second)?;
    replace(server, &file, second, first)?;
    replace(server, &file, first, second)
}

/// Replaces a component by another one.
fn replace(
    server: &Server,
    file: &Path,
    (from, _): (&str, &str),
    (to, says): (&str, &str),
) -> anyhow::Result<Duration> {
    let text = fs::read_to_string(file)?;
    let [old, new] = [from, to].map(|name| format!("/{name}.wasm\""));
    ensure!(text.contains(&old), "no {from} in {}", file.display());
    fs::write(file, text.replace(&old, &new))?;
    let pid = Pid::from_raw(i32::try_from(server.pid())?).context("a process")?;
    let begun = Instant::now();
    kill_process(pid, Signal::HUP)?;
    while !answer(server.address)?.contains(says) {
        ensure!(begun.elapsed() < RELOADED, "no {to} after {RELOADED:?}");
    }
    Ok(begun.elapsed())
}

/// Returns the answer to a request of a new connection.
fn answer(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /about HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
