//! The set-up of nginx: one process that does everything, because netwasm has
//! one worker, tuned by its manual for what is measured.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::peers::{CERTIFICATE, KEY, Service};
use crate::site::{self, PAGE, PAGE_TYPE, TAKEN};

pub(crate) const PROGRAM: &str = "nginx";

/// Forwarding that keeps connections and writes nothing to the disk.
const PASSED_ON: &str = r#"location / {
            proxy_pass http://other;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffer_size 64k;
            proxy_buffers 8 64k;
            proxy_busy_buffers_size 256k;
            proxy_max_temp_file_size 0;
            client_body_buffer_size 64k;
        }"#;

/// Returns the command that starts nginx. Its configuration and whatever else
/// it writes are in `directory`.
pub(crate) fn command(
    directory: &Path,
    address: SocketAddr,
    service: Service,
    upstream: Option<SocketAddr>,
) -> io::Result<Command> {
    let configuration = directory.join("nginx.conf");
    fs::write(&configuration, configured(address, service, upstream)?)?;
    let mut command = Command::new(PROGRAM);
    command.arg("-p").arg(directory);
    command.arg("-c").arg(configuration);
    command.args(["-e", "stderr"]);
    Ok(command)
}

fn configured(
    address: SocketAddr,
    service: Service,
    upstream: Option<SocketAddr>,
) -> io::Result<String> {
    let secure = matches!(service, Service::Https | Service::ForwardHttps);
    let site = site::directory()?;
    let tls = if secure {
        format!("ssl_certificate {CERTIFICATE}; ssl_certificate_key {KEY}; ssl_protocols TLSv1.3;")
    } else {
        String::new()
    };
    let (upstream, locations) = match upstream {
        None => (
            String::new(),
            format!(
                r#"location = / {{ return 200 "{PAGE}"; }}
        location = /taken {{ return 200 "{TAKEN}"; }}"#
            ),
        ),
        Some(upstream) => (
            format!(
                "upstream other {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}"
            ),
            PASSED_ON.to_owned(),
        ),
    };
    let spoken = match service {
        Service::Https | Service::ForwardHttps => " ssl",
        Service::Http2 | Service::ForwardHttp2 => " http2",
        _ => "",
    };
    Ok(format!(
        r#"
daemon off;
master_process off;
worker_processes 1;
error_log stderr warn;
pid nginx.pid;
events {{ worker_connections 16384; }}
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
    {upstream}
    server {{
        listen {address}{spoken};
        {tls}
        root {site};
        {locations}
    }}
}}
"#
    ))
}
