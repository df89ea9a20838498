//! The tokio program as a client. It takes the lines of the guest
//! `stream-probe`, but its errand is set when it starts, so that only the count
//! in a line matters.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::dns;
use crate::peers::AUTHORITY;

/// Runs an errand as often as each line says, and answers the line.
pub(crate) async fn obey(
    stream: TcpStream,
    errand: impl AsyncFn() -> io::Result<String>,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        if let Some(times) = line.strip_prefix("times ") {
            let times = times.split(' ').next().and_then(|times| times.parse().ok());
            let mut reply = String::new();
            for _ in 0..times.unwrap_or(0) {
                reply = errand().await?;
            }
            stream.write_all(format!("{reply}\n").as_bytes()).await?;
        }
        line.clear();
    }
    Ok(())
}

/// Makes a resolver that asks one server and caches its answers.
pub(crate) fn resolver(server: SocketAddr) -> anyhow::Result<TokioResolver> {
    let mut servers = NameServerConfig::udp(server.ip());
    for connection in &mut servers.connections {
        connection.port = server.port();
    }
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![servers]);
    let provider = TokioRuntimeProvider::default();
    Ok(TokioResolver::builder_with_config(config, provider).build()?)
}

pub(crate) async fn resolve(resolver: &TokioResolver) -> io::Result<String> {
    let found = resolver
        .lookup_ip(dns::NAME)
        .await
        .map_err(io::Error::other)?;
    Ok(format!("{:?}", found.iter().collect::<Vec<_>>()))
}

pub(crate) fn connector() -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(AUTHORITY).context(AUTHORITY)?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Connects, and sends a byte to and fro. After that, the session can be
/// resumed.
pub(crate) async fn connect(connector: &TlsConnector, server: SocketAddr) -> io::Result<String> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut stream = connector.connect(name, stream).await?;
    stream.write_all(b"x").await?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await?;
    stream.shutdown().await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
