//! netwasm and its peers: the programs of this machine, and the services that
//! each can be started with.

mod command;
mod server;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;
use clap::ValueEnum;
use tempfile::TempDir;

use self::command::{native, serve, wasmtime};
use self::server::{free_address, spawn, start_silent};
use crate::measure::Cores;
use crate::native_websocket::Library;
use crate::operated::Operation;
use crate::{bun, haproxy, nginx};

pub(crate) use self::server::Server;

/// The server's certificate.
pub(crate) const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../certs/cert.pem");
/// The server's key.
pub(crate) const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../certs/key.pem");
/// The authority that signed the certificate.
pub(crate) const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../certs/ca.pem");

/// wasmtime's command, of the version that netwasm is built with:
/// `cargo install wasmtime-cli@48`.
const WASMTIME: &str = "wasmtime";
const PYTHON: &str = "python3";
/// Variable that names another Python.
const PYTHON_NAMED: &str = "NETWASM_BENCH_PYTHON";
/// Variable that names netwasm's interpreter of Python.
const INTERPRETER: &str = "NETWASM_PYTHON";
/// The interpreter of the tests in Python.
const TESTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/python/python.wasm");

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
    /// Look up the one name of [`crate::dns`] when told to.
    Resolver,
    /// Connect to one TLS server when told to.
    TlsClient,
    /// The page and the files of [`crate::site`].
    Http,
    /// The page and the files of [`crate::site`], over TLS.
    Https,
    /// Pass HTTP requests on to another server.
    Forward,
    /// Pass HTTP requests that come over TLS on to another server, without it.
    ForwardHttps,
    /// Pass HTTP/2 requests on to another server, in HTTP/1.1.
    ForwardHttp2,
    /// The page in HTTP/2, without TLS.
    Http2,
    /// Echo over WebSocket.
    WebSocket,
    /// Echo over WebSocket that compresses each message by itself.
    PackedWebSocket,
    /// A chat over WebSocket, by topics.
    Topics,
}

impl Service {
    pub(crate) fn name(self) -> &'static str {
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
            Self::WebSocket => "websocket",
            Self::PackedWebSocket => "packed-websocket",
            Self::Topics => "topics",
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
    /// The tokio program that speaks WebSocket.
    Library(Library),
    /// The script of `Asyncio` in netwasm's interpreter.
    Script,
    /// Python with the event loop of its standard library.
    Asyncio,
    /// Python with the event loop of uvloop.
    Uvloop,
    Nginx,
    Haproxy,
    Bun,
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
            Self::Library(library) => f.write_str(library.name()),
            Self::Script => f.write_str("asyncio in netwasm"),
            Self::Asyncio => f.write_str("asyncio"),
            Self::Uvloop => f.write_str("uvloop"),
            Self::Nginx => f.write_str("nginx"),
            Self::Haproxy => f.write_str("haproxy"),
            Self::Bun => f.write_str("bun"),
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
    bun: Option<PathBuf>,
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
            bun: bun::find(),
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
            | Peer::Native { .. }
            | Peer::Library(_) => true,
            Peer::Wasmtime { .. } | Peer::Serve { .. } => self.wasmtime,
            Peer::Script => self.interpreter.is_some(),
            Peer::Asyncio => self.python_version.is_some(),
            Peer::Uvloop => self.uvloop,
            Peer::Nginx => self.nginx,
            Peer::Haproxy => self.haproxy,
            Peer::Bun => self.bun.is_some(),
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
                let mut command = serve(guest, reuse, address);
                return start_silent(&mut command, address, None, cores);
            }
            Peer::Native { buffer } => native(buffer, service, upstream)?,
            Peer::Library(library) => library.command()?,
            Peer::Bun => bun::command(self.bun.as_deref().context("bun is not there")?, service),
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
            Peer::Nginx | Peer::Haproxy => {
                let (files, address) = (TempDir::new()?, free_address()?);
                let mut command = match peer {
                    Peer::Nginx => nginx::command(files.path(), address, service, upstream)?,
                    _ => haproxy::command(files.path(), address, service, upstream)?,
                };
                return start_silent(&mut command, address, Some(files), cores);
            }
        };
        command.stdout(Stdio::piped());
        let start = Instant::now();
        let child = spawn(&mut command, cores)?;
        Server::listening(child, start, directory).with_context(|| format!("{command:?}"))
    }
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
