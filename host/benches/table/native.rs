//! The tokio program that netwasm is compared with: what a careful author would
//! write by hand, on a current-thread runtime, because netwasm has one worker.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes,
};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

use crate::peers::{CERTIFICATE, KEY, Service};
use crate::{native_client, native_http};

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// Serves until it is killed, with `buffer` bytes per connection. Announces its
/// address as netwasm does: by a line `listening tcp://127.0.0.1:PORT`.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn serve(
    service: Service,
    buffer: usize,
    upstream: Option<SocketAddr>,
) -> anyhow::Result<()> {
    match service {
        Service::Tcp => {
            accept("tcp", move |stream| echo(stream, buffer)).await?;
        }
        Service::Tls => {
            let acceptor = tls_acceptor()?;
            accept("tls", move |stream| {
                let acceptor = acceptor.clone();
                async move { echo(acceptor.accept(stream).await?, buffer).await }
            })
            .await?;
        }
        Service::Udp => echo_datagrams().await?,
        Service::Http => accept("http", native_http::serve).await?,
        Service::Http2 => accept("http", native_http::serve_http2).await?,
        Service::Https => {
            let acceptor = tls_acceptor()?;
            accept("https", move |stream| {
                let acceptor = acceptor.clone();
                async move { native_http::serve(acceptor.accept(stream).await?).await }
            })
            .await?;
        }
        Service::Resolver => {
            let server = upstream.context("a resolver needs --upstream")?;
            let resolver = native_client::resolver(server)?;
            accept("tcp", move |stream| {
                let resolver = resolver.clone();
                native_client::obey(stream, async move || {
                    native_client::resolve(&resolver).await
                })
            })
            .await?;
        }
        Service::TlsClient => {
            let server = upstream.context("a client needs --upstream")?;
            let connector = native_client::connector()?;
            accept("tcp", move |stream| {
                let connector = connector.clone();
                native_client::obey(stream, async move || {
                    native_client::connect(&connector, server).await
                })
            })
            .await?;
        }
        Service::Proxy => {
            let upstream = upstream.context("a proxy needs --upstream")?;
            accept("tcp", move |stream| proxy(stream, upstream, buffer)).await?;
        }
        Service::Forward | Service::ForwardHttps | Service::ForwardHttp2 => {
            anyhow::bail!("the tokio program passes no requests on")
        }
        Service::WebSocket | Service::PackedWebSocket | Service::Topics => {
            anyhow::bail!("another tokio program speaks WebSocket")
        }
    }
    Ok(())
}

/// Spawns a task for every connection. An error in one task ends only its
/// connection.
pub(crate) async fn accept<F>(scheme: &str, serve: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind(ANY_PORT).await?;
    announce(scheme, listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream));
    }
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length]).await?;
        // Does nothing for TCP; a TLS session may hold a record back.
        stream.flush().await?;
    }
}

async fn echo_datagrams() -> io::Result<()> {
    let socket = UdpSocket::bind(ANY_PORT).await?;
    announce("udp", socket.local_addr()?)?;
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await?;
        socket.send_to(&buffer[..length], peer).await?;
    }
}

async fn proxy(mut client: TcpStream, upstream: SocketAddr, buffer: usize) -> io::Result<()> {
    let mut upstream = TcpStream::connect(upstream).await?;
    upstream.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut client, &mut upstream, buffer, buffer).await?;
    Ok(())
}

fn tls_acceptor() -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(CERTIFICATE)
        .and_then(Iterator::collect)
        .context(CERTIFICATE)?;
    let key = PrivateKeyDer::from_pem_file(KEY).context(KEY)?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn announce(scheme: &str, address: SocketAddr) -> io::Result<()> {
    let mut output = io::stdout();
    writeln!(output, "listening {scheme}://{address}")?;
    output.flush()
}
