//! Starts netwasm and its peers, and finds out where they listen.

use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

use crate::measure::Cores;
use crate::operated::Operation;
use crate::{dns, haproxy, nginx, site};

/// The server's certificate.
pub(crate) const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../certs/cert.pem");
/// The server's key.
pub(crate) const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../certs/key.pem");
/// The authority that signed the certificate.
pub(crate) const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../certs/ca.pem");

const GUESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../guests");
/// netwasm's cache of compiled code for measurements.
const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/cache");
/// wasmtime's command, of the version that netwasm is built with:
/// `cargo install wasmtime-cli@48`.
const WASMTIME: &str = "wasmtime";
const PYTHON: &str = "python3";
/// Variable that names another Python.
const PYTHON_NAMED: &str = "NETWASM_BENCH_PYTHON";
const PYTHON_PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/table/peer.py");
const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../certs");
/// Variable that names netwasm's interpreter of Python.
const INTERPRETER: &str = "NETWASM_PYTHON";
/// The interpreter of the tests in Python.
const TESTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/python/python.wasm");
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Service that a server provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    /// Echo over TCP.
    Tcp,
    /// Echo over TLS.
    Tls,
    /// Echo over UDP.
    Udp,
    /// Connect every client to one TCP server.
    Proxy,
    /// Look up the one name of [`dns`] when told to.
    Resolver,
    /// Connect to one TLS server when told to.
    TlsClient,
    /// The page and the files of [`site`].
    Http,
    /// The page and the files of [`site`], over TLS.
    Https,
    /// Pass HTTP requests on to another server.
    Forward,
    /// Pass HTTP requests that come over TLS on to another server, without it.
    ForwardHttps,
    /// Pass HTTP/2 requests on to another server, in HTTP/1.1.
    ForwardHttp2,
    /// The page in HTTP/2, without TLS.
    Http2,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Udp => "udp",
            Self::Proxy => "proxy",
            Self::Resolver => "resolver",
            Self::TlsClient => "tls-client",
            Self::Http => "http",
            Self::Https => "https",
            Self::Forward => "forward",
            Self::ForwardHttps => "forward-https",
            Self::ForwardHttp2 => "forward-http2",
            Self::Http2 => "http2",
        }
    }
}

/// A program that provides a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A guest in netwasm.
    Netwasm {
        /// Name of the guest.
        guest: &'static str,
        /// `connection` or `worker`.
        isolation: &'static str,
    },
    /// A guest in netwasm, isolated by connection, operated in this way.
    Operated {
        /// Name of the guest.
        guest: &'static str,
        how: Operation,
    },
    /// A program in netwasm that listens by itself.
    Program {
        /// Name of the guest.
        guest: &'static str,
    },
    /// A guest of `wasi:http` in netwasm.
    Handler {
        /// Name of the guest.
        guest: &'static str,
        /// `request`, `connection` or `worker`.
        isolation: &'static str,
        reuse: Reuse,
    },
    /// A guest of `wasi:http` in wasmtime's own server.
    Serve {
        /// Name of the guest.
        guest: &'static str,
        reuse: Reuse,
    },
    /// A program in wasmtime's own command.
    Wasmtime {
        /// Name of the guest.
        guest: &'static str,
    },
    /// The tokio program.
    Native {
        /// Read buffer of a connection in bytes.
        buffer: usize,
    },
    /// The script of `Asyncio` in netwasm's interpreter.
    Script,
    /// Python with the event loop of its standard library.
    Asyncio,
    /// Python with the event loop of uvloop.
    Uvloop,
    Nginx,
    Haproxy,
}

/// Reuse of an instance that answers HTTP requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reuse {
    /// Number of requests that an instance gets.
    pub(crate) count: u32,
    /// Number of requests that it gets at once.
    pub(crate) at_once: u32,
}

impl Reuse {
    /// Returns the flags of netwasm, which are also wasmtime's.
    fn flags(self) -> [String; 2] {
        let Self { count, at_once } = self;
        [
            format!("--max-instance-reuse-count={count}"),
            format!("--max-instance-concurrent-reuse-count={at_once}"),
        ]
    }
}

