//! The set-up of HAProxy: one thread, as nginx has one process.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::peers::{CERTIFICATE, KEY, Service};

pub(crate) const PROGRAM: &str = "haproxy";

/// Returns the command that starts HAProxy. Its configuration is in `directory`.
pub(crate) fn command(
    directory: &Path,
    address: SocketAddr,
    service: Service,
    upstream: Option<SocketAddr>,
) -> io::Result<Command> {
    let upstream = upstream.ok_or_else(|| io::Error::other("it only forwards"))?;
    let both = directory.join("both.pem");
    fs::write(&both, [fs::read(CERTIFICATE)?, fs::read(KEY)?].concat())?;
    let spoken = match service {
        Service::ForwardHttps => format!(" ssl crt {} ssl-min-ver TLSv1.3", both.display()),
        Service::ForwardHttp2 => " proto h2".to_owned(),
        _ => String::new(),
    };
    let configuration = directory.join("haproxy.cfg");
    fs::write(
        &configuration,
        format!(
            "global
    nbthread 1
    maxconn 8100
    maxpipes 200
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 60s
    http-reuse always
    option splice-auto
frontend all
    bind {address}{spoken}
    default_backend other
backend other
    server other {upstream}
"
        ),
    )?;
    let mut command = Command::new(PROGRAM);
    command.arg("-db").arg("-f").arg(configuration);
    Ok(command)
}
