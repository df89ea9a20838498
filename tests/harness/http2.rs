//! HTTP/2 clients: a well-behaved one by the `h2` crate, and functions that
//! send and receive single frames.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, RecvStream, SendStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::{Client, DEADLINE, Peer, Response};

/// A connection by the `h2` crate.
pub(crate) struct Http2 {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    pings: Option<PingPong>,
}

impl Http2 {
    /// Connects with prior knowledge of HTTP/2.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::with(address, &settings())
    }

    /// Like [`Self::connect`], with other settings.
    pub(crate) fn with(address: SocketAddr, settings: &client::Builder) -> Self {
        let runtime = runtime();
        let stream = runtime.block_on(TcpStream::connect(address));
        let stream = stream.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Self::over(runtime, stream, settings)
    }

    /// Connects over TLS, and negotiates HTTP/2 by ALPN.
    pub(crate) fn secure(address: SocketAddr) -> Self {
        let config = Client::of("localhost").alpn("h2").config();
        let name = "localhost".try_into().expect("a name");
        let runtime = runtime();
        let stream = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("a connection");
            let connector = tokio_rustls::TlsConnector::from(config);
            connector.connect(name, stream).await.expect("a session")
        });
        Self::over(runtime, stream, &settings())
    }

    fn over(
        runtime: Runtime,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        settings: &client::Builder,
    ) -> Self {
        let made = runtime.block_on(settings.handshake(stream));
        let (sender, mut connection) = made.expect("a connection of HTTP/2");
        let pings = connection.ping_pong();
        let connection = runtime.spawn(connection);
        Self {
            runtime,
            sender,
            connection,
            pings,
        }
    }

    /// Runs a future beside the connection, under the deadline.
    #[track_caller]
    pub(crate) fn run<T>(&self, what: impl Future<Output = T>) -> T {
        let what = async { tokio::time::timeout(DEADLINE, what).await };
        self.runtime.block_on(what).expect("it happens in time")
    }

    /// Waits until the server has read everything sent so far.
    #[track_caller]
    pub(crate) fn settle(&mut self) {
        // A PING (RFC 9113, section 6.7) is answered after what was sent before
        // it.
        let mut pings = self.pings.take().expect("there is only one");
        let answered = async {
            // The frames of streams go out first, then the ping.
            tokio::task::yield_now().await;
            pings.ping(Ping::opaque()).await
        };
        self.run(answered).expect("a PONG");
        self.pings = Some(pings);
    }

    /// Pauses as a slow client does, while the connection goes on. To wait for
    /// the server, use [`Self::settle`].
    pub(crate) fn rest(&self, time: Duration) {
        self.runtime
            .block_on(async { tokio::time::sleep(time).await });
    }

    /// Sends the head of a request, and ends the stream if `ends`.
    pub(crate) fn begin(
        &mut self,
        request: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let sender = self.sender.clone();
        let mut sender = self.run(sender.ready())?;
        sender.send_request(request, ends)
    }

    /// Sends a request and reads its response.
    pub(crate) fn try_exchange(
        &mut self,
        request: Request<()>,
        body: &[u8],
    ) -> Result<Response, h2::Error> {
        let (response, mut stream) = self.begin(request, body.is_empty())?;
        let body = Bytes::copy_from_slice(body);
        let send = async {
            if !body.is_empty() {
                let _ = send_all(&mut stream, body, true).await;
            }
        };
        self.run(async { tokio::join!(read(response), send).0 })
    }

    /// Like [`Self::try_exchange`], but panics on an error.
    #[track_caller]
    pub(crate) fn exchange(&mut self, request: Request<()>, body: &[u8]) -> Response {
        self.try_exchange(request, body).expect("a response")
    }

    #[track_caller]
    pub(crate) fn fetch(&mut self, target: &str) -> Response {
        self.exchange(ask("GET", target), b"")
    }

    /// Sends `count` requests at once, and reads all responses.
    #[track_caller]
    pub(crate) fn fetch_at_once(&mut self, target: &str, count: usize) -> Vec<Response> {
        let sender = &self.sender;
        let one = async || {
            let mut sender = sender.clone().ready().await?;
            let (response, _) = sender.send_request(ask("GET", target), true)?;
            read(response).await
        };
        let all = futures_util::future::join_all((0..count).map(|_| one()));
        let all = self.run(all);
        all.into_iter().map(|it| it.expect("a response")).collect()
    }

    /// Waits for the end of the connection.
    #[track_caller]
    pub(crate) fn ends(self) -> Result<(), h2::Error> {
        let Self {
            runtime,
            sender,
            connection,
            ..
        } = self;
        let ended = runtime.block_on(async { tokio::time::timeout(DEADLINE, connection).await });
        drop(sender);
        ended.expect("an end in time").expect("its task")
    }
}