impl fmt::Display for Reuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, at_once } = self;
        write!(f, "{count} requests, {at_once} at once")
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netwasm { guest, isolation } => write!(f, "{guest} ({isolation})"),
            Self::Operated { guest, how } => write!(f, "{guest} ({how})"),
            Self::Program { guest } => f.write_str(guest),
            Self::Handler {
                guest,
                isolation,
                reuse,
            } => write!(f, "{guest} ({isolation}, {reuse})"),
            Self::Serve { guest, reuse } => write!(f, "{guest} (wasmtime serve, {reuse})"),
            Self::Wasmtime { guest } => write!(f, "{guest} (wasmtime run)"),
            Self::Native { buffer } => write!(f, "native ({} KiB)", buffer / 1024),
            Self::Script => f.write_str("asyncio in netwasm"),
            Self::Asyncio => f.write_str("asyncio"),
            Self::Uvloop => f.write_str("uvloop"),
            Self::Nginx => f.write_str("nginx"),
            Self::Haproxy => f.write_str("haproxy"),
        }
    }
}

/// Peers that this machine has.
pub(crate) struct Peers {
    netwasm: PathBuf,
    python: PathBuf,
    /// Version of Python, if it is there.
    pub(crate) python_version: Option<String>,
    uvloop: bool,
    /// netwasm's interpreter of Python.
    interpreter: Option<PathBuf>,
    nginx: bool,
    haproxy: bool,
    wasmtime: bool,
}

