//! Connections to hosts: addresses, proxies, TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use netwasm_net::{direct, trust};

use crate::error::Error;
use crate::proxies::{Proxies, Proxy, address, is_loopback};

/// Time limit of a connection, with all of its handshakes.
const CONNECT: Duration = Duration::from_secs(10);

/// Time in which a server on this machine says whether it speaks TLS.
const PROBE: Duration = Duration::from_secs(3);

/// Largest answer of a proxy to CONNECT, in bytes.
const ANSWER: usize = 16 << 10;

/// Place that requests are sent to: the scheme, host and port of URLs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) secure: bool,
    /// Host as URLs have it.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// Returns the origin of a URL; `None` if it has none of HTTP.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let (secure, port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return None,
        };
        Some(Self {
            secure,
            host: uri.host()?.to_ascii_lowercase(),
            port: uri.port_u16().unwrap_or(port),
        })
    }

    /// Returns the host, with the port unless it is that of the scheme.
    pub(crate) fn authority(&self) -> String {
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

/// A byte stream to a host.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to a host.
pub(crate) struct Connected {
    pub(crate) stream: Box<dyn Stream>,
    /// Header `Proxy-Authorization` of requests, which go to a proxy as they
    /// are; `Some(None)` if it wants none.
    pub(crate) forwarding: Option<Option<String>>,
}

/// Makes connections.
pub(crate) struct Connector {
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) proxies: Proxies,
    /// Hosts, with or without port, that speak plain HTTP.
    pub(crate) plain: Vec<String>,
}

impl Connector {
    /// True if plain HTTP to a host is allowed.
    pub(crate) fn may_be_plain(&self, host: &str, port: u16) -> bool {
        is_loopback(host) || self.is_plain(host, port)
    }

    fn is_plain(&self, host: &str, port: u16) -> bool {
        let with_port = format!("{host}:{port}");
        let named =
            |it: &String| it.eq_ignore_ascii_case(host) || it.eq_ignore_ascii_case(&with_port);
        self.plain.iter().any(named)
    }

    /// Returns where a registry is: `HOST` or `HOST:PORT`. One on this machine is
    /// asked whether it speaks TLS.
    pub(crate) async fn origin(&self, registry: &str) -> Result<Origin, Error> {
        let (host, port) = match registry.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
            _ => (registry, None),
        };
        let of = |secure: bool| Origin {
            secure,
            host: host.to_ascii_lowercase(),
            port: port.unwrap_or(if secure { 443 } else { 80 }),
        };
        if self.is_plain(host, port.unwrap_or(80)) {
            return Ok(of(false));
        }
        if !is_loopback(host) || port.is_none() {
            return Ok(of(true));
        }
        let secure = of(true);
        let stream = tcp(&secure.host, secure.port).await?;
        match timeout(PROBE, self.shake(&secure.host, stream)).await {
            Ok(Err(error)) if !is_certificate(&error) => Ok(of(false)),
            Err(_) => Ok(of(false)),
            _ => Ok(secure),
        }
    }

    /// Connects.
    pub(crate) async fn connect(&self, origin: &Origin) -> Result<Connected, Error> {
        let connected = timeout(CONNECT, self.connected(origin)).await;
        connected.unwrap_or_else(|_| {
            Err(Error::Away {
                host: origin.authority(),
                reason: format!("it does not take a connection within {CONNECT:?}"),
            })
        })
    }

    async fn connected(&self, origin: &Origin) -> Result<Connected, Error> {
        let Origin { secure, host, port } = origin;
        if !secure && !self.may_be_plain(host, *port) {
            return Err(Error::Plain(origin.authority()));
        }
        let proxy = self.proxies.to(*secure, host, *port);
        let stream: Box<dyn Stream> = match proxy {
            Some(proxy) => self.to_proxy(proxy).await?,
            None => Box::new(tcp(host, *port).await?),
        };
        let stream = match (proxy, secure) {
            (Some(proxy), true) => tunnel(stream, proxy, origin).await?,
            (Some(proxy), false) => {
                return Ok(Connected {
                    stream,
                    forwarding: Some(proxy.authorization.clone()),
                });
            }
            (None, _) => stream,
        };
        let stream: Box<dyn Stream> = match secure {
            true => {
                let secured = self.shake(host, stream).await;
                Box::new(secured.map_err(|error| of_tls(origin.authority(), &error))?)
            }
            false => stream,
        };
        Ok(Connected {
            stream,
            forwarding: None,
        })
    }

    async fn to_proxy(&self, proxy: &Proxy) -> Result<Box<dyn Stream>, Error> {
        let stream = tcp(&proxy.host, proxy.port).await?;
        if !proxy.secure {
            return Ok(Box::new(stream));
        }
        let host = format!("{}:{}", proxy.host, proxy.port);
        let secured = self.shake(&proxy.host, stream).await;
        Ok(Box::new(secured.map_err(|error| of_tls(host, &error))?))
    }

    /// Makes a TLS session.
    async fn shake<S: Stream>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>> {
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let name = ServerName::try_from(bare.unwrap_or(host).to_owned());
        let name = name.map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        connector.connect(name, stream).await
    }
}

