//! A client of HTTP/2 (RFC 9113).
//!
//! Each connection has a thread, on which all its requests run. The test only
//! waits for their results.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Uri};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Message, Request, Response, value};
use crate::log::Log;
use crate::tls::{self, Settings};

/// Bytes that a response, and all of a connection, may have under way.
const WINDOW: u32 = 1 << 20;

/// Time to end a connection in order.
const FAREWELL: Duration = Duration::from_secs(1);

/// A client of the HTTP or HTTPS listener that speaks HTTP/2: over TCP at once
/// (prior knowledge), over TLS by ALPN.
///
/// It keeps one connection open for all its requests. [`Request::start`] sends a
/// request and does not wait for the response, so that several are under way at
/// once. If the connection has ended, the next request opens another one. Every
/// request has the server's time limit ([`crate::Component::time_limit`], 10
/// seconds by default) for each step: until the head of the response, and for
/// its body.
///
/// Names of headers are in lower case in requests and responses.
pub struct Http2Client {
    server: SocketAddr,
    secure: bool,
    connection: Option<Arc<Connection>>,
    limit: Duration,
    log: Log,
}

impl Http2Client {
    simple_requests!();

    /// Begins a request of any method, for headers of its own.
    pub fn request(&mut self, method: &str, target: &str) -> Request<'_, Self> {
        Request::new(self, method, target)
    }

    pub(crate) fn new(server: SocketAddr, secure: bool, limit: Duration, log: &Log) -> Self {
        Self {
            server,
            secure,
            connection: None,
            limit,
            log: log.clone(),
        }
    }

    /// Returns the connection, or a new one if there is none.
    fn connection(&mut self) -> Result<Arc<Connection>, String> {
        let open = self.connection.take().filter(|it| !it.has_ended());
        let connection = match open {
            Some(connection) => connection,
            None => Arc::new(Connection::open(self.server, self.secure, self.limit)?),
        };
        self.connection = Some(Arc::clone(&connection));
        Ok(connection)
    }

    fn start(&mut self, message: Message) -> Result<Pending, String> {
        let head = head(&message, self.server, self.secure)?;
        let body = message.body.clone().map(Bytes::from);
        let connection = self.connection()?;
        let (tell, result) = mpsc::sync_channel(1);
        let requests = connection
            .requests
            .clone()
            .ok_or("the connection is closed")?;
        let exchange = exchange(requests, head, body, self.limit);
        let task = connection.runtime.spawn(async move {
            // Nobody waits if the test has dropped it.
            let _ = tell.send(exchange.await);
        });
        Ok(Pending {
            message,
            result,
            task,
            log: self.log.clone(),
            _connection: connection,
        })
    }
}

impl fmt::Debug for Http2Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Http2Client")
            .field("server", &self.server)
            .field("secure", &self.secure)
            .finish_non_exhaustive()
    }
}

impl Request<'_, Http2Client> {
    /// Sends the request, and receives the response to its end.
    ///
    /// # Panics
    /// Panics if the server cannot be reached, if it resets the stream or ends
    /// the connection, or if the response does not come within the time limit.
    #[track_caller]
    #[must_use]
    pub fn send(self) -> Response {
        self.start().response()
    }

    /// Sends the request, and does not wait for the response.
    ///
    /// # Panics
    /// Panics if the server cannot be reached, or if the request cannot be one of
    /// HTTP/2.
    #[track_caller]
    #[must_use = "dropping it cancels the request"]
    pub fn start(self) -> Pending {
        match self.client.start(self.message.clone()) {
            Ok(pending) => pending,
            Err(fault) => self.message.fail(&fault, &self.client.log),
        }
    }
}

/// A request whose response may still be under way. Dropping it resets the
/// stream, as a client that does not want the response any more.
#[derive(Debug)]
pub struct Pending {
    message: Message,
    result: mpsc::Receiver<Result<Response, String>>,
    task: JoinHandle<()>,
    log: Log,
    _connection: Arc<Connection>,
}