impl Peers {
    /// Looks for the programs that are not of this repository, and prints what
    /// is missing.
    pub(crate) fn find(netwasm: PathBuf) -> Self {
        let works = |program: &str, arguments: &[&str]| {
            Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        let python = std::env::var_os(PYTHON_NAMED).map_or_else(|| PYTHON.into(), PathBuf::from);
        let interpreter =
            std::env::var_os(INTERPRETER).map_or_else(|| TESTED.into(), PathBuf::from);
        let found = Self {
            netwasm,
            python_version: version(&python),
            uvloop: works(&python.to_string_lossy(), &["-c", "import uvloop"]),
            python,
            interpreter: interpreter.is_file().then_some(interpreter),
            nginx: works(nginx::PROGRAM, &["-v"]),
            haproxy: works(haproxy::PROGRAM, &["-v"]),
            wasmtime: works(WASMTIME, &["-V"]),
        };
        let python = found.python.display();
        if found.python_version.is_none() {
            eprintln!("{python} is not there: asyncio and uvloop are left out");
        } else if !found.uvloop {
            eprintln!("{python} has no uvloop (pip install uvloop): it is left out");
        }
        if found.interpreter.is_none() {
            eprintln!("{INTERPRETER} names no interpreter: Python in netwasm is left out");
        }
        if !found.wasmtime {
            eprintln!("{WASMTIME} is not there: it is left out");
        }
        if !found.nginx {
            eprintln!("{} is not there: it is left out", nginx::PROGRAM);
        }
        if !found.haproxy {
            eprintln!("{} is not there: it is left out", haproxy::PROGRAM);
        }
        found
    }

    /// True if a peer can be started here.
    pub(crate) fn has(&self, peer: Peer) -> bool {
        match peer {
            Peer::Netwasm { .. }
            | Peer::Operated { .. }
            | Peer::Program { .. }
            | Peer::Handler { .. }
            | Peer::Native { .. } => true,
            Peer::Wasmtime { .. } | Peer::Serve { .. } => self.wasmtime,
            Peer::Script => self.interpreter.is_some(),
            Peer::Asyncio => self.python_version.is_some(),
            Peer::Uvloop => self.uvloop,
            Peer::Nginx => self.nginx,
            Peer::Haproxy => self.haproxy,
        }
    }

    /// Starts a server on its core, and waits until it listens.
    ///
    /// # Errors
    /// Fails if the server cannot be started, ends, or does not listen within a
    /// minute.
    pub(crate) fn start(
        &self,
        peer: Peer,
        service: Service,
        upstream: Option<SocketAddr>,
        cores: Cores,
    ) -> anyhow::Result<Server> {
        let mut directory = None;
        let mut command = match peer {
            Peer::Netwasm { guest, isolation } => {
                self.netwasm(guest, isolation, service, upstream)?
            }
            Peer::Operated { guest, how } => {
                let flags = self.netwasm(guest, "connection", service, upstream)?;
                how.command(flags, directory.insert(TempDir::new()?).path())?
            }
            Peer::Handler {
                guest,
                isolation,
                reuse,
            } => {
                let mut command = self.netwasm(guest, isolation, service, upstream)?;
                command.args(reuse.flags());
                command
            }
            Peer::Serve { guest, reuse } => {
                let address = free_address()?;
                let mut command = serve(address);
                command.args(reuse.flags());
                command.arg(format!("{GUESTS}/{guest}.wasm"));
                return start_silent(&mut command, address, None, cores);
            }
            Peer::Native { buffer } => native(buffer, service, upstream)?,
            Peer::Script => self.script(service)?,
            Peer::Asyncio | Peer::Uvloop => self.python(peer, service)?,
            Peer::Program { guest } => {
                let address = free_address()?;
                let mut command = self.program(guest, address);
                return start_silent(&mut command, address, None, cores);
            }
            Peer::Wasmtime { guest } => {
                let address = free_address()?;
                return start_silent(&mut wasmtime(guest, address), address, None, cores);
            }
            Peer::Nginx => return start_nginx(service, upstream, cores),
            Peer::Haproxy => return start_haproxy(service, upstream, cores),
        };
        command.stdout(Stdio::piped());
        let start = Instant::now();
        let child = spawn(&mut command, cores)?;
        Server::listening(child, start, directory).with_context(|| format!("{command:?}"))
    }

    fn netwasm(
        &self,
        guest: &str,
        isolation: &str,
        service: Service,
        upstream: Option<SocketAddr>,
    ) -> io::Result<Command> {
        let mut command = Command::new(&self.netwasm);
        command.env("XDG_CACHE_HOME", CACHE).env("RUST_LOG", "warn");
        command.arg("run").arg(format!("{GUESTS}/{guest}.wasm"));
        command.args(["--workers=1", "--isolation", isolation]);
        command.arg(match service {
            Service::Tcp | Service::Proxy | Service::Resolver | Service::TlsClient => {
                "--tcp=127.0.0.1:0"
            }
            Service::Tls => "--tls=127.0.0.1:0",
            Service::Udp => "--udp=127.0.0.1:0",
            Service::Http | Service::Http2 | Service::Forward | Service::ForwardHttp2 => {
                "--http=127.0.0.1:0"
            }
            Service::Https | Service::ForwardHttps => "--https=127.0.0.1:0",
        });
        if matches!(
            service,
            Service::Tls | Service::Https | Service::ForwardHttps
        ) {
            command.args(["--cert", CERTIFICATE, "--key", KEY]);
        }
        if matches!(guest, "static" | "file-server") {
            command.arg(format!("--dir={}::/", site::directory()?));
        }
        if service == Service::TlsClient {
            command.args(["--ca", AUTHORITY]);
        }
        if let (Service::Resolver, Some(server)) = (service, upstream) {
            command.arg(format!("--dns-server={server}"));
            command.args(["--allow-resolve", dns::NAME]);
        } else if let ("gateway", Some(upstream)) = (guest, upstream) {
            command.arg(format!("--upstream=site={upstream}"));
            command.args(["--", "/=site"]);
        } else if let Some(upstream) = upstream {
            command.arg(format!("--allow-connect={upstream}"));
            command.arg("--").arg(match service {
                Service::Forward => format!("http://{upstream}"),
                _ => upstream.to_string(),
            });
        }
        Ok(command)
    }

    fn program(&self, guest: &str, address: SocketAddr) -> Command {
        let mut command = Command::new(&self.netwasm);
        command.env("XDG_CACHE_HOME", CACHE).env("RUST_LOG", "warn");
        command.arg("run").arg(format!("{GUESTS}/{guest}.wasm"));
        command.arg(format!("--allow-listen={address}"));
        command.arg("--").arg(address.to_string());
        command
    }

    /// Returns the command of the script in netwasm's interpreter.
    fn script(&self, service: Service) -> io::Result<Command> {
        let mut command = Command::new(&self.netwasm);
        command.env("XDG_CACHE_HOME", CACHE).env("RUST_LOG", "warn");
        command.args(["run", PYTHON_PEER]);
        if let Some(interpreter) = &self.interpreter {
            command.arg("--python").arg(interpreter);
        }
        command.args(["--allow-listen", "127.0.0.1:*"]);
        let files = site::directory()?;
        for directory in [CERTIFICATES, files] {
            command
                .arg("--dir")
                .arg(format!("{directory}::{directory}"));
        }
        command.args(["--", service.name(), CERTIFICATE, KEY, files, "asyncio"]);
        Ok(command)
    }

    fn python(&self, event_loop: Peer, service: Service) -> io::Result<Command> {
        let mut command = Command::new(&self.python);
        command.args([PYTHON_PEER, service.name(), CERTIFICATE, KEY]);
        command.arg(site::directory()?).arg(event_loop.to_string());
        Ok(command)
    }
}

fn wasmtime(guest: &str, address: SocketAddr) -> Command {
    let mut command = Command::new(WASMTIME);
    command.args(["run", "-W", "component-model-async", "-S", "p3"]);
    command.args(["-S", "inherit-network"]);
    command.arg(format!("{GUESTS}/{guest}.wasm"));
    command.arg(address.to_string());
    command
}

fn serve(address: SocketAddr) -> Command {
    let mut command = Command::new(WASMTIME);
    command.args(["serve", "-W", "component-model-async", "-S", "cli,p3"]);
    command.arg(format!("--addr={address}"));
    command
}

/// Returns the command that runs this executable again.
fn native(buffer: usize, service: Service, upstream: Option<SocketAddr>) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("native-peer").arg(service.name());
    command.arg(format!("--buffer={buffer}"));
    command.args(upstream.map(|upstream| format!("--upstream={upstream}")));
    Ok(command)
}