/// Returns the settings of a client that opens at most 100 streams before it
/// knows the server's limit, as most clients do.
pub(crate) fn settings() -> client::Builder {
    let mut settings = client::Builder::new();
    settings.initial_max_send_streams(100);
    settings
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

/// Returns a request without a body.
pub(crate) fn ask(method: &str, target: &str) -> Request<()> {
    let request = Request::builder().method(method);
    let request = request.uri(format!("http://localhost{target}"));
    request.body(()).expect("a request")
}

/// Reads a response to its end.
pub(crate) async fn read(response: ResponseFuture) -> Result<Response, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let all = read_body(&mut body).await?;
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok(Response {
        status: head.status.as_u16(),
        headers: fields(&head.headers),
        body: all,
        trailers: fields(&trailers),
    })
}

async fn read_body(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        all.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    Ok(all)
}

/// Sends bytes as fast as flow control allows.
pub(crate) async fn send_all(
    stream: &mut SendStream<Bytes>,
    mut bytes: Bytes,
    ends: bool,
) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let Some(room) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else {
            return Ok(());
        };
        let piece = bytes.split_to(room?.min(bytes.len()));
        let last = ends && bytes.is_empty();
        stream.send_data(piece, last)?;
    }
    Ok(())
}

fn fields(map: &http::HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect()
}

/// The client's connection preface.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Frame flags.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// HPACK of `:method GET`, `:scheme http`, `:path /`, `:authority localhost`.
pub(crate) const GET: &[u8] = b"\x82\x86\x84\x01\x09localhost";

/// Like [`GET`], with `:method POST`.
pub(crate) const POST: &[u8] = b"\x83\x86\x84\x01\x09localhost";

/// Encodes a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length");
    let [_, high, middle, low] = length.to_be_bytes();
    let mut frame = vec![high, middle, low, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Encodes a field in HPACK, as a literal that is not indexed.
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        field.push(u8::try_from(text.len()).expect("a short one"));
        field.extend(text.as_bytes());
    }
    field
}

/// A received frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Returns the error code of a GOAWAY or RST_STREAM.
    pub(crate) fn code(&self) -> u32 {
        let code = match self.kind {
            GOAWAY => self.payload.get(4..8),
            _ => self.payload.get(..4),
        };
        let code = code.expect("a code").try_into().expect("four bytes");
        u32::from_be_bytes(code)
    }
}

/// Sends the preface and empty SETTINGS.
pub(crate) fn begin(peer: &mut Peer<impl Read + Write>) {
    peer.send(PREFACE);
    peer.send(&frame(SETTINGS, 0, 0, b""));
}

/// Receives the next frame.
pub(crate) fn next_frame(peer: &mut Peer<impl Read + Write>) -> Frame {
    let head = peer.take(9);
    let number = |part: &[u8]| part.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    let length = number(head.get(..3).expect("a length"));
    Frame {
        kind: *head.get(3).expect("a kind"),
        flags: *head.get(4).expect("flags"),
        stream: number(head.get(5..).expect("a stream")),
        payload: peer.take(length as usize),
    }
}

/// Receives frames up to the next one of a kind, and returns that one.
pub(crate) fn next_of(peer: &mut Peer<impl Read + Write>, kind: u8) -> Frame {
    loop {
        let frame = next_frame(peer);
        if frame.kind == kind {
            return frame;
        }
    }
}
