//! `wasi:tls`, 0.2 and 0.3, as wasmtime has it, over this host's own TLS: its
//! trust roots (`--ca`, `--tls-insecure`), its sessions, which are resumed, and its
//! counts.
//!
//! A guest encrypts what goes over streams that it has already, so that whom it
//! reaches was decided when it opened these.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use netwasm_base::meter::Measure;
use send_wrapper::SendWrapper;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::HandshakeKind;
use tokio_rustls::rustls::pki_types::ServerName;
use wasmtime::component::Linker;
use wasmtime_wasi_tls::{
    Error, TlsProvider, TlsTransport, WasiTlsCtx, WasiTlsCtxBuilder, WasiTlsCtxView, WasiTlsView,
    p2, p3,
};

use crate::concurrent::state::AsyncState;
use crate::local::Local;

/// Links both versions.
///
/// # Errors
/// Fails if one of them is already linked.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    let mut options = p2::LinkOptions::default();
    options.tls(true);
    p2::add_to_linker(linker, &options)?;
    p3::add_to_linker(linker)
}

/// Returns the context of an instance.
fn context(local: &Rc<Local>) -> WasiTlsCtx {
    let provider = Provider(SendWrapper::new(Rc::clone(local)));
    WasiTlsCtxBuilder::new()
        .provider(Box::new(provider))
        .build()
}

impl WasiTlsView for AsyncState {
    fn tls(&mut self) -> WasiTlsCtxView<'_> {
        let (ctx, table) = self.tls_parts(context);
        WasiTlsCtxView { table, ctx }
    }
}

/// Makes sessions for the instances of a thread.
struct Provider(SendWrapper<Rc<Local>>);

/// A session that is to come.
type Connecting =
    Pin<Box<dyn Future<Output = Result<Box<dyn wasmtime_wasi_tls::TlsStream>, Error>> + Send>>;

impl TlsProvider for Provider {
    fn connect(&self, server_name: String, transport: Box<dyn TlsTransport>) -> Connecting {
        let local = SendWrapper::new(Rc::clone(&self.0));
        Box::pin(SendWrapper::new(async move {
            let limit = local.env.net.limits.handshake_timeout;
            let meter = &local.worker.thread.meter;
            let made = match timeout(limit, handshake(&local, server_name, transport)).await {
                Ok(made) => made,
                Err(_) => Err(Error::msg(
                    "the handshake takes too long (--handshake-timeout)",
                )),
            };
            let stream = made.inspect_err(|_| meter.add(Measure::ClientHandshakesFailed, 1))?;
            meter.add(Measure::ClientHandshakes, 1);
            if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                meter.add(Measure::ClientResumptions, 1);
            }
            let stream: Box<dyn wasmtime_wasi_tls::TlsStream> = Box::new(Encrypted(stream));
            Ok(stream)
        }))
    }
}

async fn handshake(
    local: &Local,
    server_name: String,
    transport: Box<dyn TlsTransport>,
) -> Result<TlsStream<Box<dyn TlsTransport>>, Error> {
    let name = ServerName::try_from(server_name);
    let name =
        name.map_err(|_| Error::msg("the server's name is neither a name nor an address"))?;
    let tls = &local.env.net.tls;
    tls.client_prepared().await;
    let config = tls.plain_client().map_err(Error::msg)?;
    let connector = TlsConnector::from(config);
    connector.connect(name, transport).await.map_err(Error::msg)
}

/// A session.
struct Encrypted(TlsStream<Box<dyn TlsTransport>>);

impl wasmtime_wasi_tls::TlsStream for Encrypted {}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
