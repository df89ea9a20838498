//! The command that starts each peer with a service.

use std::io;
use std::net::SocketAddr;
use std::process::Command;

use super::{AUTHORITY, CERTIFICATE, KEY, Peer, Peers, Reuse, Service, WASMTIME};
use crate::{dns, site};

const GUESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../guests");
/// netwasm's cache of compiled code for measurements.
const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/cache");
const PYTHON_PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/table/peer.py");
const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../certs");

impl Peers {
    /// Returns netwasm's command that runs a component or a script.
    fn run(&self, runnable: &str) -> Command {
        let mut command = Command::new(&self.netwasm);
        command.env("XDG_CACHE_HOME", CACHE).env("RUST_LOG", "warn");
        // The connections of a turn are over, or of no interest.
        command.args(["run", runnable, "--shutdown-timeout=100ms"]);
        command
    }

    pub(super) fn netwasm(
        &self,
        guest: &str,
        isolation: &str,
        service: Service,
        upstream: Option<SocketAddr>,
    ) -> io::Result<Command> {
        let mut command = self.run(&format!("{GUESTS}/{guest}.wasm"));
        command.args(["--workers=1", "--isolation", isolation]);
        command.arg(match service {
            Service::Tcp | Service::Proxy | Service::Resolver | Service::TlsClient => {
                "--tcp=127.0.0.1:0"
            }
            Service::Tls => "--tls=127.0.0.1:0",
            Service::Udp => "--udp=127.0.0.1:0",
            Service::Http
            | Service::Http2
            | Service::Forward
            | Service::ForwardHttp2
            | Service::WebSocket
            | Service::PackedWebSocket
            | Service::Topics => "--http=127.0.0.1:0",
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
        if service == Service::PackedWebSocket {
            command.arg("--websocket-compression=shared");
        }
        if matches!(guest, "std-events" | "std-probe") {
            command.arg("--keyvalue=a=memory:");
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

    pub(super) fn program(&self, guest: &str, address: SocketAddr) -> Command {
        let mut command = self.run(&format!("{GUESTS}/{guest}.wasm"));
        command.arg(format!("--allow-listen={address}"));
        command.arg("--").arg(address.to_string());
        command
    }

    /// Returns the command of the script in netwasm's interpreter.
    pub(super) fn script(&self, service: Service) -> io::Result<Command> {
        let mut command = self.run(PYTHON_PEER);
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

    pub(super) fn python(&self, event_loop: Peer, service: Service) -> io::Result<Command> {
        let mut command = Command::new(&self.python);
        command.args([PYTHON_PEER, service.name(), CERTIFICATE, KEY]);
        command.arg(site::directory()?).arg(event_loop.to_string());
        Ok(command)
    }
}

/// Returns the command that runs a program in wasmtime.
pub(super) fn wasmtime(guest: &str, address: SocketAddr) -> Command {
    let mut command = Command::new(WASMTIME);
    command.args(["run", "-W", "component-model-async", "-S", "p3"]);
    command.args(["-S", "inherit-network"]);
    command.arg(format!("{GUESTS}/{guest}.wasm"));
    command.arg(address.to_string());
    command
}

/// Returns the command of wasmtime's server.
pub(super) fn serve(guest: &str, reuse: Reuse, address: SocketAddr) -> Command {
    let mut command = Command::new(WASMTIME);
    command.args(["serve", "-W", "component-model-async", "-S", "cli,p3"]);
    command.arg(format!("--addr={address}"));
    command.args(reuse.flags());
    command.arg(format!("{GUESTS}/{guest}.wasm"));
    command
}

/// Returns the command that runs this executable again.
pub(super) fn native(
    buffer: usize,
    service: Service,
    upstream: Option<SocketAddr>,
) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("native-peer").arg(service.name());
    command.arg(format!("--buffer={buffer}"));
    command.args(upstream.map(|upstream| format!("--upstream={upstream}")));
    Ok(command)
}