/// Returns the version of a Python that has asyncio.
fn version(python: &Path) -> Option<String> {
    let mut command = Command::new(python);
    command.args([
        "-c",
        "import asyncio, platform; print(platform.python_version())",
    ]);
    let output = command.stderr(Stdio::null()).output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| version.trim_end().to_owned())
}

fn start_nginx(
    service: Service,
    upstream: Option<SocketAddr>,
    cores: Cores,
) -> anyhow::Result<Server> {
    let directory = TempDir::new()?;
    let address = free_address()?;
    let mut command = nginx::command(directory.path(), address, service, upstream)?;
    start_silent(&mut command, address, Some(directory), cores)
}

fn start_haproxy(
    service: Service,
    upstream: Option<SocketAddr>,
    cores: Cores,
) -> anyhow::Result<Server> {
    let directory = TempDir::new()?;
    let address = free_address()?;
    let mut command = haproxy::command(directory.path(), address, service, upstream)?;
    start_silent(&mut command, address, Some(directory), cores)
}

/// Returns a free address. Nobody else takes its port in the moment until it is
/// used.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Starts a server that does not print that it listens.
fn start_silent(
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

fn spawn(command: &mut Command, cores: Cores) -> anyhow::Result<Child> {
    command.stdin(Stdio::null());
    cores
        .spawn_server(command)
        .with_context(|| command.get_program().display().to_string())
}

/// A running server. Dropping it kills it.
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
    fn listening(
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

fn end(child: &mut Child) {
    // Either fails only if the process is already gone.
    drop(child.kill());
    drop(child.wait());
}
