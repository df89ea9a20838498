//! Connector of the client. It connects as `connect` does, with TLS if the
//! scheme says so, and with HTTP/2 if the peer speaks it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Authority;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use send_wrapper::SendWrapper;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use netwasm_base::counters::Counted;
use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;
use netwasm_exchange::destination::Destination;
use netwasm_net::connect;
use netwasm_net::permits::Permit;
use netwasm_net::turns::Turn;
use netwasm_net::worker::Worker;

use crate::client::failure::ConnectFailure;
use crate::client::lanes::Lanes;
use crate::client::line::ClientLine;
use crate::client::plain::Plain;
use crate::client::settings::FirstSettings;

/// Time limit for a connection that nobody waits for any more, since another
/// has become free.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Silence on a connection of HTTP/2 after which the kernel asks whether the server
/// is there, and the number of such questions, which take as long together.
const SILENCE: Duration = Duration::from_secs(20);
const PROBES: u32 = 4;

/// Maximum of ciphertext read at once, in bytes. By itself, rustls reads 4 KiB.
const CIPHERTEXT: usize = 32 << 10;

/// Connector of a worker.
#[derive(Clone)]
pub(super) struct Connector {
    worker: SendWrapper<Weak<Worker>>,
    lanes: Lanes,
}

impl Connector {
    pub(super) fn new(worker: Weak<Worker>, lanes: &Lanes) -> Self {
        Self {
            worker: SendWrapper::new(worker),
            lanes: lanes.clone(),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<ClientWire>;
    type Error = ConnectFailure;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<ClientWire>, ConnectFailure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectFailure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (worker, lanes) = (self.worker.upgrade(), self.lanes.clone());
        Box::pin(SendWrapper::new(async move {
            let worker = worker.ok_or(ConnectionError::Aborted)?;
            let making = make(&worker, lanes, &uri);
            match tokio::time::timeout(TIMEOUT, making).await {
                Ok(made) => made.map(TokioIo::new),
                Err(_) => Err(ConnectionError::Timeout("connecting takes too long").into()),
            }
        }))
    }
}

async fn make(worker: &Rc<Worker>, lanes: Lanes, uri: &Uri) -> Result<ClientWire, ConnectFailure> {
    let destination = Destination::of(uri).map_err(|_| ConnectionError::InvalidArgument)?;
    let dialed = connect::dial(worker, &destination.endpoint, None).await?;
    let meter = &worker.thread.meter;
    let stream = Plain::new(dialed.socket, meter);
    let socket = match destination.secure {
        false => Socket::Plain(stream),
        true => {
            let name = destination.endpoint.server_name();
            let name = name.and_then(|name| ServerName::try_from(name).ok());
            let name = name.ok_or(ConnectionError::InvalidArgument)?;
            worker.env().tls.client_prepared().await;
            let tls = TlsConnector::from(worker.env().tls.http_client()?);
            let stream = BufReader::with_capacity(CIPHERTEXT, stream);
            let stream = tls.connect(name, stream).await;
            let stream = stream.inspect_err(|_| meter.add(Measure::ClientHandshakesFailed, 1))?;
            meter.add(Measure::ClientHandshakes, 1);
            if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                meter.add(Measure::ClientResumptions, 1);
            }
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let has_own = worker.env().limits.tcp.user_timeout.is_some();
                notice_loss(stream.get_ref().0.get_ref(), has_own);
            }
            Socket::Tls(Box::new(stream))
        }
    };
    worker.env().counters.connections_made.add();
    let settings = match socket.speaks_http2() {
        true => FirstSettings::default(),
        false => FirstSettings::none(),
    };
    Ok(ClientWire {
        socket,
        line: ClientLine::default(),
        settings,
        lanes,
        server: uri.authority().cloned(),
        turn: SendWrapper::new(worker.thread.turns.turn()),
        received: 0,
        _permit: dialed.permit,
        _counted: Counted::new(&worker.env().counters),
    })
}

/// Lets the kernel notice soon that the server of a connection is gone, which all
/// requests to it share: HTTP/2 itself may ask for that only seldom. `has_own` is
/// true if the operator has set the time for what is not acknowledged.
fn notice_loss(socket: &Plain, has_own: bool) {
    // It is not worth to end the connection for an option.
    let _ = sockopt::set_tcp_keepidle(socket, SILENCE);
    let _ = sockopt::set_tcp_keepintvl(socket, SILENCE / PROBES);
    let _ = sockopt::set_tcp_keepcnt(socket, PROBES);
    let _ = sockopt::set_socket_keepalive(socket, true);
    if !has_own {
        let limit = 2 * SILENCE.as_millis();
        let _ = sockopt::set_tcp_user_timeout(socket, u32::try_from(limit).unwrap_or(u32::MAX));
    }
}

/// Maximum of a receive after which there is usually no more, in bytes.
const LITTLE: usize = 4 << 10;

/// A connection of the client.
pub(super) struct ClientWire {
    socket: Socket,
    line: ClientLine,
    settings: FirstSettings,
    lanes: Lanes,
    server: Option<Authority>,
    turn: SendWrapper<Rc<Turn>>,
    /// Bytes of the last receive, if there may be more.
    received: usize,
    /// Counts the connection against `--max-outgoing`.
    _permit: Permit,
    _counted: Counted,
}

enum Socket {
    Plain(Plain),
    Tls(Box<TlsStream<BufReader<Plain>>>),
}

impl Socket {
    /// True if the server has agreed on HTTP/2.
    fn speaks_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

impl Connection for ClientWire {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.line.clone());
        match self.socket.speaks_http2() {
            true => connected.negotiated_h2(),
            false => connected,
        }
    }
}

impl ClientWire {
    /// Measures the held bytes if asked, and checks that the connection was not
    /// cut.
    ///
    /// # Errors
    /// Fails if the connection was cut.
    fn check(&self) -> io::Result<()> {
        self.line.tell_held(match &self.socket {
            Socket::Plain(stream) => stream,
            Socket::Tls(stream) => stream.get_ref().0.get_ref(),
        });
        self.line.check()
    }

    /// Notes how many streams the server takes, if that is what was received.
    fn note_streams(&mut self, received: &[u8]) {
        let Some(streams) = self.settings.take(received) else {
            return;
        };
        let streams = usize::try_from(streams).unwrap_or(usize::MAX);
        self.line.note_streams(streams);
        if let Some(server) = &self.server {
            self.lanes.note_streams(server, streams);
        }
    }
}

impl AsyncRead for ClientWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        let received = std::mem::take(&mut self.received);
        if received > 0 && self.turn.is_over(received) {
            // Hyper reads as long as there is something, for example endless
            // interim responses.
            self.line.keep(cx);
            self.turn.give_way(cx);
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        self.note_streams(buffer.filled().get(before..).unwrap_or_default());
        let received = buffer.filled().len().saturating_sub(before);
        if received > LITTLE {
            self.received = received;
        }
        if read.is_pending() {
            self.line.keep(cx);
        }
        read
    }
}

impl AsyncWrite for ClientWire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_write(cx, data),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, data),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
