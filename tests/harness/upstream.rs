//! Upstreams for HTTP clients, in the test's own process. In one, the test
//! decides the answers, byte for byte; the others speak TLS, or HTTP/2.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;

use super::{DEADLINE, server_config};

/// The server. It serves until the process ends.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// Starts a server that passes each connection to `serve`, with its number
    /// from 1.
    pub(crate) fn new(serve: impl Fn(Asker, usize) + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", serve)
    }

    /// Like [`Self::new`], at an address.
    pub(crate) fn at(address: &str, serve: impl Fn(Asker, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("a port");
        let address = listener.local_addr().expect("its address");
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, serve) = (Arc::clone(&connections), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(Asker::new(stream), number));
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// Starts a server that answers every request with the bytes of `answer`.
    pub(crate) fn answering(answer: &'static str) -> Self {
        Self::new(move |mut asker, _| {
            while asker.head().is_some() {
                asker.say(answer);
            }
        })
    }

    /// Returns the number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Returns the URL of a path, which begins with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// A TLS server with the test's certificate for `localhost`. It serves until the
/// process ends.
pub(crate) struct SecureUpstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

/// A connection to it.
pub(crate) type Secured = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

/// Answers the requests of a connection, by the version of HTTP that was agreed on,
/// until the client closes it.
pub(crate) async fn serve_agreed<F, B, E>(
    stream: Secured,
    answer: impl Fn(Request<Incoming>) -> F + Send + 'static,
) where
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
{
    let by_two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let (stream, service) = (TokioIo::new(stream), service_fn(answer));
    let _ = match by_two {
        true => {
            let server = http2::Builder::new(TokioExecutor::new());
            server.serve_connection(stream, service).await
        }
        false => {
            let server = http1::Builder::new();
            server.serve_connection(stream, service).await
        }
    };
}

impl SecureUpstream {
    /// Starts a server that agrees on a protocol, and passes each connection to
    /// `serve`.
    pub(crate) fn new<F>(
        protocols: &[&str],
        serve: impl Fn(Secured) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::of(server_config("cert.pem", "key.pem", protocols), serve)
    }

    /// Like [`Self::new`], with this configuration.
    pub(crate) fn of<F>(
        config: ServerConfig,
        serve: impl Fn(Secured) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let serve = Arc::new(serve);
        let (address, connections) = self::serve("127.0.0.1:0", move |stream| {
            let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream).await;
                }
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// Returns the number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Returns the URL of a path, which begins with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }
}

/// A server of HTTP/2 with prior knowledge. It serves until the process ends.
pub(crate) struct Http2Upstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Http2Upstream {
    /// Starts a server at an address, which has each request answered by
    /// `answer`.
    pub(crate) fn at<F>(
        address: &str,
        settings: h2::server::Builder,
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let answer = Arc::new(answer);
        let (address, connections) = serve(address, move |stream| {
            let (settings, answer) = (settings.clone(), Arc::clone(&answer));
            async move {
                let mut connection = settings.handshake(stream).await.expect("HTTP/2");
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(answer(request, respond));
                }
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// Returns the number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Serves connections to an address by `serve` until the process ends. Returns
/// the address and the number of the connections.
fn serve<F>(
    address: &str,
    serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).expect("a port");
    let set = listener.set_nonblocking(true);
    set.expect("a listener for tokio");
    let address = listener.local_addr().expect("its address");
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
    });
    (address, connections)
}

/// A connection from a client.
pub(crate) struct Asker(BufReader<TcpStream>);

impl Asker {
    fn new(stream: TcpStream) -> Self {
        let set = stream.set_read_timeout(Some(DEADLINE));
        set.expect("a deadline");
        Self(BufReader::new(stream))
    }

    /// Receives the head of the next request. Returns `None` at the end.
    pub(crate) fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        loop {
            let length = self.0.read_line(&mut head).ok()?;
            if length == 0 {
                return None;
            }
            if head.ends_with("\r\n\r\n") {
                return Some(head);
            }
        }
    }

    /// Sends bytes. Returns false if the connection fails.
    pub(crate) fn say(&mut self, answer: impl AsRef<[u8]>) -> bool {
        self.0.get_mut().write_all(answer.as_ref()).is_ok()
    }

    /// Receives up to `count` bytes, and returns the number that came.
    pub(crate) fn take(&mut self, count: usize) -> usize {
        let taken = std::io::copy(
            &mut self.0.by_ref().take(count as u64),
            &mut std::io::sink(),
        );
        taken.map_or(0, |taken| usize::try_from(taken).unwrap_or_default())
    }

    /// Receives `count` bytes.
    pub(crate) fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).expect("a body");
        bytes
    }

    /// Receives a chunked body and its trailers, and returns the body's length,
    /// or 0 if it is incomplete.
    pub(crate) fn take_chunks(&mut self) -> usize {
        let mut length = 0;
        loop {
            let mut line = String::new();
            let _ = self.0.read_line(&mut line);
            let Ok(size) = usize::from_str_radix(line.trim_end(), 16) else {
                return 0;
            };
            if size == 0 {
                while self.0.read_line(&mut line).is_ok_and(|count| count > 2) {}
                return length;
            }
            // The CRLF after the chunk is taken, too.
            if self.take(size + 2) != size + 2 {
                return 0;
            }
            length += size;
        }
    }

    /// Receives everything up to the client's end of the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = self.0.read_to_end(&mut rest);
        rest
    }
}
