//! Requests and responses over kept connections, each with its time limit.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderName};
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::connect::{Connected, Connector, Origin};
use crate::error::Error;

/// Time limit of a response's head.
const HEAD: Duration = Duration::from_secs(30);

/// Longest time without a byte of a response's body.
const SILENCE: Duration = Duration::from_secs(30);

/// Slowest sending of a body: this many bytes are a second more for the head.
const SLOWEST: usize = 64 << 10;

/// Buffer of a connection in bytes: the largest head, and most of one read.
const BUFFER: usize = 512 << 10;

/// A request.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

/// Sends requests.
pub(crate) struct Transport {
    pub(crate) connector: Connector,
    /// Connections without a request at present.
    kept: RefCell<HashMap<Origin, Kept>>,
}

/// A connection.
struct Kept {
    sender: SendRequest<Full<Bytes>>,
    forwarding: Option<Option<String>>,
}

/// A response, whose body is still to be read.
pub(crate) struct Answer {
    pub(crate) origin: Origin,
    pub(crate) response: Response<Incoming>,
    connection: Kept,
}

impl Transport {
    pub(crate) fn new(connector: Connector) -> Self {
        Self {
            connector,
            kept: RefCell::default(),
        }
    }

    /// Sends a request.
    pub(crate) async fn send(&self, outgoing: &Outgoing) -> Result<Answer, Error> {
        let origin = Origin::of(&outgoing.uri)
            .ok_or_else(|| Error::Setting(format!("{} is no URL of HTTP", outgoing.uri)))?;
        let kept = self.kept.borrow_mut().remove(&origin);
        if let Some(mut kept) = kept
            && kept.sender.ready().await.is_ok()
        {
            match Self::exchange(kept, &origin, outgoing).await {
                // The registry has closed it meanwhile.
                Err((_, true)) => {}
                answer => return answer.map_err(|(error, _)| error),
            }
        }
        let Connected { stream, forwarding } = self.connector.connect(&origin).await?;
        let away = |reason: String| Error::Away {
            host: origin.authority(),
            reason,
        };
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| away(error.to_string()))?;
        // Its errors are those of the request.
        tokio::spawn(connection);
        let answer = Self::exchange(Kept { sender, forwarding }, &origin, outgoing).await;
        answer.map_err(|(error, _)| error)
    }

    /// Sends a request. With an error comes true if the connection was closed
    /// before an answer.
    async fn exchange(
        mut connection: Kept,
        origin: &Origin,
        outgoing: &Outgoing,
    ) -> Result<Answer, (Error, bool)> {
        let away = |reason: String| Error::Away {
            host: origin.authority(),
            reason,
        };
        let target = match &connection.forwarding {
            Some(_) => Some(outgoing.uri.clone()),
            None => outgoing
                .uri
                .path_and_query()
                .map(|it| Uri::from(it.clone())),
        };
        let mut request = Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = outgoing.method.clone();
        *request.uri_mut() = target.unwrap_or_default();
        let headers = request.headers_mut();
        headers.extend(outgoing.headers.iter().cloned());
        let wrong = |_| {
            (
                Error::Setting(format!("{} is not a host", origin.host)),
                false,
            )
        };
        let host = HeaderValue::try_from(origin.authority()).map_err(wrong)?;
        headers.insert(HOST, host);
        headers.insert(
            http::header::USER_AGENT,
            HeaderValue::from_static(concat!("netwasm/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(Some(authorization)) = &connection.forwarding
            && let Ok(value) = HeaderValue::try_from(authorization)
        {
            headers.insert(http::header::PROXY_AUTHORIZATION, value);
        }
        let sending = outgoing.body.len() / SLOWEST;
        let limit = HEAD + Duration::from_secs(sending as u64);
        let response = timeout(limit, connection.sender.send_request(request)).await;
        let response = response
            .map_err(|_| (away(format!("it does not answer within {limit:?}")), false))?
            .map_err(|error| {
                let closed = error.is_canceled() || error.is_incomplete_message();
                (away(told(&error)), closed)
            })?;
        Ok(Answer {
            origin: origin.clone(),
            response,
            connection,
        })
    }

    /// Passes the body on in pieces, at most so many bytes. Returns the number.
    ///
    /// # Errors
    /// Fails if it is cut off, stalls, or is longer.
    pub(crate) async fn read(
        &self,
        answer: Answer,
        most: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let Answer {
            origin,
            response,
            connection,
        } = answer;
        let away = |reason: String| Error::Away {
            host: origin.authority(),
            reason,
        };
        let mut body = response.into_body();
        let mut size = 0;
        loop {
            let frame = timeout(SILENCE, body.frame()).await;
            let frame = frame.map_err(|_| away(format!("it sent nothing for {SILENCE:?}")))?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| away(told(&error)))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            size += data.len() as u64;
            if size > most {
                return Err(Error::TooLarge {
                    what: format!("an answer of the registry {}", origin.authority()),
                    size,
                    most,
                    flag: "",
                });
            }
            take(&data)?;
        }
        self.kept.borrow_mut().insert(origin, connection);
        Ok(size)
    }

    /// Reads a body into memory.
    pub(crate) async fn read_all(&self, answer: Answer, most: u64) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        self.read(answer, most, |bytes| {
            all.extend_from_slice(bytes);
            Ok(())
        })
        .await?;
        Ok(all)
    }
}

/// Returns an error with its causes.
fn told(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