/// Connects to one of the host's addresses, the first that answers.
async fn tcp(host: &str, port: u16) -> Result<TcpStream, Error> {
    let bare = address(host).map_or_else(|| host.to_owned(), |it| it.to_string());
    direct::connect(&bare, port)
        .await
        .map_err(|error| Error::Away {
            host: format!("{host}:{port}"),
            reason: error.to_string(),
        })
}

/// True if a handshake failed by a fault of the certificate, and so the server
/// speaks TLS.
fn is_certificate(error: &io::Error) -> bool {
    let reason = tls_error(error);
    reason.is_some_and(|it| !matches!(it, rustls::Error::InvalidMessage(_)))
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn of_tls(host: String, error: &io::Error) -> Error {
    match tls_error(error) {
        Some(error) => Error::Tls {
            host,
            reason: trust::describe(error).replace("--ca FILE", "--registry-ca FILE"),
        },
        None => Error::Away {
            host,
            reason: format!("the TLS handshake failed: {error}"),
        },
    }
}

/// Lets a proxy connect: CONNECT of RFC 9110, section 9.3.6.
async fn tunnel(
    mut stream: Box<dyn Stream>,
    proxy: &Proxy,
    origin: &Origin,
) -> Result<Box<dyn Stream>, Error> {
    let target = format!("{}:{}", origin.host, origin.port);
    let authorization = proxy.authorization.as_ref();
    let authorization = authorization.map_or_else(String::new, |value| {
        format!("proxy-authorization: {value}\r\n")
    });
    let away = |reason: String| Error::Away {
        host: origin.authority(),
        reason: format!("the proxy {}:{} {reason}", proxy.host, proxy.port),
    };
    let request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{authorization}\r\n");
    let failed = |error: io::Error| away(format!("fails: {error}"));
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    // Byte by byte: what follows belongs to the tunnel, which the client begins.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER {
            return Err(away("answers too much".into()));
        }
        answer.push(stream.read_u8().await.map_err(failed)?);
    }
    let answer = String::from_utf8_lossy(&answer);
    let line = answer.lines().next().unwrap_or_default();
    let status = line.split(' ').nth(1).unwrap_or_default();
    match (line.starts_with("HTTP/1."), status.len(), status.as_bytes()) {
        (true, 3, [b'2', ..]) => Ok(stream),
        (true, 3, b"407") => Err(Error::Setting(format!(
            "the proxy {}:{} wants a login: write it into the variable, as in \
             http://USER:PASSWORD@{}:{}",
            proxy.host, proxy.port, proxy.host, proxy.port
        ))),
        _ => Err(away(format!("answers '{}'", line.escape_debug()))),
    }
}
