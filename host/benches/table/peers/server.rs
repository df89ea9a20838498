//! A server's process, from its start to its end.

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::measure::Cores;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// A running server. Dropping it ends it.
pub(crate) struct Server {
    child: Child,
    /// Address that the server listens on.
    pub(crate) address: SocketAddr,
    /// Time from the start until the server listens.
    pub(crate) start_up: Duration,
    /// Keeps the pipe open, so that the server may go on printing.
    _output: Option<BufReader<ChildStdout>>,
    /// Directory of the server's files, which is removed with the server.
    pub(crate) directory: Option<TempDir>,
}

impl Server {
    pub(super) fn listening(
        mut child: Child,
        start: Instant,
        directory: Option<TempDir>,
    ) -> anyhow::Result<Self> {
        match Self::first_line(&mut child) {
            Ok((line, output)) => {
                let start_up = start.elapsed();
                let address = line.trim_end().rsplit('/').next().unwrap_or_default();
                let address = address
                    .parse()
                    .with_context(|| format!("it printed {line:?}"))?;
                Ok(Self {
                    child,
                    address,
                    start_up,
                    _output: Some(output),
                    directory,
                })
            }
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    fn first_line(child: &mut Child) -> anyhow::Result<(String, BufReader<ChildStdout>)> {
        let output = child.stdout.take().context("it has no standard output")?;
        let timeout = Timespec::try_from(START_TIMEOUT)?;
        if poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&timeout))? == 0 {
            bail!("it does not listen after {START_TIMEOUT:?}");
        }
        let mut output = BufReader::new(output);
        let mut line = String::new();
        if output.read_line(&mut line)? == 0 {
            bail!("it ended before it listened");
        }
        Ok((line, output))
    }

    /// Waits until a server that prints nothing takes connections.
    fn wait_for_accept(&mut self, start: Instant) -> anyhow::Result<()> {
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended before it listened: {status}");
            }
            if start.elapsed() > START_TIMEOUT {
                bail!("it does not listen after {START_TIMEOUT:?}");
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.start_up = start.elapsed();
        Ok(())
    }

    /// Returns the id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Asks a server to end, as a program that counts what it does for .ci/release
/// writes that down only then. Kills it if it goes on.
fn end(child: &mut Child) {
    let asked = Instant::now();
    let ending = kill_process(Pid::from_child(child), Signal::TERM);
    while ending.is_ok() && asked.elapsed() < END_TIMEOUT {
        match child.try_wait() {
            Ok(None) => thread::sleep(Duration::from_millis(2)),
            _ => return,
        }
    }
    // Either fails only if the process is already gone.
    drop(child.kill());
    drop(child.wait());
}

/// Returns a free address. Nobody else takes its port in the moment until it is
/// used.
pub(super) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Starts a server that does not print that it listens.
pub(super) fn start_silent(
    command: &mut Command,
    address: SocketAddr,
    directory: Option<TempDir>,
    cores: Cores,
) -> anyhow::Result<Server> {
    command.stdout(Stdio::null());
    let start = Instant::now();
    let child = spawn(command, cores)?;
    let mut server = Server {
        child,
        address,
        start_up: Duration::ZERO,
        _output: None,
        directory,
    };
    server
        .wait_for_accept(start)
        .with_context(|| format!("{command:?}"))?;
    Ok(server)
}

pub(super) fn spawn(command: &mut Command, cores: Cores) -> anyhow::Result<Child> {
    command.stdin(Stdio::null());
    cores
        .spawn_server(command)
        .with_context(|| command.get_program().display().to_string())
}