impl Pending {
    /// Waits for the response.
    ///
    /// # Panics
    /// Panics if the server resets the stream or ends the connection, or if the
    /// response does not come within the time limit.
    #[track_caller]
    #[must_use]
    pub fn response(self) -> Response {
        match self.result.recv() {
            Ok(Ok(response)) => {
                self.message.note(&response, &self.log);
                response
            }
            Ok(Err(fault)) => self.message.fail(&fault, &self.log),
            Err(mpsc::RecvError) => self.message.fail("the client's thread ended", &self.log),
        }
    }

    /// True if [`Self::response`] need not wait.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection, and the thread that runs it. Dropping it says GOAWAY, and waits
/// for the end of its streams.
struct Connection {
    /// `None` once the connection is dropped.
    requests: Option<SendRequest<Bytes>>,
    /// The runtime of the thread.
    runtime: Handle,
    driver: AbortHandle,
    /// Ends the thread when it is dropped.
    running: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Connection {
    fn open(server: SocketAddr, secure: bool, limit: Duration) -> Result<Self, String> {
        let scheme = scheme(secure);
        let failed = |fault: String| format!("{scheme} {server}: {fault}");
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let handle = runtime.handle().clone();
        let (running, stopped) = oneshot::channel();
        let (tell, connected) = mpsc::sync_channel(1);
        // The thread, as the test may have a runtime of its own.
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let connected = timeout(limit, connect(server, secure)).await;
                match connected {
                    Ok(Ok((requests, driver))) => {
                        let driver = tokio::spawn(driver);
                        let _ = tell.send(Ok((requests, driver.abort_handle())));
                        let _ = stopped.await;
                        let _ = timeout(FAREWELL, driver).await;
                    }
                    Ok(Err(fault)) => {
                        let _ = tell.send(Err(fault));
                    }
                    Err(_elapsed) => {
                        let _ = tell.send(Err(format!("no connection within {limit:?}")));
                    }
                }
            });
        });
        let (requests, driver) = connected
            .recv()
            .unwrap_or_else(|_| Err("the client's thread ended".to_owned()))
            .map_err(failed)?;
        Ok(Self {
            requests: Some(requests),
            runtime: handle,
            driver,
            running: Some(running),
            thread: Some(thread),
        })
    }

    fn has_ended(&self) -> bool {
        self.driver.is_finished()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("ended", &self.has_ended())
            .finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The driver ends once nobody can make requests any more.
        self.requests = None;
        self.running = None;
        if let Some(thread) = self.thread.take() {
            // A panic was printed.
            let _ = thread.join();
        }
    }
}

/// A byte stream below HTTP/2.
trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Connects, and exchanges the prefaces. The second value runs the connection.
async fn connect(
    server: SocketAddr,
    secure: bool,
) -> Result<(SendRequest<Bytes>, impl Future<Output = ()>), String> {
    let stream = TcpStream::connect(server)
        .await
        .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        .and_then(twice)
        .map_err(|error| format!("cannot connect: {error}"));
    let (stream, mut rest) = stream?;
    let stream: Box<dyn ByteStream> = if secure {
        Box::new(handshake(stream).await?)
    } else {
        Box::new(stream)
    };
    let (requests, connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(stream)
        .await
        .map_err(|error| format!("no HTTP/2: {error}"))?;
    let driver = async move {
        // Each request notices the error, too.
        let _ = connection.await;
        // A socket that is closed with unread input resets its connection.
        let mut buffer = [0; 4096];
        while rest.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    Ok((requests, driver))
}

/// Returns a connection with another descriptor of it, which stays open after it.
fn twice(stream: TcpStream) -> io::Result<(TcpStream, TcpStream)> {
    let stream = stream.into_std()?;
    let other = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, TcpStream::from_std(other)?))
}

/// Completes the handshake of TLS, which has to choose HTTP/2.
async fn handshake(stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    let settings = Settings {
        alpn: &["h2"],
        certificate: None,
    };
    let name = tls::server_name().map_err(|error| error.to_string())?;
    let config = settings.config().map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| format!("the handshake failed: {error}"))?;
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Ok(stream),
        other => Err(format!(
            "the handshake did not choose h2, but {:?}",
            other.map(String::from_utf8_lossy)
        )),
    }
}

