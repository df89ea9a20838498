//! How nginx is set up: one process that does everything, as netwasm has one
//! worker, and tuned as its manual has it for what is measured.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::peers::{CERTIFICATE, KEY};
use crate::site::{self, PAGE, PAGE_TYPE};

pub(crate) const PROGRAM: &str = "nginx";

/// What starts it, with its configuration and whatever else it writes in
/// `directory`.
pub(crate) fn command(directory: &Path, address: SocketAddr, secure: bool) -> io::Result<Command> {
    let configuration = directory.join("nginx.conf");
    fs::write(&configuration, configured(address, secure)?)?;
    let mut command = Command::new(PROGRAM);
    command.arg("-p").arg(directory);
    command.arg("-c").arg(configuration);
    command.args(["-e", "stderr"]);
    Ok(command)
}

fn configured(address: SocketAddr, secure: bool) -> io::Result<String> {
    let site = site::directory()?;
    let tls = if secure {
        format!("ssl_certificate {CERTIFICATE}; ssl_certificate_key {KEY}; ssl_protocols TLSv1.3;")
    } else {
        String::new()
    };
    let ssl = if secure { " ssl" } else { "" };
    Ok(format!(
        r#"
daemon off;
master_process off;
worker_processes 1;
error_log stderr warn;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_body_temp_path client-body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    types {{}}
    default_type "{PAGE_TYPE}";
    server {{
        listen {address}{ssl};
        {tls}
        root {site};
        location = / {{ return 200 "{PAGE}"; }}
    }}
}}
"#
    ))
}