fn scheme(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}

/// Returns the head of a request.
fn head(message: &Message, server: SocketAddr, secure: bool) -> Result<http::Request<()>, String> {
    let local = format!("localhost:{}", server.port());
    let authority = value(&message.headers, "Host").unwrap_or(&local);
    let uri = Uri::builder()
        .scheme(scheme(secure))
        .authority(authority)
        .path_and_query(message.target.as_str())
        .build()
        .map_err(|error| format!("the target cannot be sent: {error}"))?;
    let mut head = http::Request::builder()
        .method(message.method.as_str())
        .uri(uri);
    if let Some(body) = &message.body
        && !message.has("Content-Length")
    {
        head = head.header("content-length", body.len());
    }
    let headers = message.headers.iter();
    for (name, value) in headers.filter(|(name, _)| !name.eq_ignore_ascii_case("Host")) {
        head = head.header(name, value);
    }
    head.body(())
        .map_err(|error| format!("the request cannot be sent: {error}"))
}

/// Sends a request, and receives the response to its end.
async fn exchange(
    requests: SendRequest<Bytes>,
    head: http::Request<()>,
    body: Option<Bytes>,
    limit: Duration,
) -> Result<Response, String> {
    let (sending, receiving) = timeout(limit, begin(requests, head, body))
        .await
        .unwrap_or_else(|_| Err(format!("no response within {limit:?}")))?;
    let response = timeout(limit, finish(receiving))
        .await
        .unwrap_or_else(|_| Err(format!("no end of the body within {limit:?}")));
    drop(sending);
    response
}

/// Sends a request, and receives the head of the response. The body may still be
/// on its way: the server may answer before it has taken all.
async fn begin(
    requests: SendRequest<Bytes>,
    head: http::Request<()>,
    body: Option<Bytes>,
) -> Result<(Option<Sending>, http::Response<RecvStream>), String> {
    let fault = |error: h2::Error| error.to_string();
    let mut requests = requests.ready().await.map_err(fault)?;
    let (response, stream) = requests
        .send_request(head, body.is_none())
        .map_err(|error| format!("the request cannot be sent: {error}"))?;
    // It would keep the connection open.
    drop(requests);
    let sending = body.map(|body| Sending(tokio::spawn(send(stream, body))));
    let response = response.await.map_err(fault)?;
    Ok((sending, response))
}

/// Receives what follows the head of a response.
async fn finish(response: http::Response<RecvStream>) -> Result<Response, String> {
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    let cut =
        |error: h2::Error, length: usize| format!("the body ended after {length} bytes: {error}");
    while let Some(piece) = stream.data().await {
        let piece = piece.map_err(|error| cut(error, body.len()))?;
        body.extend_from_slice(&piece);
        // Fails if the stream has ended, which the next piece tells.
        let _ = stream.flow_control().release_capacity(piece.len());
    }
    let trailers = stream.trailers().await;
    let trailers = trailers.map_err(|error| cut(error, body.len()))?;
    Ok(Response {
        status: head.status.as_u16(),
        headers: owned(&head.headers),
        body,
        trailers: owned(&trailers.unwrap_or_default()),
    })
}

/// A body that is being sent, until it is dropped.
struct Sending(JoinHandle<()>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a body as the server takes it. If the stream ends before, so does the
/// response, or it is there already.
async fn send(mut stream: SendStream<Bytes>, mut body: Bytes) {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let capacity = poll_fn(|context| stream.poll_capacity(context)).await;
        let Some(Ok(room)) = capacity else { return };
        let piece = body.split_to(room.min(body.len()));
        if stream.send_data(piece, body.is_empty()).is_err() {
            return;
        }
    }
}

fn owned(fields: &HeaderMap) -> Vec<(String, String)> {
    fields
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect()
}
